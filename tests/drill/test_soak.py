"""The table of a soak on made-up figures, its verdict, and the sizes that it reads from a database."""

import asyncpg
import msgspec
import pytest

from purveyor_drill.bench.soak import Soak, Step, Table, main, render, vacuum
from real_servers import SERVERS


def sample(**changes: object) -> Soak:
    tables = {
        "orders.orders": Table(table_bytes=3_000_000, index_bytes=1_000_000, dead=70, vacuum_s=0.25),
        "orders.outbox": Table(table_bytes=5_000_000, index_bytes=2_000_000, dead=30, vacuum_s=0.5),
        "orders.notes": Table(table_bytes=0, index_bytes=8000, dead=0, vacuum_s=0.0),
    }
    step = Step(
        orders=1000,
        per_second=250.0,
        p50_ms=5.0,
        p99_ms=20.0,
        cpu_ms={"application": 2.0, "postgres": 1.5},
        tables=tables,
        failed=0,
        left=0,
    )
    steps = [step, msgspec.structs.replace(step, orders=2000, **changes)]
    return Soak(at="2026-01-02T03:04:05+00:00", version="1.2.3", cores=2, connections=16, steps=steps)


def test_table_has_a_line_per_step_and_per_large_table() -> None:
    lines = [line.split() for line in render(sample()).splitlines()]

    assert ["1000", "250", "5.0", "20.0", "3.50", "8.0", "3.0", "11008", "100", "0.75"] in lines
    assert ["2000", "250", "5.0", "20.0", "3.50", "8.0", "3.0", "5504", "100", "0.75"] in lines
    assert [line[0] for line in lines if line and line[0].startswith("orders.")] == [
        "orders.outbox",
        "orders.orders",
    ]
    assert ["orders.outbox", "5.0", "2.0", "3500", "30", "0.50"] in lines
    assert lines[-1] == ["The", "run", "is", "valid."]


@pytest.mark.parametrize("changes", [{"failed": 1}, {"left": 2}])
def test_run_with_failures_or_leftovers_is_invalid(changes: dict[str, int]) -> None:
    run = sample(**changes)

    assert not run.is_valid
    assert not msgspec.structs.replace(run, steps=[]).is_valid
    assert "INVALID: " in render(run)
    assert msgspec.json.decode(msgspec.json.encode(run), type=Soak) == run


async def test_vacuum_measures_every_table_that_has_rows() -> None:
    connection = await asyncpg.connect(SERVERS.create_database("soak"))
    try:
        await connection.execute("create schema soaked")
        await connection.execute('create table soaked."Some Rows" as select generate_series(1, 1000) as number')
        await connection.execute("create table soaked.empty (number int)")
        found = await vacuum(connection)
    finally:
        await connection.close()

    assert found['soaked."Some Rows"'].table_bytes >= 32_768
    assert found['soaked."Some Rows"'].index_bytes == 0
    assert "soaked.empty" not in found


@pytest.mark.parametrize("arguments", [("--orders", "1000001"), ("--steps", "0"), ("--connections", "0")])
def test_extent_is_bounded(
    arguments: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["soak", *arguments])

    with pytest.raises(SystemExit, match="2"):
        main()
    assert "at most" in capsys.readouterr().err
