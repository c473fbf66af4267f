"""The SQL of ``app trace``: all that role orders knows of one order, for an operator."""

from collections.abc import Sequence

from purveyor.kit.errors import NotFound
from purveyor.kit.ids import parse_id
from purveyor.kit.postgres import Database, Record
from purveyor.roles.orders.contract import OrderTrace, TraceStep


async def trace(database: Database, order: str) -> OrderTrace:
    """See ``OrderBook.trace``."""
    rows = await database.fetch(
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
    history = await database.fetch(
        """
        select at, what, actor, actor_id, actor_name, reason, request_id
        from orders.history where order_id = $1 and mail_kind is null order by id""",
        rows[0]["id"],
    )
    events = {row["event_id"]: row for row in rows if row["event_id"] is not None}
    steps = [*_placing(rows[0]), *(step for row in events.values() for step in _relaying(row))]
    return OrderTrace(
        order_id=str(rows[0]["id"]),
        order_number=rows[0]["number"],
        events=tuple(str(event_id) for event_id in events),
        steps=(*steps, *(_entry(row) for row in history)),
    )


def _placing(row: Record) -> Sequence[TraceStep]:
    steps = [
        TraceStep(
            at=row["created_at"],
            what="order stored",
            detail=f"number {row['number']}, status {row['status']}, request {row['request_id']}",
        )
    ]
    if row["key"] is not None:
        steps.append(TraceStep(at=row["created_at"], what="idempotency key kept", detail=row["key"]))
    return steps


def _relaying(row: Record) -> Sequence[TraceStep]:
    stored = TraceStep(at=row["occurred_at"], what=f"{row['type']} in the outbox", detail=str(row["event_id"]))
    if row["published_at"] is not None:
        detail = f"confirmed by the transport at attempt {row['attempts']}"
        return [stored, TraceStep(at=row["published_at"], what=f"{row['type']} relayed", detail=detail)]
    detail = f"{row['attempts']} attempts{': ' + row['last_error'] if row['last_error'] else ''}"
    return [stored, TraceStep(at=None, what=f"{row['type']} waits for the relay", detail=detail)]


def _entry(row: Record) -> TraceStep:
    """An entry of the history: who did it, and why. What became of mails, role email tells itself."""
    who = f"by {row['actor']} {row['actor_name']}".rstrip() + (f" ({row['actor_id']})" if row["actor_id"] else "")
    parts = [who, *([row["reason"]] if row["reason"] else []), f"request {row['request_id']}"]
    return TraceStep(at=row["at"], what=row["what"].replace("_", " "), detail=", ".join(parts))
