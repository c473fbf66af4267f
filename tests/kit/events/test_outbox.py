"""The relay on the real outbox table: nothing skipped, nothing lost, nothing twice at once."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]
import pytest

from purveyor.kit import tracing
from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Connection, Database
from purveyor.kit.errors import Unavailable
from purveyor.kit.events import outbox as module
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import (
    BACKLOG_BATCH,
    BATCH,
    COLUMNS,
    Outbox,
    Relay,
    emit,
    envelope,
    insert_into,
    values,
)
from purveyor.kit.ids import first_id_of, new_id
from purveyor.kit.metrics import REGISTRY
from waiting import PATIENCE_S, until

SCHEMA = "orders"  # the real table of a role that emits


class Transport:
    """Keeps what is published; ``answer`` decides what becomes of each event, and may wait or raise."""

    def __init__(self, answer: Callable[[Envelope], Exception | None] = lambda _: None) -> None:
        self.published: list[Envelope] = []
        self.answer = answer
        self.gate = asyncio.Event()
        self.gate.set()

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        self.published.extend(envelopes)
        await self.gate.wait()
        return [self.answer(sent) for sent in envelopes]

    @property
    def ids(self) -> list[UUID]:
        return [sent.id for sent in self.published]

    async def until(self, count: int) -> None:
        await until(lambda: len(self.published) >= count)


@pytest.fixture
async def orders(order_tables: Database) -> Database:
    """The database with an empty outbox."""
    await order_tables.execute(f"truncate {SCHEMA}.outbox")
    return order_tables


def relay(database: Database, transport: Any) -> Relay:
    return Relay(database, SCHEMA, transport)


def event_of(event_id: UUID, **fields: Any) -> Envelope:
    known = {
        "id": event_id,
        "type": "order.created",
        "body": f'{{"id": "{event_id}"}}'.encode(),
        "occurred_at": now(),
        "subject": f"subject of {event_id}",
        "sequence": 1,
        "correlation_id": "r-1",
        "currency": "EUR",
        "language": "de",
        "traceparent": "00-1",
    }
    return Envelope(**(known | fields))


async def add(connection: Connection | Database, *ids: UUID) -> None:
    await emit(connection, SCHEMA, *map(event_of, ids))


async def waiting(database: Database) -> list[UUID]:
    rows = await database.fetch(f"select id from {SCHEMA}.outbox where published_at is null order by id")
    return [row["id"] for row in rows]


@contextlib.asynccontextmanager
async def running(running_relay: Relay) -> AsyncIterator[None]:
    task = asyncio.create_task(running_relay.run())
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_was_committed_is_published_in_order_once_and_whole(orders: Database) -> None:
    ids = [new_id() for _ in range(3)]
    await add(orders, *ids)
    transport = Transport()

    assert await relay(orders, transport).batch() == 3
    assert await relay(orders, transport).batch() == 0
    assert transport.ids == ids
    assert await waiting(orders) == []
    sent = transport.published[0]
    assert (sent.type, sent.subject, sent.sequence) == ("order.created", f"subject of {ids[0]}", 1)
    assert (sent.correlation_id, sent.currency, sent.language, sent.traceparent) == ("r-1", "EUR", "de", "00-1")
    assert sent.body == f'{{"id": "{ids[0]}"}}'.encode()


async def test_event_passes_on_the_span_of_its_publication_and_says_when_it_is_another(
    orders: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: list[tuple[str, str, bool]] = []

    def start(name: str, kind: str, attributes: Any, *, parent: str, again: bool, since: datetime) -> tracing.Span:
        spans.append((name, parent, again))
        return tracing.Span("00-2")

    monkeypatch.setattr(tracing, "_start", start)
    await add(orders, event_id := new_id())
    transport = Transport()
    await relay(orders, transport).batch()
    assert await Outbox(orders, SCHEMA).replay(str(event_id))
    await relay(orders, transport).batch()

    assert spans == [("publish order.created", "00-1", False), ("publish order.created", "00-1", True)]
    assert [sent.traceparent for sent in transport.published] == ["00-2", "00-2"]


async def test_a_row_that_was_rolled_back_is_never_published(orders: Database) -> None:
    async def fail() -> None:
        async with orders.transaction() as connection:
            await add(connection, new_id())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    transport = Transport()

    assert await relay(orders, transport).batch() == 0


async def test_a_lower_id_that_is_committed_later_is_not_skipped(orders: Database) -> None:
    """T-OB3: a relay that remembers a position would have passed it."""
    early, late = new_id(), new_id()
    transport = Transport()
    made = relay(orders, transport)
    async with orders.transaction() as connection:
        await add(connection, early)
        await add(orders, late)
        assert await made.batch() == 1
        assert transport.ids == [late]
    assert await made.batch() == 1

    assert transport.ids == [late, early]


async def test_two_relays_never_hold_a_row_at_once(orders: Database) -> None:
    ids = [new_id() for _ in range(BATCH + 20)]
    await add(orders, *ids)
    slow, quick = Transport(), Transport()
    slow.gate.clear()
    first = asyncio.create_task(relay(orders, slow).batch())
    await slow.until(BATCH)
    assert await relay(orders, quick).batch() == 20
    assert await relay(orders, quick).batch() == 0
    slow.gate.set()

    assert await first == BATCH
    assert sorted(slow.ids + quick.ids) == ids


async def test_batch_grows_while_there_is_a_backlog(orders: Database) -> None:
    await add(orders, *(new_id() for _ in range(2 * BATCH + BACKLOG_BATCH + 1)))
    transport = Transport()
    made = relay(orders, transport)
    assert [await made.batch() for _ in range(3)] == [BATCH, BACKLOG_BATCH, BATCH + 1]
    await add(orders, *(new_id() for _ in range(BATCH + 1)))
    assert await made.batch() == BATCH


async def test_batch_does_not_grow_while_the_transport_is_away(orders: Database) -> None:
    await add(orders, *(new_id() for _ in range(BATCH + 1)))
    made = relay(orders, Transport(lambda _: Unavailable("away")))
    assert await made.batch() == BATCH
    await orders.execute(f"update {SCHEMA}.outbox set next_attempt_at = now()")
    assert await made.batch() == BATCH


async def test_many_relays_together_publish_each_row_once(orders: Database) -> None:
    ids = [new_id() for _ in range(3 * BATCH)]
    await add(orders, *ids)
    transport = Transport()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(running(relay(orders, transport)))
        await transport.until(len(ids))
        await asyncio.sleep(0.1)

    assert sorted(transport.ids) == ids


async def test_what_is_not_confirmed_stays_backs_off_and_comes_again_under_the_same_id(
    orders: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_pause_s", lambda *_: 3600.0)
    good, bad = new_id(), new_id()
    await add(orders, good, bad)
    transport = Transport(lambda sent: OSError("nacked \ud800\x00") if sent.id == bad else None)
    made = relay(orders, transport)

    assert await made.batch() == 2
    assert await waiting(orders) == [bad]
    assert await made.batch() == 0, "not at once"
    row = await orders.fetchrow(
        f"select attempts, last_error, next_attempt_at - now() as pause from {SCHEMA}.outbox where id = $1", bad
    )
    assert row is not None
    assert row["attempts"] == 1
    assert row["last_error"].startswith("nacked")
    assert 0 < row["pause"].total_seconds() <= 3600.0

    transport.answer = lambda _: None
    await orders.execute(f"update {SCHEMA}.outbox set next_attempt_at = now()")
    await until(made.batch)
    assert transport.ids == [good, bad, bad]
    assert await waiting(orders) == []


async def test_each_back_off_is_longer_up_to_a_minute(orders: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    event_id = new_id()
    await add(orders, event_id)
    made = relay(orders, Transport(lambda _: OSError("nacked")))
    pauses, pause_s = [], module._pause_s

    def noted(attempts: int, error: Exception | None) -> float:
        pauses.append(pause_s(attempts, error))
        return pauses[-1]

    monkeypatch.setattr(module, "_pause_s", noted)
    for _ in range(9):
        await orders.execute(f"update {SCHEMA}.outbox set next_attempt_at = now()")
        assert await made.batch() == 1

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_a_transport_that_is_away_is_tried_at_each_poll_and_no_more_often(
    orders: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(orders, *[new_id() for _ in range(BATCH + 5)])
    polls: list[asyncio.Event] = []

    async def until_next_poll(seconds: float) -> None:
        assert seconds == module.POLL_S
        polls.append(asyncio.Event())
        await polls[-1].wait()

    transport = Transport(lambda _: Unavailable("away"))
    made = relay(orders, transport)
    monkeypatch.setattr(made._poll, "_sleep", until_next_poll)
    async with running(made):
        await until(lambda: polls)
        for _ in range(20):
            made.wake()
            await asyncio.sleep(0.01)
        assert (len(transport.published), len(polls)) == (BATCH, 1)
        polls[-1].set()
        await until(lambda: len(polls) == 2)
        assert len(transport.published) > BATCH
        transport.answer = lambda _: None
        polls[-1].set()
        await until(lambda: nothing_waits(orders))


async def nothing_waits(database: Database) -> bool:
    return not await waiting(database)


async def test_a_publish_that_raises_leaves_everything_as_it_was(orders: Database) -> None:
    ids = [new_id(), new_id()]
    await add(orders, *ids)

    def broken(_: Envelope) -> None:
        raise ConnectionError("the broker is gone")

    with pytest.raises(Exception, match=r"gone|answer"):
        await relay(orders, Transport(broken)).batch()
    assert await waiting(orders) == ids
    transport = Transport()
    assert await relay(orders, transport).batch() == 2


KILLED = """
import asyncio, os, signal, sys
from purveyor.kit.events.outbox import Relay
from purveyor.kit.db.postgres import open_database

