"""The SQL of role orders, schema ``orders``. Placing, getting and listing take one round trip each."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from purveyor.kit.errors import NotFound
from purveyor.kit.ids import parse_id
from purveyor.kit.postgres import Database, Record
from purveyor.roles.auth.contract import Address
from purveyor.roles.orders.contract import KeyReused, OrderTrace, RequestInProgress, TraceStep
from purveyor.roles.orders.model import Line, Order
from purveyor.roles.orders.ports import Filter, IdempotencyKey, NewOrder, Stored

_INSERTS = """
placed as (
    insert into orders.orders (id, number, user_id, user_email, user_name, status, payment_status,
        payment_method, currency, total, shipping_address, note, version, request_id, created_at, updated_at)
    select $1, number, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14 from gate
    returning number
), lines as (
    insert into orders.order_items (order_id, line, product_id, title, quantity, price)
    select $1, line.* from placed, unnest($15::smallint[], $16::bigint[], $17::text[], $18::int[], $19::bigint[])
        as line
), event as (
    insert into orders.outbox (id, type, body, occurred_at, subject, sequence, correlation_id, currency,
        language, traceparent)
    select $20, $21, $22::bytea || convert_to(number::text, 'UTF8') || $23::bytea, $14, $1::text, $12, $13, $8,
        $24, $25
    from placed
)
"""

_ADD = f"""
with gate as materialized (select nextval('orders.order_number') as number), {_INSERTS}
select number from placed"""  # noqa: S608 - constants

# The advisory lock tells a request that is being stored right now from one that was stored before: the second
# of two would otherwise wait inside "on conflict" for the first one's commit, and then not see its row.
_ADD_WITH_KEY = f"""
with free as materialized (
    select pg_try_advisory_xact_lock(hashtextextended($2 || ' ' || $26, 0)) as free
), numbered as materialized (
    select nextval('orders.order_number') as number from free where free
), kept as (
    insert into orders.idempotency_keys as kept (user_id, key, fingerprint, order_id, answer, expires_at)
    select $2, $26, $27, $1, $28::bytea || convert_to(number::text, 'UTF8') || $29::bytea,
        now() + interval '24 hours'
    from numbered
    on conflict (user_id, key) do update set fingerprint = excluded.fingerprint, order_id = excluded.order_id,
        answer = excluded.answer, expires_at = excluded.expires_at
    where kept.expires_at <= now()
    returning 1
), gate as (
    select number from numbered, kept
), {_INSERTS}
select free, (select number from placed) as number from free"""  # noqa: S608 - constants

_ORDER = """
    o.id, o.number, o.user_id, o.status, o.payment_status, o.payment_method, o.currency, o.total,
    o.shipping_address, o.note, o.version, o.created_at, o.updated_at,
    (select json_agg(json_build_array(i.product_id, i.title, i.quantity, i.price) order by i.line)
     from orders.order_items i where i.order_id = o.id)::text as lines"""

_lines = msgspec.json.Decoder(list[tuple[int, str, int, int]])
_address = msgspec.json.Decoder(Address)


class PostgresOrders:
    """Satisfies ``OrderBook``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, new: NewOrder) -> Stored:
        """See ``OrderBook``."""
        if new.key is None:
            number = await self._database.fetchval(_ADD, *_arguments(new))
            return Stored(new.order.id, new.answer.fill(number))
        kept = (new.key.key, new.key.fingerprint, new.answer.before, new.answer.after)
        row = await self._database.fetchrow(_ADD_WITH_KEY, *_arguments(new), *kept)
        if row is None or not row["free"]:
            raise RequestInProgress
        if row["number"] is not None:
            return Stored(new.order.id, new.answer.fill(row["number"]))
        found = await self.find_answer(new.key)
        if found is None:  # it expired between the two statements
            raise RequestInProgress
        return found

    async def find_answer(self, key: IdempotencyKey) -> Stored | None:
        """See ``OrderBook``."""
        row = await self._database.fetchrow(
            """
            select fingerprint, order_id, answer from orders.idempotency_keys
            where user_id = $1 and key = $2 and expires_at > now()""",
            key.user_id,
            key.key,
        )
        if row is None:
            return None
        if row["fingerprint"] != key.fingerprint:
            raise KeyReused
        return Stored(row["order_id"], row["answer"], replayed=True)

    async def get(self, order_id: UUID, owner: str | None) -> Order:
        """See ``OrderBook``."""
        row = await self._database.fetchrow(
            f"select {_ORDER} from orders.orders o where o.id = $1 and ($2::text is null or o.user_id = $2)",  # noqa: S608
            order_id,
            owner,
        )
        if row is None:
            raise NotFound("There is no such order.")
        return _order(row)

    async def list(self, wanted: Filter, limit: int) -> Sequence[Order]:
        """See ``OrderBook``.

        The ids are taken first, from an index alone: with the columns in one query PostgreSQL's generic plan
        may read and sort all orders of a customer who has many.
        """
        conditions, arguments = _conditions(wanted)
        rows = await self._database.fetch(
            f"""
            with page as materialized (
                select id from orders.orders where {conditions} order by id desc limit {int(limit)}
            )
            select {_ORDER} from page join orders.orders o using (id) order by o.id desc""",  # noqa: S608 - constants
            *arguments,
        )
        return [_order(row) for row in rows]

    async def trace(self, order: str) -> OrderTrace:
        """See ``OrderBook``."""
        rows = await self._database.fetch(
            """
            select o.id, o.number, o.status, o.user_email, o.request_id, o.created_at, k.key, e.id as event_id,
                e.type, e.occurred_at, e.published_at, e.attempts, e.last_error
            from orders.orders o
            left join orders.idempotency_keys k on k.order_id = o.id
            left join orders.outbox e on e.subject = o.id::text
            where o.id = $1 or o.number = $2 order by e.id""",
            parse_id(order),
            int(order) if order.isdecimal() and len(order) < 19 else None,  # noqa: PLR2004 - a bigint's digits
        )
        if not rows:
            raise NotFound(f"There is no order {order}.")
        return _trace(rows)

    async def purge(self) -> int:
        """See ``OrderBook``."""
        return await self._database.execute("delete from orders.idempotency_keys where expires_at < now()")


