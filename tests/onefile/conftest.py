import os
import subprocess
from pathlib import Path

import pytest

from onefile.machine import Machine

ROOT = Path(__file__).resolve().parents[2]


def build(output: Path, **variables: str) -> Path:
    """Run scripts/release and give the folder of its files."""
    subprocess.run(
        [ROOT / "scripts/release", "--output", output], env=os.environ | variables, umask=0o077, check=True
    )
    return output


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished release: that in PURVEYOR_RELEASE, or else one of this checkout."""
    if given := os.environ.get("PURVEYOR_RELEASE"):
        return Path(given)
    return build(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="session")
def program(release: Path) -> Path:
    (found,) = (path for path in release.glob("purveyor-*-linux-*") if path.suffix != ".json")
    return found


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Machine:
    if os.geteuid() != 0:
        pytest.skip("only root can enter another root file system")
    return Machine(tmp_path_factory.mktemp("machine"), program)
