"""A running shop and its documents."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tools import Tools

from own_processes import environment, own_processes
from server_shapes import PATIENT


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path)


def _document(name: str, folder: Path) -> Path:
    path = folder / f"{name}.json"
    with path.open("wb") as file:
        subprocess.run([sys.executable, "-m", "purveyor", name], stdout=file, env=environment({}), check=True)
    return path


@pytest.fixture(scope="session")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _document("openapi", tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="session")
def asyncapi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _document("asyncapi", tmp_path_factory.mktemp("documents"))


@pytest_asyncio.fixture(scope="session")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a shop with every role, on its embedded default."""
    async with own_processes(tmp_path_factory.mktemp("shop"), **PATIENT) as processes:
        processes.start("shop", "serve", "auth,orders,email,catalog,shop")
        await processes.ready("shop")
        yield f"http://127.0.0.1:{processes.ports['shop']}"
