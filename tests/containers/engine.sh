# Runs namespaces.sh in namespaces of its own, and when it has ended, even by SIGKILL, takes away what the
# kernel keeps: the bridges of its networks and its control groups.
#
#   sh engine.sh ROOT ENGINE CHECKOUT CGROUP

set -u

cgroup=$4

bridges() { find /sys/class/net -name 'br-*' -printf '%f\n' | sort; }

before=$(bridges)
unshare --mount --pid --fork --kill-child sh "$(dirname -- "$0")/namespaces.sh" "$@"
code=$?
bridges | grep -vxF -e "${before:-none}" | while read -r bridge; do ip link delete "$bridge"; done
find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} \;
exit "$code"
