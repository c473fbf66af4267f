"""What every test may use: the shop in each shape, and Hypothesis that behaves in CI."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import settings

from real_servers import SERVERS
from shapes import SHAPES
from shop import Shop

_SHARING = ("browser", "cli", "gateway")
"""The folders whose modules share what a conftest of theirs starts once."""

settings.register_profile("suite", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shape",
        action="append",
        choices=list(SHAPES),
        help="run tests of the shop in this shape only (may be given several times)",
    )


def pytest_sessionfinish() -> None:
    SERVERS.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shop" in metafunc.fixturenames:
        elsewhere = getattr(metafunc.module, "ELSEWHERE", ())
        chosen = [name for name in metafunc.config.getoption("--shape") or SHAPES if name not in elsewhere]
        metafunc.parametrize("shop", chosen, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in a hook of the same name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ``-n``, what shares a running shop or browser goes to one process, and so does a module."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    if isinstance(item, pytest.Function) and "shop" in item.fixturenames:
        return str(item.callspec.params["shop"])
    return item.path.parent.name if item.path.parent.name in _SHARING else item.path.stem


@pytest_asyncio.fixture(scope="session")
async def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """The shop in one shape, the same for all tests: each makes its own customers."""
    shape = SHAPES[request.param]
    async with shape.start(tmp_path_factory.mktemp(shape.name)) as deployment:
        yield Shop(deployment)
