"""The command line as its users run it: a process of its own, with an environment of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

APP = (sys.executable, "-m", "purveyor")


class Console(Protocol):
    def __call__(
        self, *arguments: str, stdin: str = "", settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``app`` to its end."""
        ...


def environment(folder: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of ours but ``DATA_DIR`` and these settings."""
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG") if name in os.environ
    }
    return {**kept, "DATA_DIR": str(folder), **(settings or {})}
