"""The outlet's queue beside the outbox: what it takes, and what the relay keeps for it."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import Unavailable
from purveyor.kit.events import outlet as module
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import Relay, emit
from purveyor.kit.events.outlet import Outlet, PostgresOutletQueue
from purveyor.kit.ids import new_id

SCHEMA = "orders"
AWAY = Unavailable("no answer")


class Server:
    """Takes what it is given; ``answer`` decides what becomes of each event."""

    def __init__(self, answer: Callable[[Envelope], Exception | None] = lambda _: None) -> None:
        self.published: list[Envelope] = []
        self.answer = answer
        self.gate = asyncio.Event()
        self.gate.set()

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> str:
        return "there"

    async def publish(self, *arguments: Any) -> Sequence[Exception | None]:
        """As the outlet calls it, or as a relay does, which names no source."""
        events: Sequence[Envelope] = arguments[-1]
        self.published.extend(events)
        await self.gate.wait()
        return [self.answer(event) for event in events]

    @property
    def ids(self) -> list[UUID]:
        return [event.id for event in self.published]


@pytest.fixture
async def orders(order_tables: Database) -> Database:
    """An empty outbox with its outlet switched off."""
    await order_tables.execute(f"truncate {SCHEMA}.outbox")
    await PostgresOutletQueue(order_tables, SCHEMA).switch_off()
    return order_tables


@pytest.fixture
async def queue(orders: Database) -> PostgresOutletQueue:
    queue = PostgresOutletQueue(orders, SCHEMA)
    await queue.switch_on()
    return queue


def outlet(queue: PostgresOutletQueue, server: Server) -> Outlet:
    return Outlet(SCHEMA, queue, server)


async def add(database: Database, *types: str) -> list[UUID]:
    """Emit an event of each type, one after the other."""
    sent = [
        Envelope(id=new_id(), type=name, body=b"{}", occurred_at=now(), subject="order-1", sequence=number)
        for number, name in enumerate(types, 1)
    ]
    for event in sent:
        await emit(database, SCHEMA, event)
    return [event.id for event in sent]


async def relay(database: Database, **options: Any) -> Relay:
    made = Relay(database, SCHEMA, Server(), outlet=True, **options)  # type: ignore[arg-type]  # it only publishes
    await made.batch()
    return made


async def count(database: Database, table: str = "outbox") -> int:
    found: int = await database.fetchval(f"select count(*) from {SCHEMA}.{table}")
    return found


async def test_events_before_it_is_switched_on_are_not_kept(orders: Database) -> None:
    await add(orders, "before")
    queue = PostgresOutletQueue(orders, SCHEMA)
    assert not await queue.is_on()
    assert await queue.waiting() == (0, 0.0)

    await queue.switch_on()
    (kept,) = await add(orders, "after")
    server = Server()
    await outlet(queue, server).publish()

    assert server.ids == [kept]


async def test_switched_off_it_keeps_nothing_and_forgets_what_waits(
    orders: Database, queue: PostgresOutletQueue
) -> None:
    await add(orders, "one")
    await queue.switch_off()
    await add(orders, "two")

    assert await queue.waiting() == (0, 0.0)


@pytest.mark.parametrize("forget", [True, False])
async def test_relay_keeps_what_the_outlet_has_not_published(
    orders: Database, queue: PostgresOutletQueue, forget: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purveyor.kit.events.outbox.KEEP", timedelta(seconds=-60))
    ids = await add(orders, "one", "two")
    relaying = await relay(orders, forget=forget)
    await relaying.purge()
    assert await relaying.batch() == 0
    assert await count(orders) == 2

    server = Server()
    await outlet(queue, server).publish()
    await relaying.purge()

    assert server.ids == ids
    assert (await count(orders), await count(orders, "outlet")) == (0, 0)


async def test_relay_forgets_at_once_what_the_outlet_has_published(
    orders: Database, queue: PostgresOutletQueue
) -> None:
    await add(orders, "one")
    await outlet(queue, Server()).publish()
    await relay(orders, forget=True)

    assert await count(orders) == 0


async def test_outlet_and_relay_do_not_wait_for_each_other(orders: Database, queue: PostgresOutletQueue) -> None:
    await add(orders, "one")
    server = Server()
    server.gate.clear()
    publishing = asyncio.create_task(outlet(queue, server).publish())
    relayed = Server()
    assert await Relay(orders, SCHEMA, relayed, outlet=True).batch() == 1  # type: ignore[arg-type]
    server.gate.set()
    await publishing

    assert relayed.ids == server.ids


async def test_one_outlet_at_a_time_works_on_a_queue(orders: Database, queue: PostgresOutletQueue) -> None:
    await add(orders, "one")
    async with queue.take(10, ()) as first, queue.take(10, ()) as second:
        assert (len(first.events), len(second.events)) == (1, 0)


async def test_events_come_in_the_order_of_their_emission_not_of_their_ids(
    orders: Database, queue: PostgresOutletQueue
) -> None:
    """Ids come from the clocks of several machines."""
    later, earlier = new_id(), new_id()
    for number, name in enumerate((earlier, later), 1):
        await emit(
            orders,
            SCHEMA,
            Envelope(id=name, type="x", body=b"{}", occurred_at=now(), subject="order-1", sequence=number),
        )
    server = Server()
    await outlet(queue, server).publish()

    assert server.ids == [earlier, later]


async def test_event_on_hold_is_taken_once_it_can_no_longer_be_undone(
    orders: Database, queue: PostgresOutletQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await add(orders, "held", "undone")
    await orders.execute(f"update {SCHEMA}.outbox set next_attempt_at = now() + interval '30 s'")
    await orders.execute(f"update {SCHEMA}.outlet set held = true")
    server = Server()
    published = outlet(queue, server)
    await published.publish()
    assert server.ids == []

    await orders.execute(f"delete from {SCHEMA}.outbox where id = $1", ids[1])
    await orders.execute(f"update {SCHEMA}.outbox set next_attempt_at = now()")
    await published.publish()
    assert server.ids == []  # an undo may have begun and not yet be committed

    monkeypatch.setattr(module, "_UNDO_S", 0.0)
    await published.publish()
    await queue.tidy()
    assert server.ids == ids[:1]
    assert await count(orders, "outlet") == 0


async def test_hold_is_known_from_the_emission(orders: Database, queue: PostgresOutletQueue) -> None:
    await orders.execute(
        f"""insert into {SCHEMA}.outbox (id, type, body, occurred_at, subject, sequence, correlation_id, currency,
            language, traceparent, next_attempt_at)
        select gen_random_uuid(), 'x', '', now(), 's', hold, '', '', '', '', now() + make_interval(secs => hold)
        from generate_series(0, 1) as hold"""
    )

    rows = await orders.fetch(f"select held from {SCHEMA}.outlet order by position")
    assert [row["held"] for row in rows] == [False, True]


async def test_what_is_not_confirmed_is_published_again(orders: Database, queue: PostgresOutletQueue) -> None:
    ids = await add(orders, "one", "two")
    server = Server(lambda event: AWAY if event.type == "two" else None)
    published = outlet(queue, server)
    assert await published.publish()  # a pause
    server.answer = lambda _: None
    await published.publish()

    assert server.ids == [*ids, ids[1]]


async def test_refused_type_is_tried_again_later_while_others_are_published(
    orders: Database, queue: PostgresOutletQueue
) -> None:
    server = Server(lambda event: ValueError("no") if event.type == "refused" else None)
    published = outlet(queue, server)
    await add(orders, "refused", "taken")
    assert await published.publish() is None
    await emit(
        orders, SCHEMA, Envelope(id=new_id(), type="taken", body=b"{}", occurred_at=now(), subject="s", sequence=9)
    )
    await published.publish()
    with pytest.raises(Unavailable, match=r"refuses refused \(events waiting: 1"):
        await published.check()

    assert [event.type for event in server.published] == ["refused", "taken", "taken"]
