"""Signals to a process and its descendants."""

import contextlib
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")


def parents() -> dict[int, int]:
    """Every living process and its parent; a zombie counts as dead."""
    if (_PROC / "self" / "stat").exists():
        rows = [_proc_row(entry) for entry in _PROC.iterdir() if entry.name.isdigit()]
    else:
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,stat=,ppid="], capture_output=True, text=True, check=True
        )
        rows = [line.split() for line in listing.stdout.splitlines()]
    return {int(pid): int(parent) for pid, state, parent in filter(None, rows) if state[0] not in "ZX"}


def _proc_row(entry: Path) -> list[str]:
    try:
        stat = (entry / "stat").read_text(errors="replace")
    except OSError:
        return []  # it has just ended
    # The name before it may contain blanks and parentheses.
    return [entry.name, *stat.rpartition(")")[2].split()[:2]]


def members(root: int) -> list[int]:
    """The process, if it is alive, and its descendants; parents come before their children."""
    alive = parents()
    children = defaultdict(list)
    for pid, parent in alive.items():
        children[parent].append(pid)
    found = [root] if root in alive else []
    for pid in found:
        found.extend(children[pid])
    return found


def name(pid: int) -> str:
    """The name of a process's program, at most 15 characters; empty if it has ended."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def freeze(root: int) -> list[int]:
    """Stop the whole tree (SIGSTOP), including what it starts meanwhile; the processes that were stopped."""
    stopped: list[int] = []
    while fresh := [pid for pid in members(root) if pid not in stopped]:
        for pid in fresh:
            _send(pid, signal.SIGSTOP)
        stopped += fresh
    return stopped


def thaw(root: int) -> None:
    """Continue a frozen tree (SIGCONT)."""
    for pid in members(root):
        _send(pid, signal.SIGCONT)


def kill(root: int) -> None:
    """``kill -9`` for the whole tree: frozen first, so that no process sees another one die."""
    slay(freeze(root))


def slay(pids: Iterable[int], within_s: float = 10.0) -> None:
    """Kill these processes and wait until they are gone. Raises ``TimeoutError``."""
    pids = list(pids)
    for pid in pids:
        _send(pid, signal.SIGKILL)
    if not wait_gone(pids, within_s):
        raise TimeoutError(f"some of {pids} are alive {within_s} s after SIGKILL")


def wait_gone(pids: Iterable[int], within_s: float) -> bool:
    """Wait until none of them is alive; ``False`` if one still is after ``within_s`` seconds."""
    waiting, deadline = set(pids), time.monotonic() + within_s
    while waiting := waiting & parents().keys():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
