"""Signals to a process and all that it started."""

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
        return []  # it ended while we looked
    # The name before it may hold blanks and brackets.
    return [entry.name, *stat.rpartition(")")[2].split()[:2]]


def members(root: int) -> list[int]:
    """The process, if it lives, and its descendants; parents before their children."""
    alive = parents()
    children = defaultdict(list)
    for pid, parent in alive.items():
        children[parent].append(pid)
    found = [root] if root in alive else []
    for pid in found:
        found.extend(children[pid])
    return found


def name(pid: int) -> str:
    """The name of the program that a process runs, at most 15 characters; empty when it has ended."""
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def freeze(root: int) -> list[int]:
    """Stop the whole tree (SIGSTOP), also what it starts meanwhile; returns who was stopped."""
    stopped: list[int] = []
    while fresh := [pid for pid in members(root) if pid not in stopped]:
        for pid in fresh:
            _send(pid, signal.SIGSTOP)
        stopped += fresh
    return stopped


def thaw(root: int) -> None:
    """Let a frozen tree go on (SIGCONT)."""
    for pid in members(root):
        _send(pid, signal.SIGCONT)


def kill(root: int) -> None:
    """``kill -9`` for the whole tree at once: frozen first, so that no part sees another part die."""
    slay(freeze(root))


def slay(pids: Iterable[int], within_s: float = 10.0) -> None:
    """Kill these processes and wait until they are gone; raises ``TimeoutError``."""
    pids = list(pids)
    for pid in pids:
        _send(pid, signal.SIGKILL)
    if not wait_gone(pids, within_s):
        raise TimeoutError(f"some of {pids} live {within_s} s after SIGKILL")


def wait_gone(pids: Iterable[int], within_s: float) -> bool:
    """Wait until none of them lives; ``False`` when one still does after ``within_s`` seconds."""
    waiting, deadline = set(pids), time.monotonic() + within_s
    while waiting := waiting & parents().keys():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
