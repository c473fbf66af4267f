"""Place orders in steps, and print how rate, latency, CPU, table sizes and vacuum times change with their number.

Starts Purveyor in one process on an embedded PostgreSQL of its own, which flushes every commit to the disk, and a
mail sink. Each step waits until all events and emails of its orders are out, and then vacuums every table. Only
loopback is used, and everything is removed at the end.

Exit code 1: the run is invalid, because requests failed, or events or emails still waited after the time for them.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from purveyor_drill.bench import machine
from purveyor_drill.bench.compare import order_bodies, send
from purveyor_drill.bench.load import Load
from purveyor_drill.bench.program import FOLDER, append_json, measure
from purveyor_drill.bench.stand_ins import MailSink
from purveyor_drill.bench.targets import Embedded

_MAX_ORDERS, _MAX_STEPS, _MAX_MINUTES = 1_000_000, 100, 240
_LOAD_S = 240.0
"""Longest load. Tokens, which live for ten minutes, are renewed before each."""
_DRAIN_S = 300.0
_POLL_S = 0.1
_CUSTOMERS = 20
_MB = 1e6
_SHOWN = 0.001
"""The smallest share of the whole with which a table has a line."""
_TABLES = """
select format('%I.%I', s.schemaname, s.relname) as name, s.n_dead_tup as dead,
    pg_table_size(s.relid) as table_bytes, pg_indexes_size(s.relid) as index_bytes
from pg_stat_user_tables s order by 1"""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table after a step."""

    table_bytes: int
    index_bytes: int
    dead: int
    """Dead rows before the vacuum, as the server estimates them."""
    vacuum_s: float

    @property
    def bytes(self) -> int:
        return self.table_bytes + self.index_bytes


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step. ``orders`` counts those of earlier steps too."""

    orders: int
    per_second: float
    """Orders per second, without the time for what waited afterwards."""
    p50_ms: float
    p99_ms: float
    """The highest of the step's loads."""
    cpu_ms: Mapping[str, float]
    """CPU time per order by part, until its email was accepted."""
    tables: Mapping[str, Table]
    failed: int
    left: int
    """Events and emails that still waited after the time for them."""

    @property
    def table_bytes(self) -> int:
        return sum(table.table_bytes for table in self.tables.values())

    @property
    def index_bytes(self) -> int:
        return sum(table.index_bytes for table in self.tables.values())