def _arguments(new: NewOrder) -> tuple[object, ...]:
    order, event = new.order, new.event
    lines = order.lines
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
        list(range(1, len(lines) + 1)),
        [line.product_id for line in lines],
        [line.title for line in lines],
        [line.quantity for line in lines],
        [line.price for line in lines],
        event.id,
        event.type,
        new.event_body.before,
        new.event_body.after,
        event.language,
        event.traceparent,
    )


def _conditions(wanted: Filter) -> tuple[str, list[Any]]:
    columns = {
        "user_id = {}": wanted.user_id,
        "status = {}": wanted.status,
        "number = {}": wanted.order_number,
        "created_at >= {}": wanted.created_from,
        "created_at < {}": wanted.created_to,
        "id < {}": wanted.after,
    }
    chosen = {condition: value for condition, value in columns.items() if value is not None}
    parts = [condition.format(f"${place}") for place, condition in enumerate(chosen, 1)]
    return " and ".join(parts) or "true", list(chosen.values())


def _order(row: Record) -> Order:
    return Order(
        id=row["id"],
        number=row["number"],
        user_id=row["user_id"],
        status=row["status"],
        payment_status=row["payment_status"],
        payment_method=row["payment_method"],
        currency=row["currency"],
        total=row["total"],
        lines=tuple(
            Line(product_id=product_id, title=title, quantity=quantity, price=price)
            for product_id, title, quantity, price in _lines.decode(row["lines"])
        ),
        shipping_address=_address.decode(row["shipping_address"]) if row["shipping_address"] else None,
        note=row["note"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _trace(rows: Sequence[Record]) -> OrderTrace:
    first = rows[0]
    steps = [
        TraceStep(
            at=first["created_at"],
            what="order stored",
            detail=f"number {first['number']}, status {first['status']}, request {first['request_id']}",
        )
    ]
    if first["key"] is not None:
        steps.append(TraceStep(at=first["created_at"], what="idempotency key kept", detail=first["key"]))
    events = {row["event_id"]: row for row in rows if row["event_id"] is not None}
    for event_id, row in events.items():
        steps.append(TraceStep(at=row["occurred_at"], what=f"{row['type']} in the outbox", detail=str(event_id)))
        if row["published_at"] is not None:
            detail = f"confirmed by the transport at attempt {row['attempts']}"
            steps.append(TraceStep(at=row["published_at"], what=f"{row['type']} relayed", detail=detail))
        else:
            detail = f"{row['attempts']} attempts{': ' + row['last_error'] if row['last_error'] else ''}"
            steps.append(TraceStep(at=None, what=f"{row['type']} waits for the relay", detail=detail))
    return OrderTrace(
        order_id=str(first["id"]),
        order_number=first["number"],
        events=tuple(str(event_id) for event_id in events),
        steps=tuple(steps),
    )
