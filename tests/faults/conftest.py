"""Which of the crash points' runs are made, and what they found."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from faults.crash_audit import DUPLICATES
from faults.installations import RECOVERED, Installation, monolith, split


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-crash-point",
        action="store_true",
        help="every crash point in both shapes, under both mail policies, on both brokers (8 minutes)",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if found := config.stash.get(DUPLICATES, None):
        terminalreporter.section("mails sent more than once, by crash point and run")
        for row, counts in sorted(found.items()):
            terminalreporter.write_line(f"{row:<8} {', '.join(map(str, counts))}")
    for installation, recovered in config.stash.get(RECOVERED, {}).items():
        terminalreporter.section(f"seconds from the end of a fault to the first success, {installation}")
        for fault, seconds in recovered.items():
            terminalreporter.write_line(f"{fault:<45} {seconds:.2f}")


@pytest_asyncio.fixture(scope="session")
async def installations(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Sequence[Installation]]:
    """The monolith and the split shape behind proxies, which behave when a test begins."""
    folder = tmp_path_factory.mktemp("installations")
    async with AsyncExitStack() as stack:
        starting = [stack.enter_async_context(shape(folder)) for shape in (monolith, split)]
        started = await asyncio.gather(*starting)
        yield started
        request.config.stash[RECOVERED] = {installation.name: installation.recovered_s for installation in started}
