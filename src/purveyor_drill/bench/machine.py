"""CPU time and memory of processes, what the rest of the machine does, and the kind of a folder's disk (Linux)."""

import os
from collections.abc import Mapping
from pathlib import Path

from purveyor_drill.servers import process_tree

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
IN_MEMORY = ("tmpfs", "ramfs")


def trees(roots: Mapping[str, int]) -> dict[str, list[int]]:
    """The processes of each part: its first process and the descendants, without those of other parts."""
    members = {name: process_tree.members(root) for name, root in roots.items()}
    return {
        name: [pid for pid in pids if not any(_inside(pid, other, name, members, roots) for other in roots)]
        for name, pids in members.items()
    }


def _inside(pid: int, other: str, name: str, members: Mapping[str, list[int]], roots: Mapping[str, int]) -> bool:
    """Return whether a process belongs to another part whose first process is a descendant of this one's."""
    return other != name and pid in members[other] and roots[other] in members[name]


def cpu_s(roots: Mapping[str, int]) -> dict[str, float]:
    """The CPU seconds of each part so far, including those of its processes that have ended."""
    return {name: sum(map(_cpu_s, pids)) for name, pids in trees(roots).items()}


def _cpu_s(pid: int) -> float:
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended: its parent has the time
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS_PER_S  # utime, stime and those of children, proc(5)


def busy_s() -> float:
    """The CPU seconds of the whole machine since its start, without idle and waiting (proc(5))."""
    user, nice, system, _, _, interrupts, soft, *_ = map(int, (_PROC / "stat").read_text().split()[1:9])
    return (user + nice + system + interrupts + soft) / _TICKS_PER_S


def memory_mb(roots: Mapping[str, int]) -> dict[str, float]:
    """The memory of each part: proportional set size, so that shared pages count once."""
    return {name: sum(map(_memory_mb, pids)) for name, pids in trees(roots).items()}


def _memory_mb(pid: int) -> float:
    try:
        rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0.0
    kilobytes = next((line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")), "0")
    return int(kilobytes) * 1024 / 1e6


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, such as ``ext4``; empty if it is not known."""
    best, found = "", ""
    path = f"{folder.resolve()}/"
    try:
        mounts = (_PROC / "mounts").read_text().splitlines()
    except OSError:
        return ""
    for mount in mounts:
        _, place, kind, *_ = mount.split()
        if path.startswith(f"{place.rstrip('/')}/") and len(place) >= len(best):
            best, found = place, kind
    return found
