"""Stores new orders. Those that wait at the same moment share one statement and its commit."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from purveyor.kit.coalescer import Coalescer, alone_after_failure
from purveyor.kit.db.postgres import AWAY, COMMAND_TIMEOUT_S, Database, columns
from purveyor.kit.deadline import deadline_at, seconds_left
from purveyor.kit.errors import Unavailable
from purveyor.kit.events.outbox import COLUMNS, TYPES, values
from purveyor.roles.orders.model import NewOrder, NumberPlaceholder
from purveyor.roles.orders.search import text_of

_MAX_GROUP = 32
_MAX_GROUPS = 3
"""Maximum number of groups that are stored at the same time, so that a lock delays only one of them."""
_ORDER = {
    "id": "uuid",
    "user_id": "text",
    "user_email": "text",
    "user_name": "text",
    "status": "text",
    "payment_status": "text",
    "payment_method": "text",
    "currency": "text",
    "total": "bigint",
    "shipping_address": "bytea",
    "note": "text",
    "version": "int",
    "request_id": "text",
    "created_at": "timestamptz",
    "updated_at": "timestamptz",
    "language": "text",
}
_KEY = {"key": "text", "fingerprint": "bytea", "answer_before": "bytea", "answer_after": "bytea"}
_EVENT = {f"event_{name}": type_ for name, type_ in TYPES.items()} | {"event_body_after": "bytea"}
_ROW = _ORDER | _EVENT | {"search_text": "text"} | _KEY
_LINE = {
    "order_id": "uuid",
    "line": "smallint",
    "product_id": "bigint",
    "title": "text",
    "quantity": "int",
    "price": "bigint",
    "product_text": "text",
}
_NUMBER = "convert_to(number::text, 'UTF8')"


def _parameters(types: Iterable[str], *, first: int = 1, suffix: str = "") -> Iterable[str]:
    return (f"${place}::{type_}{suffix}" for place, type_ in enumerate(types, first))


def _insert(source: str, new: Mapping[str, str]) -> str:
    """Build the statement that stores the rows of ``source``. ``new`` maps names to the expressions of values.

    The advisory lock distinguishes a request that is being stored from one that was stored before. Without it the
    second of two would wait inside "on conflict" for the first one's commit, and then not see its row.
    """
    body = f"{new['event_body']} || {_NUMBER} || {new['event_body_after']}"
    event = [body if name == "body" else new[f"event_{name}"] for name in TYPES]
    lines = ", ".join(_parameters(_LINE.values(), first=len(_ROW) + 1, suffix="[]"))
    return f"""
