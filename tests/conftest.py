"""What every test may use: the shop in each shape, and Hypothesis that behaves in CI."""

import gc
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import settings

from real_servers import SERVERS, Owner
from shapes import SHAPES
from shop import Shop

_ADDRESS = "owner of the servers"

settings.register_profile("suite", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shape",
        action="append",
        choices=list(SHAPES),
        help="run tests of the shop in this shape only (may be given several times)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "one_shape: no shape can change the outcome, so the test runs in the first")
    config.addinivalue_line("markers", "events: another broker can change the outcome, so the test runs on each")
    config.addinivalue_line("markers", "pooled: the test uses the database so that it also runs behind PgBouncer")
    if hasattr(config, "workerinput"):
        SERVERS.connect(config.workerinput[_ADDRESS])
    elif address := os.environ.get("TEST_SERVERS"):  # a run inside a test
        SERVERS.connect(address)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """With ``-n``: a process of the run begins."""
    assert isinstance(SERVERS.owner, Owner)
    node.workerinput[_ADDRESS] = SERVERS.owner.address()


def pytest_unconfigure() -> None:
    SERVERS.stop()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the collected tests out of garbage collection: each full one would look through all of them again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shop" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        chosen = metafunc.config.getoption("--shape") or [
            name for name, shape in SHAPES.items() if not shape.only or marked(shape.only)
        ]
        if metafunc.definition.get_closest_marker("one_shape"):
            chosen = chosen[:1]
        metafunc.parametrize("shop", chosen, indirect=True, scope="session")


@pytest_asyncio.fixture(scope="session")
async def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """The shop in one shape, the same for all tests: each makes its own customers."""
    shape = SHAPES[request.param]
    async with shape.start(tmp_path_factory.mktemp(shape.name)) as deployment:
        opened = Shop(deployment)
        yield opened
        await opened.confirmed()
