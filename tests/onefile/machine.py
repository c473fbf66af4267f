"""A machine with nothing but a shell, tar, gzip, a few other commands of busybox and the libraries of glibc."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_COMMANDS = ("sh", "tar", "gzip", "tail", "sha256sum", "mktemp", "mkdir", "rm")
_GLIBC = (
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
    "libresolv.so.2",
)
_USER_ID = 1000
_ENTER = """
set -eu
root=$1 user=$2 read_only=$3
shift 3
mount --make-rprivate /
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
if [ -n "$read_only" ]; then
    mount --bind "$root$read_only" "$root$read_only"
    mount -o remount,bind,ro "$root$read_only"
fi
exec env -i HOME=/home/ada PATH=/bin "$(command -v chroot)" --userspec="$user:$user" "$root" "$@"
"""


class Machine:
    """A root file system, entered as a normal user with next to no environment."""

    def __init__(self, root: Path, program: Path) -> None:
        """Fill ``root``, and put the program there as ``/purveyor``."""
        self.root = root
        for folder in ("bin", "dev", "proc", "etc", "tmp", "home/ada"):
            (root / folder).mkdir(parents=True)
        root.chmod(0o755)
        (root / "tmp").chmod(0o1777)
        os.chown(root / "home/ada", _USER_ID, _USER_ID)
        (root / "etc/passwd").write_text(f"ada:x:{_USER_ID}:{_USER_ID}::/home/ada:/bin/sh\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        busybox = shutil.which("busybox")
        assert busybox, "scripts/test-release installs busybox-static"
        shutil.copy(busybox, root / "bin/busybox")
        for name in _COMMANDS:
            (root / "bin" / name).symlink_to("busybox")
        _copy_glibc(root)
        shutil.copy(program, root / "purveyor")

    def command(self, *arguments: str, read_only: str = "") -> tuple[str, ...]:
        """Enter the machine and run the program there. The folder ``read_only`` is mounted so."""
        enter = ("unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self.root), str(_USER_ID), read_only)
        return (*enter, "/purveyor", *arguments)


def _copy_glibc(root: Path) -> None:
    """Copy the loader and the libraries to the paths that they have here."""
    listed = subprocess.run(["ldd", sys.executable], capture_output=True, text=True, check=True).stdout
    (loader,) = map(Path, re.findall(r"^\s*(/\S*/ld-linux\S*)", listed, re.MULTILINE))
    (libc,) = map(Path, re.findall(r"libc\.so\.6 => (\S+)", listed))
    for file in (loader, *(libc.with_name(name) for name in _GLIBC)):
        copy = root / file.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
