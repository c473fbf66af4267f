"""What the tests of the command line share: one DATA_DIR, and a way to run ``app``."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from app_process import APP, Console, environment


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one DATA_DIR of these tests, and the working directory: no ``.env`` is in it."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def console(folder: Path) -> Console:
    def run(
        *arguments: str, stdin: str = "", settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*APP, *arguments],
            env=environment(folder, settings),
            cwd=folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
