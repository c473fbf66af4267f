"""Which of the crash points' runs are made, and what they found."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from operator import itemgetter

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests recorded, in whichever process they ran."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    recorded = [
        entry
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for entry in report.user_properties
    ]
    found: dict[str, list[str]] = {}
    for row, duplicates in (value for name, value in recorded if name == DUPLICATES):
        found.setdefault(row, []).append(str(duplicates))
    if found:
        terminalreporter.section("mails sent more than once, by crash point and run")
        for row, counts in sorted(found.items()):
            terminalreporter.write_line(f"{row:<8} {', '.join(counts)}")
    recovered = sorted(value for name, value in recorded if name == RECOVERED)
    for installation, each in itertools.groupby(recovered, key=itemgetter(0)):
        terminalreporter.section(f"seconds from the end of a fault to the first success, {installation}")
        for _, fault, seconds in each:
            terminalreporter.write_line(f"{fault:<45} {seconds:.2f}")


@pytest_asyncio.fixture(scope="session")
async def started_installations(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sequence[Installation]]:
    """The monolith and the split shape behind proxies."""
    folder = tmp_path_factory.mktemp("installations")
    async with AsyncExitStack() as stack:
        starting = [stack.enter_async_context(shape(folder)) for shape in (monolith, split)]
        yield await asyncio.gather(*starting)


@pytest.fixture
def installations(
    started_installations: Sequence[Installation], record_property: Callable[[str, object], None]
) -> Iterator[Sequence[Installation]]:
    """Both installations, behind proxies that behave when the test begins."""
    yield started_installations
    for installation in started_installations:
        for fault, seconds in installation.recovered_s.items():
            record_property(RECOVERED, (installation.name, fault, seconds))
        installation.recovered_s.clear()
