"""Every crash point of docs/crash-points.md, in both shapes, under both mail policies and on both brokers.

A plain run makes one of the eight runs of each row, a different one from row to row; ``--every-crash-point`` makes
all of them.
"""

import itertools
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import get_args

import pytest
import pytest_asyncio

import purveyor
from faults.crash_audit import DUPLICATES, audit
from faults.crash_installation import Installation, installation
from faults.crash_rows import ROWS
from real_servers import Broker

SOURCE = Path(purveyor.__file__).parent
TABLE = SOURCE.parent.parent / "docs" / "crash-points.md"
COMBINATIONS = list(itertools.product(("monolith", "split"), ("resend", "park"), get_args(Broker)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "crash_installation" not in metafunc.fixturenames:
        return
    every = metafunc.config.getoption("--every-crash-point", default=False)
    runs = [
        (combination, row)
        for number, combination in enumerate(COMBINATIONS)
        for place, row in enumerate(ROWS)
        if every or number == (place + place // len(COMBINATIONS)) % len(COMBINATIONS)
    ]
    ids = [f"{row}-{'-'.join(combination)}" for combination, row in runs]
    metafunc.parametrize(
        ("crash_installation", "row"), runs, ids=ids, indirect=["crash_installation"], scope="module"
    )


@pytest_asyncio.fixture(scope="module")
async def crash_installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """One installation for all rows of a shape, a policy and a broker: only what a row kills is started again."""
    shape, policy, broker = request.param
    async with installation(shape, policy, broker, tmp_path_factory.mktemp("-".join(request.param))) as made:
        yield made


async def test_a_crash_at(
    crash_installation: Installation, row: str, record_property: Callable[[str, object], None]
) -> None:
    crashed = ROWS[row]
    placed = await crashed.run(crash_installation)
    record_property(DUPLICATES, (row, await audit(crash_installation, crashed, placed)))


def in_the_source() -> set[str]:
    texts = [path.read_text() for path in SOURCE.rglob("*.py")]
    return {name for text in texts for name in re.findall(r"""\bfailpoint\(["']([^"']+)["']\)""", text)}


def in_the_table() -> dict[str, str]:
    """The rows' ids and failpoints, as the document has them."""
    rows = re.findall(r"^\| (\w+(?:-\w+)?) \| (?:`([^`]*)`|-) \|", TABLE.read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows))
    return dict(rows)


def test_the_points_in_the_source_are_those_of_the_table_and_all_are_tested() -> None:
    documented = {point for point in in_the_table().values() if point}
    assert in_the_source() == documented == {row.point for row in ROWS.values() if row.point}


def test_every_row_of_the_table_is_tested_somewhere() -> None:
    elsewhere = "".join(path.read_text() for path in Path(__file__).parent.parent.rglob("test_*.py"))
    missing = [row for row in in_the_table() if row not in ROWS and f"def test_{row.lower()}_" not in elsewhere]
    assert missing == []


def test_the_table_says_what_is_tested() -> None:
    assert {name: point for name, point in in_the_table().items() if name in ROWS} == {
        row.id: row.point for row in ROWS.values()
    }
