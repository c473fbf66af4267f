"""The SQL of role orders, on a real PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import NotFound
from purveyor.kit.ids import new_id
from purveyor.roles.auth.contract import Principal
from purveyor.roles.orders.contract import KeyReused, RequestInProgress
from purveyor.roles.orders.model import IdempotencyKey, Order, OrderFilter, Product, StoredAnswer
from purveyor.roles.orders.store import OrderStore
from roles.orders.samples import HOME, SHELF, buyer, draft, new_order
from waiting import PATIENCE_S


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


def key(who: Principal, fingerprint: bytes = b"the request", text: str = "key 1") -> IdempotencyKey:
    return IdempotencyKey(who.user_id, text, fingerprint)


async def counted(database: Database, who: Principal) -> tuple[int, int, int, int]:
    """Orders, lines, events and keys of one buyer."""
    row = await database.fetchrow(
        """
        with mine as (select id from orders.orders where user_id = $1)
        select (select count(*) from mine),
            (select count(*) from orders.order_items where order_id in (select id from mine)),
            (select count(*) from orders.outbox where subject in (select id::text from mine)),
            (select count(*) from orders.idempotency_keys where user_id = $1)""",
        who.user_id,
    )
    assert row is not None
    return tuple(row)


async def test_an_order_comes_back_as_it_was_placed(store: OrderStore) -> None:
    ada = buyer()
    new = new_order(ada, draft((3, 1000), (2, 1), (1, 7), address=HOME, note="näher: 'x'; --"))
    stored = await store.add(new)
    number = json.loads(stored.answer)["order_number"]
    found = await store.get(stored.order_id, ada.user_id)

    assert not stored.replayed
    assert number > 10_000
    assert (found.number, found.shipping_address, found.note) == (number, HOME, "näher: 'x'; --")
    assert [(line.product_id, line.quantity) for line in found.lines] == [(3, 1000), (2, 1), (1, 7)]
    for name in Order.__struct_fields__:
        assert name == "number" or getattr(found, name) == getattr(new.order, name)


async def test_product_ids_are_stored_as_they_came(store: OrderStore) -> None:
    ada = buyer()
    ids: list[int | str] = [2**53 - 1, "SKU-1", 1, "1", '"', "Ärmel 漢/\\"]
    shelf = {number: Product(id=number, title="Lamp", price=1) for number in ids}
    order = Order.place(new_id(), ada, draft(*((number, 1) for number in ids)), shelf, currency="EUR", at=now())
    new = msgspec.structs.replace(new_order(ada), order=order)
    await store.add(new)

    assert (await store.get(order.id, None)).lines == order.lines


async def test_no_two_orders_have_the_same_number(store: OrderStore) -> None:
    ada = buyer()
    stored = await asyncio.gather(*(store.add(new_order(ada)) for _ in range(30)))

    assert len({json.loads(one.answer)["order_number"] for one in stored}) == 30


async def test_an_order_has_one_event_which_tells_what_the_contract_says(
    store: OrderStore, database: Database
) -> None:
    ada = buyer()
    new = new_order(ada, draft((1, 2), (3, 1)))
    stored = await store.add(new)
    rows = await database.fetch("select * from orders.outbox where subject = $1", str(stored.order_id))

    assert len(rows) == 1
    assert json.loads(rows[0]["body"]) == {
        "order_number": json.loads(stored.answer)["order_number"],
        "user_email": ada.email,
        "user_name": "Ada Lovelace",
        "total_amount": 59.99,
        "items": [
            {"product_id": 1, "quantity": 2, "price": 29.99, "total_amt": 59.98, "title": "Kettle"},
            {"product_id": 3, "quantity": 1, "price": 0.01, "total_amt": 0.01, "title": SHELF[3].title},
        ],
        "payment_method": "card",
        "order_id": str(stored.order_id),
        "currency": "EUR",
        "language": "de",
        "payment_status": "unpaid",
        "note": "",
        "shipping_address": None,
        "user_id": ada.user_id,
        "recipient_confirmed": False,
    }
    envelope = {
        name: rows[0][name] for name in ("id", "type", "sequence", "correlation_id", "currency", "language")
    }
    assert envelope == {
        "id": new.event.id,
        "type": "order.created",
        "sequence": 1,
        "correlation_id": "request 1",
        "currency": "EUR",
        "language": "de",
    }
    assert rows[0]["published_at"] is None
    assert await counted(database, ada) == (1, 2, 1, 0)


async def test_what_fails_leaves_nothing_behind(store: OrderStore, database: Database) -> None:
    """The event of the second order clashes with the first one's: order, lines and key go with it."""
    ada = buyer()
    first, second = new_order(ada), new_order(ada, key=key(ada))
    await store.add(first)
    clashing = type(second)(
        **{name: getattr(second, name) for name in second.__struct_fields__ if name != "event"}, event=first.event
    )

    with pytest.raises(Exception, match="duplicate key"):
        await store.add(clashing)
    assert await counted(database, ada) == (1, 2, 1, 0)


