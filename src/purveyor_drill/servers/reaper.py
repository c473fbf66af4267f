"""A small process that cleans up after a run that was itself killed.

It reads from a pipe what to watch. The kernel closes the pipe when the run ends, however it ends. Then the reaper
kills the servers that were not stopped, and removes their folders.
"""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import IO, cast

from purveyor_drill.servers import process_tree


def watch(pid: int) -> None:
    """Kill this process and its descendants if the run ends before ``forget``."""
    _tell(f"watch {pid}")


def forget(pid: int) -> None:
    """The process has ended: its id may soon be reused."""
    _tell(f"forget {pid}")


def remove_at_end(folder: Path) -> None:
    """Remove the folder if the run leaves it behind."""
    _tell(f"folder {folder}")


def _tell(line: str) -> None:
    pipe = _start()
    pipe.write(f"{line}\n".encode())
    pipe.flush()


@cache
def _start() -> IO[bytes]:
    started = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal must not end it first
    )
    return cast("IO[bytes]", started.stdin)


def main() -> None:
    """Listen until the pipe closes, then clean up."""
    watched: set[int] = set()
    folders: set[str] = set()
    for line in sys.stdin:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "watch":
            watched.add(int(rest))
        elif word == "forget":
            watched.discard(int(rest))
        else:
            folders.add(rest)
    for pid in watched:
        process_tree.kill(pid)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
