"""What the tests of the command line share: one DATA_DIR, and a way to run ``app``."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from app_process import Console, environment

from forked_console import run


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one DATA_DIR of these tests, and the working directory: no ``.env`` is in it."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def console(folder: Path) -> Console:
    def command(
        *arguments: str, stdin: str = "", settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run(*arguments, env=environment(folder, settings), cwd=folder, stdin=stdin)

    return command