async def test_the_same_key_gives_the_first_answer_again(store: OrderStore, database: Database) -> None:
    ada, eve = buyer(), buyer()
    first = await store.add(new_order(ada, key=key(ada)))
    again = await store.add(new_order(ada, draft((3, 5)), key=key(ada)))

    assert again == StoredAnswer(first.order_id, first.answer, replayed=True)
    assert await store.find_answer(key(ada)) == again
    assert await counted(database, ada) == (1, 2, 1, 1)
    assert not (await store.add(new_order(eve, key=key(eve)))).replayed, "keys belong to their users"
    assert not (await store.add(new_order(ada, key=key(ada, text="key 2")))).replayed


async def test_a_key_belongs_to_one_request(store: OrderStore, database: Database) -> None:
    ada = buyer()
    await store.add(new_order(ada, key=key(ada)))

    with pytest.raises(KeyReused):
        await store.add(new_order(ada, key=key(ada, b"another request")))
    with pytest.raises(KeyReused):
        await store.find_answer(key(ada, b"another request"))
    assert await counted(database, ada) == (1, 2, 1, 1)


async def test_an_unknown_key_has_no_answer(store: OrderStore) -> None:
    assert await store.find_answer(key(buyer())) is None


async def expire(database: Database, who: Principal) -> None:
    await database.execute(
        "update orders.idempotency_keys set expires_at = now() - interval '1 second' where user_id = $1",
        who.user_id,
    )


async def test_a_key_can_be_used_again_when_it_has_expired(store: OrderStore, database: Database) -> None:
    ada = buyer()
    first = await store.add(new_order(ada, key=key(ada)))
    await expire(database, ada)
    other = key(ada, b"another request")

    assert await store.find_answer(key(ada)) is None
    second = await store.add(new_order(ada, key=other))
    assert not second.replayed
    assert second.order_id != first.order_id
    assert await store.find_answer(other) == StoredAnswer(second.order_id, second.answer, replayed=True)
    assert await counted(database, ada) == (2, 4, 2, 1)


async def test_keys_are_kept_for_a_day_and_then_forgotten(store: OrderStore, database: Database) -> None:
    ada, eve = buyer(), buyer()
    await store.add(new_order(ada, key=key(ada)))
    await store.add(new_order(eve, key=key(eve)))
    kept_s = await database.fetchval(
        "select extract(epoch from expires_at - now()) from orders.idempotency_keys where user_id = $1",
        ada.user_id,
    )
    await expire(database, ada)

    assert 86_390 < kept_s <= 86_400
    assert await store.purge() == 1
    assert await counted(database, ada) == (1, 2, 1, 0)
    assert await counted(database, eve) == (1, 2, 1, 1)


@pytest.fixture
async def other_process(dsn: str) -> AsyncIterator[OrderStore]:
    """The same orders through a pool of its own."""
    async with open_database(dsn, application="tests, another process", max_size=10) as opened:
        yield OrderStore(opened)


async def test_of_many_requests_at_once_with_one_key_one_is_placed(
    store: OrderStore, other_process: OrderStore, database: Database
) -> None:
    for _ in range(5):
        ada = buyer()
        adding = ((store, other_process)[place % 2].add(new_order(ada, key=key(ada))) for place in range(30))
        outcomes = await asyncio.gather(*adding, return_exceptions=True)
        answered = [outcome for outcome in outcomes if isinstance(outcome, StoredAnswer)]

        assert sum(not stored.replayed for stored in answered) == 1
        assert len({(stored.order_id, stored.answer) for stored in answered}) == 1
        assert {type(outcome) for outcome in outcomes} <= {StoredAnswer, RequestInProgress}
        assert await counted(database, ada) == (1, 2, 1, 1)


async def test_a_request_that_is_still_being_stored_is_in_progress(store: OrderStore, database: Database) -> None:
    """The transaction of the first one is open: neither waiting for it nor answering without it is right."""
    ada = buyer()
    async with database.transaction() as connection:
        await connection.execute(
            "select pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))", ada.user_id, "key 1"
        )
        with pytest.raises(RequestInProgress) as refusal:
            await asyncio.wait_for(store.add(new_order(ada, key=key(ada))), PATIENCE_S)

    assert refusal.value.headers["Retry-After"] == "1"
    assert not (await store.add(new_order(ada, key=key(ada)))).replayed