class Soak(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    at: str
    """RFC 3339."""
    version: str
    cores: int
    connections: int
    steps: Sequence[Step]

    @property
    def is_valid(self) -> bool:
        return bool(self.steps) and not any(step.failed or step.left for step in self.steps)


class _Run:
    def __init__(self, target: Embedded, connection: Any, connections: int) -> None:
        self._target = target
        self._connection = connection
        self._connections = connections
        self._orders = 0

    async def step(self, orders: int) -> Step:
        """Place about ``orders`` orders, and measure."""
        target = self._target
        accepted, before = target.sink.accepted, machine.cpu_s(target.parts())
        results = []
        placed = failed = 0
        while placed + failed < orders:
            await target.log_in()
            result = await send(self._load(orders - placed - failed))
            results.append(result)
            placed, failed = placed + result.succeeded, failed + result.failed
            if not result.succeeded:
                break
        left = await self._drain(accepted + placed)
        after = machine.cpu_s(target.parts())
        self._orders += placed
        return Step(
            orders=self._orders,
            per_second=placed / sum(result.seconds for result in results),
            p50_ms=max(result.latency.median for result in results) * 1000,
            p99_ms=max(result.latency.p99 for result in results) * 1000,
            cpu_ms={name: (after[name] - before[name]) * 1000 / max(1, placed) for name in after},
            tables=await vacuum(self._connection),
            failed=failed,
            left=left,
        )

    def _load(self, requests: int) -> Load:
        return Load(
            port=self._target.port,
            method="POST",
            paths=["/api/orders/"],
            tokens=self._target.tokens,
            bodies=order_bodies(),
            with_keys=True,
            connections=self._connections,
            seconds=_LOAD_S,
            requests=requests,
        )

    async def _drain(self, mails: int) -> int:
        """Wait for events and emails, and return how many are left."""
        target, deadline = self._target, time.monotonic() + _DRAIN_S
        while True:
            waiting = await target.database.unpublished() + await target.database.pending()
            left = max(waiting, mails - target.sink.accepted)
            if left <= 0 or time.monotonic() > deadline:
                return max(0, left)
            await asyncio.sleep(_POLL_S)


async def vacuum(connection: Any) -> dict[str, Table]:
    """Vacuum all tables that are not empty, and return their sizes by name."""
    dead = {row["name"]: row["dead"] for row in await connection.fetch(_TABLES)}
    seconds: dict[str, float] = {}
    for name in dead:
        began = time.monotonic()
        await connection.execute(f"vacuum (analyze) {name}")
        seconds[name] = time.monotonic() - began
    return {
        row["name"]: Table(
            table_bytes=row["table_bytes"],
            index_bytes=row["index_bytes"],
            dead=dead[row["name"]],
            vacuum_s=seconds[row["name"]],
        )
        for row in await connection.fetch(_TABLES)
        if row["name"] in seconds and row["table_bytes"]
    }


async def soak(orders: int, steps: int, connections: int, minutes: float, folder: Path) -> Soak:
    """Run all steps, or those that begin in time. Raises ``StartFailed``, and ``OSError`` if a load breaks off."""
    done: list[Step] = []
    async with AsyncExitStack() as stack:
        sink = MailSink()
        await sink.open()
        stack.callback(sink.close)
        target = Embedded(folder / "embedded", sink)
        stack.push_async_callback(target.stop)
        await target.start()
        await target.prepare(stack, _CUSTOMERS)
        connection = await asyncpg.connect(target.dsn)
        stack.push_async_callback(connection.close)
        run = _Run(target, connection, connections)
        deadline = time.monotonic() + minutes * 60
        while len(done) < steps and time.monotonic() < deadline:
            done.append(await run.step(-(-orders // steps)))
            print(f"soak: {done[-1].orders} orders", file=sys.stderr, flush=True)
            if done[-1].failed or done[-1].left:
                break
    return Soak(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("purveyor"),
        cores=os.cpu_count() or 1,
        connections=connections,
        steps=done,
    )


def render(run: Soak) -> str:
    """One line per step, one per table after the last step, and whether the run is valid."""
    return "\n".join(_lines(run))


def _lines(run: Soak) -> Iterator[str]:
    yield f"Purveyor {run.version}, {run.at}: {run.cores} cores, {run.connections} connections, embedded."
    yield ""
    yield (
        f"{'orders':>9}{'per s':>8}{'p50 ms':>8}{'p99 ms':>8}{'CPU ms':>8}{'tables MB':>11}{'indexes MB':>12}"
        f"{'B/order':>9}{'dead rows':>11}{'vacuum s':>10}"
    )
    for step in run.steps:
        tables = step.tables.values()
        yield (
            f"{step.orders:>9}{step.per_second:>8.0f}{step.p50_ms:>8.1f}{step.p99_ms:>8.1f}"
            f"{sum(step.cpu_ms.values()):>8.2f}{step.table_bytes / _MB:>11.1f}{step.index_bytes / _MB:>12.1f}"
            f"{(step.table_bytes + step.index_bytes) / max(1, step.orders):>9.0f}"
            f"{sum(table.dead for table in tables):>11}{sum(table.vacuum_s for table in tables):>10.2f}"
        )
        if step.failed or step.left:
            yield f"    INVALID: {step.failed} requests failed, {step.left} events or emails waited"
    if run.steps:
        yield ""
        yield from _tables(run.steps[-1])
    yield ""
    yield f"The run is {'valid' if run.is_valid else 'INVALID'}."


def _tables(last: Step) -> Iterator[str]:
    yield (
        f"{'after the last step':<28}{'table MB':>10}{'indexes MB':>12}{'B/order':>9}{'dead rows':>11}"
        f"{'vacuum s':>10}"
    )
    sized = sorted(last.tables.items(), key=lambda item: -item[1].bytes)
    for name, table in sized:
        if table.bytes >= _SHOWN * (last.table_bytes + last.index_bytes):
            yield (
                f"{name:<28}{table.table_bytes / _MB:>10.1f}{table.index_bytes / _MB:>12.1f}"
                f"{table.bytes / max(1, last.orders):>9.0f}{table.dead:>11}{table.vacuum_s:>10.2f}"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=2000, help="orders in all (default: 2000)")
    parser.add_argument("--steps", type=int, default=4, help="steps of equal size (default: 4)")
    parser.add_argument("--connections", type=int, default=16, help="requests under way at once (default: 16)")
    parser.add_argument("--minutes", type=float, default=20.0, help="no step begins later than this (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the figures to FILE, as a line of JSON")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help=f"folder on a disk for the database ({FOLDER})"
    )
    return parser


def main() -> int:
    """Run it; 0 if the run is valid."""
    parser = _parser()
    options = parser.parse_args()
    if not (1 <= options.steps <= min(_MAX_STEPS, options.orders) and options.orders <= _MAX_ORDERS):
        parser.error(f"at most {_MAX_ORDERS} orders in at most {_MAX_STEPS} steps of one order or more")
    if not (1 <= options.connections <= 100 and 0 < options.minutes <= _MAX_MINUTES):  # noqa: PLR2004 - no larger pool
        parser.error(f"1 to 100 connections, at most {_MAX_MINUTES} minutes")
    figures = options.orders, options.steps, options.connections, options.minutes
    run = measure("soak", options.folder, lambda folder: soak(*figures, folder))
    print(render(run))
    if options.json:
        append_json(options.json, run)
    return 0 if run.is_valid else 1


if __name__ == "__main__":
    sys.exit(main())