with asked as materialized (
    select row.*, {new["key"]} is null
        or pg_try_advisory_xact_lock(hashtextextended({new["user_id"]} || ' ' || {new["key"]}, 0)) as free,
        exists (select from orders.erased_users where user_id = {new["user_id"]}) as erased
    from {source}
), numbered as materialized (
    select *, nextval('orders.order_number') as number from asked where free and not erased
), kept as (
    insert into orders.idempotency_keys as kept (user_id, key, fingerprint, order_id, answer, expires_at)
    select {new["user_id"]}, {new["key"]}, {new["fingerprint"]}, {new["id"]},
        {new["answer_before"]} || {_NUMBER} || {new["answer_after"]}, now() + interval '24 hours'
    from numbered where {new["key"]} is not null
    on conflict (user_id, key) do update set fingerprint = excluded.fingerprint, order_id = excluded.order_id,
        answer = excluded.answer, expires_at = excluded.expires_at
    where kept.expires_at <= now()
    returning order_id
), gate as materialized (
    select * from numbered where {new["key"]} is null or {new["id"]} in (select order_id from kept)
), placed as (
    insert into orders.orders ({", ".join(_ORDER)}, number)
    select {", ".join(new[name] for name in _ORDER)}, number from gate
), lines as (
    insert into orders.order_items ({", ".join(_LINE)})
    select line.* from unnest({lines}) as line ({", ".join(_LINE)})
    where order_id in (select {new["id"]} from gate)
), event as (
    insert into orders.outbox ({COLUMNS}) select {", ".join(event)} from gate
), searched as (
    insert into orders.search_texts (order_id, text)
    select {new["id"]}, ' ' || number || {new["search_text"]} from gate
)
select asked.free, asked.erased, gate.number from asked left join gate using (place) order by place"""  # noqa: S608


_PARAMETERS = dict(zip(_ROW, _parameters(_ROW.values()), strict=True))
_INSERT_ONE = _insert("(values (1)) as row (place)", _PARAMETERS)
_ARRAYS = ", ".join(_parameters(_ROW.values(), suffix="[]"))
_COLUMNS = {name: f"new_{name}" for name in _ROW}
_INSERT_GROUP = _insert(
    f"unnest({_ARRAYS}) with ordinality as row ({', '.join(_COLUMNS.values())}, place)", _COLUMNS
)


class Inserted(NamedTuple):
    """Outcome of storing an order. ``number`` is ``None`` if it was not stored."""

    free: bool
    """False if another request with its idempotency key is being stored."""
    erased: bool
    """True if the buyer was erased."""
    number: int | None


class _Waiting(NamedTuple):
    new: NewOrder
    answer_by: float

    def is_late(self) -> bool:
        return self.answer_by <= asyncio.get_running_loop().time()


class OrderInserts:
    """Stores new orders with their lines, idempotency keys, events and search texts.

    A single order is stored at once. If the database refuses a group, each of its orders is stored alone, so that
    only the faulty one fails.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store_round = alone_after_failure(self._insert)
        self._groups: Coalescer[_Waiting, Inserted] = Coalescer(
            self._store, max_size=_MAX_GROUP, max_running=_MAX_GROUPS
        )
        self._is_busy = False

    async def add(self, new: NewOrder) -> Inserted:
        """Store an order, unless its key was used before.

        Raises ``Unavailable``; then it is unknown whether the order was stored. Cancelling a call withdraws the
        order if its statement has not begun, and does not affect other orders.
        """
        answer_by = asyncio.get_running_loop().time() + seconds_left(COMMAND_TIMEOUT_S)
        if not self._is_busy and self._groups.is_idle:
            self._is_busy = True
            try:
                return (await self._insert([_Waiting(new, answer_by)]))[0]
            finally:
                self._is_busy = False
        try:
            async with asyncio.timeout_at(answer_by):
                return await self._groups.call(_Waiting(new, answer_by))
        except TimeoutError as late:
            raise Unavailable(AWAY) from late

    async def _store(self, group: Sequence[_Waiting]) -> Sequence[Inserted | Exception]:
        found: dict[int, Inserted | Exception] = {}
        for places in _rounds(group):
            outcomes = await self._store_round([group[place] for place in places])
            found.update(zip(places, outcomes, strict=True))
        return [found[place] if place in found else Unavailable(AWAY) for place in range(len(group))]

    async def _insert(self, group: Sequence[_Waiting]) -> Sequence[Inserted]:
        """Store orders by one statement, unless all of them are late."""
        if all(waiting.is_late() for waiting in group):
            raise Unavailable(AWAY)
        orders = [_row(waiting.new) for waiting in group]
        lines = [line for waiting in group for line in _lines(waiting.new)]
        # With parameters instead of arrays, an order alone takes two thirds of the time.
        insert, values = (_INSERT_ONE, orders[0]) if len(group) == 1 else (_INSERT_GROUP, columns(orders))
        with deadline_at(max(waiting.answer_by for waiting in group)):
            rows = await self._database.fetch(insert, *values, *columns(lines))
        return [Inserted(*row) for row in rows]


def _rounds(group: Sequence[_Waiting]) -> Sequence[Sequence[int]]:
    """Split the orders that are not late into rounds of places, with each idempotency key once per round.

    One statement cannot write the same key twice.
    """
    rounds: list[list[int]] = []
    seen: Counter[tuple[str, str]] = Counter()
    for place, waiting in enumerate(group):
        if waiting.is_late():
            continue
        number, key = 0, waiting.new.key
        if key is not None:
            number = seen[key.user_id, key.key]
            seen[key.user_id, key.key] += 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    return rounds


def _row(new: NewOrder) -> tuple[object, ...]:
    """The values of ``_ROW``."""
    order, event, key = new.order, new.event, new.key
    body = NumberPlaceholder.split(event.body)
    return (
        order.id,
        order.user_id,
        new.buyer_email,
        new.buyer_name,
        order.status,
        order.payment_status,
        order.payment_method,
        order.currency,
        order.total,
        msgspec.json.encode(order.shipping_address) if order.shipping_address else None,
        order.note,
        order.version,
        event.correlation_id,
        order.created_at,
        order.updated_at,
        event.language,
        *values(msgspec.structs.replace(event, body=body.before)),
        body.after,
        text_of(order, new.buyer_name, new.buyer_email),
        *((key.key, key.fingerprint, new.answer.before, new.answer.after) if key else (None,) * len(_KEY)),
    )


def _lines(new: NewOrder) -> Sequence[tuple[object, ...]]:
    """The values of ``_LINE``, line by line."""
    return [
        (
            new.order.id,
            place,
            None if isinstance(line.product_id, str) else line.product_id,
            line.title,
            line.quantity,
            line.price,
            line.product_id if isinstance(line.product_id, str) else None,
        )
        for place, line in enumerate(new.order.lines, 1)
    ]
