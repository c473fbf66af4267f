"""The frame of a program that measures: a folder on a disk, its errors, and a history in JSON."""

import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import uvloop

from purveyor_drill.servers import reaper
from purveyor_drill.servers.process import StartFailed

T = TypeVar("T")

FOLDER = Path("/var/tmp")  # noqa: S108 - on a disk, unlike /tmp on some machines; the folder made there is private


def measure(name: str, parent: Path, work: Callable[[Path], Coroutine[Any, Any, T]]) -> T:
    """Run ``work`` with a new folder in ``parent`` and remove the folder at the end.

    Exits with code 1 if a server does not start, and with 130 if interrupted.
    """
    tempfile.tempdir = str(parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f"purveyor-{name}-") as made:
            folder = Path(made)
            folder.chmod(0o755)  # the embedded server may run as another account
            reaper.remove_at_end(folder)
            return uvloop.run(work(folder))
    except (StartFailed, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def append_json(path: Path, run: msgspec.Struct) -> None:
    """Append a run to a file as a line of JSON."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(run) + b"\n")