class Killer:
    async def publish(self, envelopes):
        print(*(sent.id for sent in envelopes), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with open_database(sys.argv[1], application="killed relay", max_size=2) as database:
        await Relay(database, sys.argv[2], Killer()).run()

asyncio.run(main())
"""


async def test_a_relay_that_is_killed_after_publishing_publishes_again_under_the_same_id(
    orders: Database, database_url: str
) -> None:
    event_id = new_id()
    await add(orders, event_id)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, database_url, SCHEMA],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [str(event_id)]
    transport = Transport()
    async with running(relay(orders, transport)):
        await transport.until(1)

    assert transport.ids == [event_id]


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever waited for the poll would never come."""
    monkeypatch.setattr(module, "POLL_S", 3600.0)


@pytest.mark.usefixtures("no_poll")
async def test_woken_it_does_not_wait_for_the_poll(orders: Database) -> None:
    transport = Transport()
    made = relay(orders, transport)
    async with running(made):
        for count in range(1, 6):
            await add(orders, new_id())
            made.wake()
            await transport.until(count)


async def test_events_soon_after_a_batch_share_the_next_one(
    orders: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, gap_over, sleep = Transport(), asyncio.Event(), asyncio.sleep
    batches: list[int] = []

    async def gated(seconds: float) -> None:
        await (gap_over.wait() if seconds == module._GAP_S else sleep(seconds))

    monkeypatch.setattr(asyncio, "sleep", gated)
    made = relay(orders, transport)
    publish = transport.publish

    async def counted(envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        batches.append(len(envelopes))
        return await publish(envelopes)

    monkeypatch.setattr(transport, "publish", counted)
    await add(orders, new_id())
    async with running(made):
        await transport.until(1)
        for _ in range(3):
            await add(orders, new_id())
            made.wake()
        gap_over.set()
        await transport.until(4)
    assert batches == [1, 3]


async def test_nobody_wakes_it_and_the_poll_alone_suffices(orders: Database) -> None:
    transport = Transport()
    async with running(relay(orders, transport)):
        await asyncio.sleep(0.1)
        await add(orders, new_id())
        await transport.until(1)


@pytest.mark.usefixtures("no_poll")
async def test_a_backlog_is_worked_off_without_waiting_for_the_poll(orders: Database) -> None:
    await add(orders, *(new_id() for _ in range(3 * BATCH + 1)))
    transport = Transport()
    async with running(relay(orders, transport)):
        await transport.until(3 * BATCH + 1)


async def test_a_relay_that_dies_leaves_no_task_behind(orders: Database) -> None:
    def broken(_: Envelope) -> None:
        raise ConnectionRefusedError("the broker is gone")

    before = asyncio.all_tasks()
    for _ in range(3):
        await orders.execute(f"truncate {SCHEMA}.outbox")
        await add(orders, new_id())
        with pytest.raises(Exception, match=r"gone|answer"):
            await relay(orders, Transport(broken)).run()

    left = asyncio.all_tasks() - before  # others may share the loop
    assert not [task for task in left if "/kit/events/" in repr(task) or "/kit/poll.py" in repr(task)]


async def is_cleaned_up(orders: Database) -> bool:
    return bool(await orders.fetchval(f"select count(*) < 3 from {SCHEMA}.outbox"))


async def test_what_waits_is_shown_in_the_metrics_and_what_is_old_is_cleaned_up(orders: Database) -> None:
    old = first_id_of(now().replace(year=now().year - 1))
    old_but_waiting = UUID(int=old.int + 1)
    recent = new_id()
    await add(orders, old, old_but_waiting, recent)
    await orders.execute(f"update {SCHEMA}.outbox set published_at = now() where id in ($1, $2)", old, recent)
    transport = Transport()
    transport.gate.clear()
    async with running(relay(orders, transport)):
        await until(lambda: is_cleaned_up(orders))

    rows = await orders.fetch(f"select id from {SCHEMA}.outbox order by id")
    assert [row["id"] for row in rows] == [old_but_waiting, recent]
    assert REGISTRY.get_sample_value("purveyor_outbox_unpublished_events", {"schema": SCHEMA}) == 1.0


async def test_what_fails_beside_the_relay_is_tried_again_and_does_not_stop_it(
    orders: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Deleting what is old always fails here."""
    monkeypatch.setattr(module, "_MEASURE_EVERY_S", 0.02)
    await orders.execute(
        "create or replace function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$"
    )
    await orders.execute(f"create trigger refuse before delete on {SCHEMA}.outbox execute function refuse()")
    transport = Transport()
    try:
        async with running(relay(orders, transport)):
            await until(lambda: sum("will try again" in record.message for record in caplog.records) >= 3)
            await add(orders, new_id())
            await transport.until(1)
    finally:
        await orders.execute(f"drop trigger refuse on {SCHEMA}.outbox")


async def test_what_must_not_be_kept_goes_as_soon_as_it_is_confirmed(orders: Database) -> None:
    good, bad = new_id(), new_id()
    await add(orders, good, bad)
    transport = Transport(lambda sent: OSError("nacked") if sent.id == bad else None)
    made = Relay(orders, SCHEMA, transport, forget=True)

    assert await made.batch() == 2
    assert [row["id"] for row in await orders.fetch(f"select id from {SCHEMA}.outbox")] == [bad]
    transport.answer = lambda _: None
    await until(made.batch)
    assert transport.ids == [good, bad, bad]
    assert await orders.fetchval(f"select count(*) from {SCHEMA}.outbox") == 0


async def test_the_console_sees_finds_and_replays_events(orders: Database) -> None:
    first, second = new_id(), new_id()
    await add(orders, first, second)
    transport = Transport()
    await relay(orders, transport).batch()
    await orders.execute(f"update {SCHEMA}.outbox set published_at = null where id = $1", second)
    outbox = Outbox(orders, SCHEMA)

    assert [entry.event_id for entry in await outbox.entries(waiting=False, limit=10)] == [str(second), str(first)]
    assert [entry.event_id for entry in await outbox.entries(waiting=False, limit=1)] == [str(second)]
    assert [entry.event_id for entry in await outbox.entries(waiting=True, limit=10)] == [str(second)]
    found = await outbox.find(str(first))
    assert found is not None
    assert found.published_at is not None
    assert found.body == f'{{"id": "{first}"}}'

    assert await outbox.replay(str(first))
    assert await relay(orders, transport).batch() == 2
    assert transport.ids == [first, second, first, second]


@pytest.mark.parametrize("event_id", ["", "nonsense", "01234567-89ab-7def-8123-456789abcdef", "' or 1=1 --"])
async def test_an_event_that_is_not_there(orders: Database, event_id: str) -> None:
    outbox = Outbox(orders, SCHEMA)

    assert await outbox.find(event_id) is None
    assert not await outbox.replay(event_id)


async def test_emitted_event_that_is_known_is_refused_skipped_or_sent_again(orders: Database) -> None:
    first, second = new_id(), new_id()
    transport = Transport()
    assert await emit(orders, SCHEMA, event_of(first)) == 1
    assert await relay(orders, transport).batch() == 1

    with pytest.raises(asyncpg.UniqueViolationError):
        await emit(orders, SCHEMA, event_of(first))
    assert await emit(orders, SCHEMA, event_of(first), event_of(second), known="skipped") == 1
    assert await waiting(orders) == [second]
    again = event_of(new_id(), subject=f"subject of {first}")
    assert await emit(orders, SCHEMA, again, known="sent again") == 1
    assert await waiting(orders) == [first, second]
    assert await emit(orders, SCHEMA) == 0


async def test_part_of_a_statement_emits_for_each_row_of_its_source_and_nothing_without_an_event(
    orders: Database,
) -> None:
    fragment = insert_into(SCHEMA, first=2, source="changed", hold_s="0")
    statement = f"with changed as (select where $1::int > 0) {fragment}"
    event = event_of(new_id())

    await orders.execute(statement, 7, *values(event))
    await orders.execute(statement, 0, *values(event_of(new_id())))
    await orders.execute(statement, 8, *values(None))

    rows = await orders.fetch(f"select {COLUMNS} from {SCHEMA}.outbox")
    assert [envelope(row) for row in rows] == [event]


async def test_events_whose_ids_do_not_sort_by_time_go_out_by_other_columns(orders: Database) -> None:
    later, earlier = new_id(), new_id()
    hour = timedelta(hours=1)
    await emit(orders, SCHEMA, event_of(later), event_of(earlier, occurred_at=now() - hour))
    transport = Transport()
    watched = Relay(orders, SCHEMA, transport, order_by="occurred_at, id")

    await watched.measure()
    oldest_s = REGISTRY.get_sample_value("purveyor_outbox_oldest_event_seconds", {"schema": SCHEMA})
    assert oldest_s is not None
    assert oldest_s >= hour.total_seconds()
    assert await watched.batch() == 2
    assert transport.ids == [earlier, later]


def test_the_envelope_has_every_column() -> None:
    assert set(COLUMNS.split(", ")) == set(Envelope.__struct_fields__) - {"signature"}, "signed when published"
    row = {name: place for place, name in enumerate(COLUMNS.split(", "))}
    assert values(envelope(row)) == tuple(range(10))
    assert values(None) == (None,) * 10
    assert module.POLL_S <= 1.0
