"""Programs that scripts/newer-programs puts below the environment, because the machine's own are too old."""

import shutil
import sys
from pathlib import Path


def home(name: str) -> Path:
    """The folder of a program and its libraries, laid out as Debian's packages are. It need not exist."""
    return Path(sys.prefix) / "newer" / name


def find_program(name: str) -> str | None:
    """The path of a program: the newer one, or else the one on the PATH."""
    newer = f"{home(name)}/usr/bin:{home(name)}/usr/sbin"
    return shutil.which(name, path=newer) or shutil.which(name)
