"""What every test may use: the shop in each shape, and Hypothesis that behaves in CI."""

import os
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from real_servers import SERVERS
from shapes import SHAPES
from shop import Shop

_FOLDERS = ("browser", "cli", "gateway")
"""Their modules share what a conftest of theirs starts once."""
_SHAPE = re.compile(rf"tests/acceptance/.*\[({'|'.join(SHAPES)})[-\]]")


class Sharing(LoadScopeScheduling):
    """What shares a running shop or browser goes to one process, and so does a module.

    Not by marks (``--dist loadgroup``): pytest-xdist 3.8 loses them with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        if shape := _SHAPE.match(nodeid):
            return shape[1]
        module = nodeid.partition("::")[0]
        folder = module.split("/")[1]
        return folder if folder in _FOLDERS else module


LEFT_BEHIND = 7
"""The exit code when something failed at the end of a test or shape, such as an order without a mail.

It would pass if that test were run again alone, so ``scripts/test`` does not.
"""
_left_behind: list[str] = []

settings.register_profile("suite", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shape",
        action="append",
        choices=list(SHAPES),
        help="run tests of the shop in this shape only (may be given several times)",
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and report.when == "teardown":
        _left_behind.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    SERVERS.stop()
    if _left_behind:
        session.exitstatus = LEFT_BEHIND


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shop" in metafunc.fixturenames:
        elsewhere = getattr(metafunc.module, "ELSEWHERE", ())
        chosen = [name for name in metafunc.config.getoption("--shape") or SHAPES if name not in elsewhere]
        metafunc.parametrize("shop", chosen, indirect=True, scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """With ``-n``: see ``Sharing``."""
    return Sharing(config, log)


@pytest_asyncio.fixture(scope="session")
async def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """The shop in one shape, the same for all tests: each makes its own customers."""
    shape = SHAPES[request.param]
    async with shape.start(tmp_path_factory.mktemp(shape.name)) as deployment:
        opened = Shop(deployment)
        yield opened
        await opened.confirmed()