async def test_an_order_is_its_owners(store: OrderStore) -> None:
    ada = buyer()
    stored = await store.add(new_order(ada))

    assert (await store.get(stored.order_id, None)).user_id == ada.user_id
    for order_id, owner in ((stored.order_id, buyer().user_id), (new_id(), ada.user_id), (stored.order_id, "")):
        with pytest.raises(NotFound, match="There is no such order"):
            await store.get(order_id, owner)


async def walk(store: OrderStore, wanted: dict[str, Any], limit: int, between: Any = None) -> list[Order]:
    seen: list[Order] = []
    after: UUID | None = None
    while page := await store.list(OrderFilter(**wanted, after=after), limit):
        assert len(page) <= limit
        assert len(seen) < 1000, "the pages do not come to an end"
        seen += page
        after = page[-1].id
        if between is not None:
            await between()
    return seen


async def test_pages_have_no_gaps_and_no_doubles_while_orders_come_in(store: OrderStore) -> None:
    ada, eve = buyer(), buyer()
    there = [(await store.add(new_order(who))).order_id for who in (ada, eve) * 20]
    mine = there[::2]

    async def more() -> None:
        await asyncio.gather(*(store.add(new_order(who)) for who in (ada, eve, ada)))

    seen = [order.id for order in await walk(store, {"user_id": ada.user_id}, 7, between=more)]

    assert seen == sorted(seen, reverse=True)
    assert seen == mine[::-1]


async def test_a_list_holds_what_was_asked_for(store: OrderStore, database: Database) -> None:
    ada, eve = buyer(), buyer()
    noon = datetime(2999, 1, 1, 12, tzinfo=UTC)  # so that no other test's orders are newer
    times = [noon + timedelta(hours=hour) for hour in range(4)]
    placed = [await store.add(new_order(who, at=at)) for who, at in zip((ada, ada, ada, eve), times, strict=True)]
    ids = [stored.order_id for stored in placed]
    await database.execute(
        "update orders.orders set status = 'shipped', payment_status = 'paid' where id = $1", ids[1]
    )
    orders = [await store.get(order_id, None) for order_id in ids]
    mine: dict[str, Any] = {"user_id": ada.user_id}

    async def found(**wanted: Any) -> list[UUID]:
        return [order.id for order in await store.list(OrderFilter(**wanted), 100)]

    assert await found(**mine) == ids[2::-1]
    assert await found(**mine, status="shipped") == [ids[1]]
    assert await found(**mine, status="pending") == [ids[2], ids[0]]
    assert await found(**mine, payment_status="paid") == [ids[1]]
    assert await found(**mine, payment_status="unpaid", status="shipped") == []
    assert await found(order_number=orders[3].number) == [ids[3]]
    assert await found(**mine, order_number=orders[3].number) == []
    assert await found(**mine, created_from=noon + timedelta(hours=1)) == [ids[2], ids[1]]
    assert await found(**mine, created_from=noon, after=ids[2]) == [ids[1], ids[0]]
    assert await found(**mine, created_to=noon + timedelta(hours=1)) == [ids[0]], "the end is not part of it"
    assert (await found())[:4] == ids[::-1]
    assert (await store.list(OrderFilter(**mine), 1))[0] == orders[2]


async def test_a_trace_tells_an_orders_way(store: OrderStore, database: Database) -> None:
    ada = buyer()
    new = new_order(ada, key=key(ada))
    stored = await store.add(new)
    number = json.loads(stored.answer)["order_number"]
    waiting = await store.trace(str(stored.order_id))
    await database.execute(
        "update orders.outbox set published_at = now(), attempts = 2 where id = $1", new.event.id
    )
    relayed = await store.trace(str(number))

    assert (waiting.order_id, waiting.order_number) == (str(stored.order_id), number)
    assert waiting.events == relayed.events == (str(new.event.id),)
    assert [step.what for step in waiting.steps] == [
        "order stored",
        "idempotency key kept",
        "order.created in the outbox",
        "order.created waits for the relay",
    ]
    assert "request 1" in waiting.steps[0].detail
    assert waiting.steps[1].detail == "key 1"
    assert waiting.steps[-1].at is None
    assert relayed.steps[-1].what == "order.created relayed"
    assert relayed.steps[-1].detail == "confirmed by the transport at attempt 2"


@pytest.mark.parametrize(
    "order",
    ["", "0", "-1", "999999999999999999999", "01a217d0-e2c2-7054-94d3-80dd76b3704e", "'; drop table x", "²", "x"],
)
async def test_what_is_no_order_has_no_trace(store: OrderStore, order: str) -> None:
    with pytest.raises(NotFound):
        await store.trace(order)
