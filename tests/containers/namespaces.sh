# Makes a Debian root file system the root of these mount and process namespaces, and becomes its dockerd.
#
#   unshare --mount --pid --fork sh namespaces.sh ROOT ENGINE CHECKOUT CGROUP
#
# ENGINE (the engine's data and socket) is /engine inside; CHECKOUT has the same path inside as outside.

set -eu

root=$1 engine=$2 checkout=$3 cgroup=$4

mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mkdir -p "$root/engine" "$root/outside" "$root$checkout"
mount --bind "$engine" "$root/engine"
mount --bind "$checkout" "$root$checkout"
cat /etc/resolv.conf >"$root/etc/resolv.conf"

# Not chroot: runc, which starts the containers, must be able to change the root once more.
cd -- "$root"
pivot_root . outside
umount --lazy /outside

exec dockerd --data-root /engine/data --exec-root /engine/exec --pidfile /engine/dockerd.pid \
    --host unix:///engine/docker.sock --cgroup-parent "/$cgroup" \
    --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --default-address-pool base=10.202.0.0/16,size=24
