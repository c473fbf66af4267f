"""Orders that are stored together: each has the result that it would have alone."""

import asyncio
import json
import random
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import msgspec
import pytest

from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import TokenInvalid, Unavailable
from purveyor.kit.events.outbox import COLUMNS
from purveyor.roles.auth.contract import Principal
from purveyor.roles.orders import store_inserts as module
from purveyor.roles.orders.contract import KeyReused, RequestInProgress
from purveyor.roles.orders.model import IdempotencyKey, NewOrder, StoredAnswer
from purveyor.roles.orders.store import OrderStore
from purveyor.roles.orders.store_inserts import OrderInserts
from roles.orders.samples import HOME, buyer, draft, new_order
from waiting import PATIENCE_S, until

_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


class Gate:
    """A database that notes how many orders each statement stores, and lets it begin when it is open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sizes: list[int] = []
        self.error: Exception | None = None
        self.opened = asyncio.Event()

    def has_seen_more_than(self, count: int) -> bool:
        return len(self.sizes) > count

    async def fetch(self, sql: str, *args: Any) -> Any:
        self.sizes.append(len(args[0]) if isinstance(args[0], list) else 1)
        await self.opened.wait()
        if self.error is not None:
            raise self.error
        return await self._database.fetch(sql, *args)


@pytest.fixture
def gate(database: Database) -> Gate:
    return Gate(database)


@pytest.fixture
def inserts(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> OrderInserts:
    """With time to get through the gate on a busy machine."""
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_S", PATIENCE_S)
    return OrderInserts(cast("Database", gate))


async def begin(
    inserts: OrderInserts, gate: Gate, *groups: Sequence[NewOrder]
) -> Sequence[Sequence[asyncio.Task[Any]]]:
    """Add orders whose statements wait at the gate, group after group."""
    begun = []
    for group in groups:
        count = len(gate.sizes)
        begun.append([asyncio.create_task(inserts.add(new)) for new in group])
        await until(partial(gate.has_seen_more_than, count))
    return begun


async def is_stored(database: Database, new: NewOrder) -> bool:
    found: bool = await database.fetchval("select exists (select from orders.orders where id = $1)", new.order.id)
    return found


def orders(count: int) -> list[NewOrder]:
    return [new_order(buyer()) for _ in range(count)]


async def test_orders_that_wait_share_a_statement(inserts: OrderInserts, gate: Gate) -> None:
    many = module._MAX_GROUP
    groups = await begin(inserts, gate, orders(1), orders(20), orders(many + 3))
    gate.opened.set()
    stored = [await task for group in groups for task in group]

    assert gate.sizes == [1, 20, many, 3]
    assert len({one.number for one in stored}) == len(stored)


async def test_order_that_is_refused_fails_alone(store: OrderStore, database: Database) -> None:
    known = new_order(buyer())
    await store.add(known)
    clashing = msgspec.structs.replace(new_order(buyer()), event=known.event)
    unreadable = msgspec.structs.replace(new_order(buyer()), buyer_name="\x00")
    good = [new_order(buyer()) for _ in range(10)]
    group = [*good[:5], clashing, unreadable, *good[5:]]
    outcomes = await asyncio.gather(*map(store.add, group), return_exceptions=True)

    failed = [new for new, outcome in zip(group, outcomes, strict=True) if isinstance(outcome, Exception)]
    assert failed == [clashing, unreadable]
    for new in group:
        assert await is_stored(database, new) == (new in good)


async def test_group_without_an_answer_is_not_stored_again(inserts: OrderInserts, gate: Gate) -> None:
    """It may have been stored: only an idempotency key tells."""
    groups = await begin(inserts, gate, orders(1), orders(3))
    gate.error = Unavailable("The database does not answer.")
    gate.opened.set()
    outcomes = await asyncio.gather(*groups[1], return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    assert gate.sizes == [1, 3]
    with pytest.raises(Unavailable):
        await groups[0][0]


async def test_cancelled_caller_does_not_cancel_the_others(
    inserts: OrderInserts, gate: Gate, database: Database
) -> None:
    pair, late = orders(2), orders(2)
    groups = await begin(inserts, gate, orders(1), pair, *(orders(1) for _ in range(module._MAX_GROUPS - 1)))
    waiting = [asyncio.create_task(inserts.add(new)) for new in late]
    await asyncio.sleep(0)
    groups[1][0].cancel()
    waiting[0].cancel()
    gate.opened.set()

    assert (await groups[1][1]).number is not None
    assert (await waiting[1]).number is not None
    assert await is_stored(database, pair[0]), "its statement had begun"
    assert not await is_stored(database, late[0]), "it was withdrawn"


async def test_order_whose_deadline_passes_before_its_statement_is_not_stored(
    inserts: OrderInserts, gate: Gate, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = await begin(inserts, gate, *(orders(1) for _ in range(module._MAX_GROUPS + 1)))
    late = new_order(buyer())
    with monkeypatch.context() as patch:
        patch.setattr(module, "COMMAND_TIMEOUT_S", 0.001)
        with pytest.raises(Unavailable):
            await inserts.add(late)
    gate.opened.set()
    await asyncio.gather(*(task for group in groups for task in group))

    assert not await is_stored(database, late)


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


def mixed(people: Sequence[Principal], seed: int) -> list[NewOrder]:
    """Orders of these people, some under the same key, some of those for another request."""
    chance = random.Random(seed)
    found = []
    for _ in range(module._MAX_GROUP):
        who, name = chance.choice(people), chance.choice([None, "a", "b", "expired"])
        key = IdempotencyKey(who.user_id, name, chance.choice([b"one", b"two"])) if name else None
        lines = [(number, chance.randint(1, 9)) for number in chance.sample([1, 2, 3], chance.randint(1, 3))]
        wanted = draft(*lines, address=chance.choice([HOME, None]), note=chance.choice(["", "näher: 'x'; --"]))
        found.append(new_order(who, wanted, key))
    return found


async def prepare(store: OrderStore, database: Database) -> list[Principal]:
    """Four buyers. The last was erased, and the others have a key that expired."""
    *people, erased = (buyer() for _ in range(4))
    await database.execute("insert into orders.erased_users values ($1, now())", erased.user_id)
    for who in people:
        await store.add(new_order(who, key=IdempotencyKey(who.user_id, "expired", b"old")))
        await database.execute(
            "update orders.idempotency_keys set expires_at = now() where user_id = $1", who.user_id
        )
    return [*people, erased]


async def outcome_of(store: OrderStore, new: NewOrder) -> StoredAnswer | type[Exception]:
    while True:
        try:
            return await store.add(new)
        except RequestInProgress:
            await asyncio.sleep(0)
        except (KeyReused, TokenInvalid) as refusal:
            return type(refusal)


async def rows_about(database: Database, table: str, owner: str, new: Sequence[NewOrder]) -> Sequence[Any]:
    """The rows of a table that belong to these orders."""
    rows = await database.fetch(
        f"select t.*, o.number as the_number from {table} t join orders.orders o on o.id::text = t.{owner}::text"
        " where o.id = any($1) order by array_position($1, o.id), t",
        [each.order.id for each in new],
    )
    return [dict(row) for row in rows]


async def all_rows(database: Database, new: Sequence[NewOrder], people: Sequence[Principal]) -> str:
    """Everything that is stored about these orders, with names in place of ids, numbers and times."""
    tables = {
        "orders.orders": "id",
        "orders.order_items": "order_id",
        "orders.outbox": "subject",
        "orders.search_texts": "order_id",
        "orders.idempotency_keys": "order_id",
    }
    rows = {table: await rows_about(database, table, owner, new) for table, owner in tables.items()}
    names = {who.user_id: f"user {place}" for place, who in enumerate(people)}
    for place, each in enumerate(new):
        names |= {str(each.order.id): f"order {place}", str(each.event.id): f"event {place}"}
    varying = {"created_at", "updated_at", "occurred_at", "next_attempt_at", "expires_at", "traceparent"}
    found = []
    for table, entries in rows.items():
        for row in entries:
            number = str(row.pop("the_number"))
            assert all(row[name] is not None for name in varying & row.keys())
            text = f"{table} { {name: value for name, value in row.items() if name not in varying} }"
            for known, name in names.items():
                text = text.replace(known, name)
            found.append(_TIME.sub("TIME", text.replace(number, "NUMBER")))
    return "\n".join(found)


@pytest.mark.parametrize("seed", range(5))
async def test_orders_at_once_have_the_results_of_one_after_another(
    store: OrderStore, database: Database, seed: int
) -> None:
    texts, results = [], []
    for at_once in (True, False):
        people = await prepare(store, database)
        new = mixed(people, seed)
        if at_once:
            outcomes = await asyncio.gather(*(outcome_of(store, each) for each in new))
        else:
            outcomes = [await outcome_of(store, each) for each in new]
        ids = [each.order.id for each in new]
        results.append(
            [
                (ids.index(each.order_id), each.replayed) if isinstance(each, StoredAnswer) else each
                for each in outcomes
            ]
        )
        stored = {each.order_id: each.answer for each in outcomes if isinstance(each, StoredAnswer)}
        for each in outcomes:
            if isinstance(each, StoredAnswer):
                assert each.answer == stored[each.order_id]
                found = await store.get(each.order_id, None)
                assert json.loads(each.answer)["order_number"] == found.number
        texts.append(await all_rows(database, new, people))
    assert results[0] == results[1]
    assert {type(each) for each in results[0]} == {tuple, type}
    assert KeyReused in results[0]
    assert TokenInvalid in results[0]
    assert texts[0] == texts[1]
    assert all(
        column in texts[0] for column in COLUMNS.split(", ") if column not in ("occurred_at", "traceparent")
    )
