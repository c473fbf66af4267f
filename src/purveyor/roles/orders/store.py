"""The SQL of role orders, schema ``orders``. Placing, reading, listing and changing take one round trip each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from uuid import UUID

import msgspec

from purveyor.kit import log
from purveyor.kit.clock import now
from purveyor.kit.coalescer import Coalescer, alone_after_failure
from purveyor.kit.db.postgres import Connection, Database, Record, columns, storable, unnest
from purveyor.kit.db.rows import Rows
from purveyor.kit.db.standby import Reads
from purveyor.kit.errors import NotFound, TokenInvalid
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import KEEP, emit, insert_into, values
from purveyor.kit.ids import first_id_of, parse_id
from purveyor.roles.auth.contract import Address
from purveyor.roles.email.contract import SUPERSEDED
from purveyor.roles.orders.contract import KeyReused, OrderTrace, ProductId, RequestInProgress, TraceStep
from purveyor.roles.orders.model import (
    Buyer,
    ChangedBy,
    Entry,
    IdempotencyKey,
    Line,
    MailOutcome,
    NewOrder,
    Order,
    OrderFilter,
    StoredAnswer,
    StoredOrder,
    Timeline,
    Transition,
    placed,
)
from purveyor.roles.orders.search import SearchTexts
from purveyor.roles.orders.store_inserts import OrderInserts
from purveyor.roles.orders.store_lists import SORTS, Page, find_page
from purveyor.roles.orders.store_search import search

_MAX_REPLY = 1000
_NO_ORDER = "There is no such order."
_ORDER = """
    o.id, o.number, o.user_id, o.status, o.payment_status, o.payment_method, o.currency, o.total,
    o.shipping_address, o.note, o.version, o.created_at, o.updated_at,
    (select json_agg(json_build_array(
        coalesce(to_json(i.product_id), to_json(i.product_text)), i.title, i.quantity, i.price) order by i.line)
     from orders.order_items i where i.order_id = o.id)::text as lines"""
_KEPT = f"""{_ORDER}, o.user_email, o.user_name, o.language, o.erased_at is not null as erased,
    (select u.until from orders.undoable u where u.order_id = o.id and u.version = o.version and u.until > now())
        as undo_until"""  # noqa: S608 - constants

# The version guards the row: the second of two concurrent changes waits for the row's lock, then finds another
# version and changes nothing. An earlier event that is still held back goes out no later than this one.
_CHANGE = f"""
with changed as (
    update orders.orders set status = $3, payment_status = $4, version = $5, updated_at = $6,
        entries = entries + cardinality($11::text[])
    where id = $1 and version = $2
    returning entries - cardinality($11::text[]) as before
), noted as (
    insert into orders.history (order_id, id, at, what, actor, actor_id, actor_name, reason, request_id)
    select $1, before + entry.place, $6, entry.what, $7, $8, $9, $10, $12
    from changed, unnest($11::text[]) with ordinality as entry (what, place)
), event as (
    {insert_into("orders", first=13, source="changed", hold_s="$23")}
), payment_event as (
    {insert_into("orders", first=26, source="changed", hold_s="$23")}
), earlier as (
    update orders.outbox set next_attempt_at = least(next_attempt_at, now() + make_interval(secs => $23))
    from changed where subject = $1::text and published_at is null and attempts = 0 and next_attempt_at > now()
), undoable as (
    insert into orders.undoable (order_id, version, status, payment_status, until)
    select $1, $5, $24, $25, $6::timestamptz + make_interval(secs => $23) from changed where $23 > 0
    on conflict (order_id) do update set version = excluded.version, status = excluded.status,
        payment_status = excluded.payment_status, until = excluded.until
)
select count(*) from changed"""  # noqa: S608 - constants
_ENTRY = """
    h.id, h.at, h.what, h.actor, h.actor_id, h.actor_name, h.reason, h.request_id, h.mail_event_id, h.mail_kind,
    h.mail_state, h.mail_attempts, h.mail_resends, h.smtp_reply, h.mail_error"""

_KEEP_MARGIN = timedelta(days=1)
_lines = msgspec.json.Decoder(list[tuple[ProductId, str, int, int]])
_address = msgspec.json.Decoder(Address)


class OrderStore:
    """Stores orders with their lines, idempotency keys and events."""

    def __init__(self, database: Database, reads: Reads | None = None) -> None:
        self._database = database
        self._reads = reads or Reads(database)
        self._rows = Rows(database, f"select {_KEPT} from orders.orders o where o.id = any($1)")  # noqa: S608
        self._inserts = OrderInserts(database)
        self.search = SearchTexts(database)

    async def add(self, new: NewOrder) -> StoredAnswer:
        """Store order, lines, idempotency key and event together.

        A known key returns the first answer, or raises ``KeyReused`` for another request and ``RequestInProgress``
        while the first one is being stored. Raises ``TokenInvalid`` when the buyer was erased.
        """
        inserted = await self._inserts.add(new)
        if not inserted.free:
            raise RequestInProgress
        if inserted.erased:
            raise TokenInvalid
        if inserted.number is not None:
            return StoredAnswer(new.order.id, new.answer.fill(inserted.number))
        assert new.key is not None  # noqa: S101 - without a key nothing else prevents an insert
        found = await self.find_answer(new.key)
        if found is None:  # it expired between the two statements
            raise RequestInProgress
        return found

    async def find_answer(self, key: IdempotencyKey) -> StoredAnswer | None:
        """The answer stored for a key, or ``None``. Raises ``KeyReused`` for another request."""
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
        return StoredAnswer(row["order_id"], row["answer"], replayed=True)

    async def get(self, order_id: UUID, owner: str | None) -> Order:
        """One order, of this owner unless ``None``. Raises ``NotFound``."""
        return _order(await self._one(_ORDER, order_id, owner))

    async def find(self, order_id: UUID, owner: str | None, connection: Connection | None = None) -> StoredOrder:
        """One order with what is stored beside it, of this owner unless ``None``. Raises ``NotFound``.

        Calls without a connection that wait at the same time share a statement.
        """
        if connection is not None:
            return _kept(await self._one(_KEPT, order_id, owner, connection))
        row = await self._rows.find(order_id)
        if row is None or owner not in (None, row["user_id"]):
            raise NotFound(_NO_ORDER)
        return _kept(row)

    async def _one(
        self, columns: str, order_id: UUID, owner: str | None, connection: Connection | None = None
    ) -> Record:
        row = await (connection or self._database).fetchrow(
            f"select {columns} from orders.orders o where o.id = $1 and ($2::text is null or o.user_id = $2)",  # noqa: S608
            order_id,
            owner,
        )
        if row is None:
            raise NotFound(_NO_ORDER)
        return row

    async def list(self, wanted: OrderFilter, limit: int) -> Sequence[Order]:
        """At most ``limit`` orders, newest first."""
        return [_order(row) for row in await self._page(_ORDER, wanted, limit)]

    async def page(self, wanted: OrderFilter, limit: int) -> Sequence[StoredOrder]:
        """Like ``list``, with what is stored beside the orders."""
        return [_kept(row) for row in await self._page(_KEPT, wanted, limit)]

    async def _page(self, columns: str, wanted: OrderFilter, limit: int) -> Sequence[Record]:
        # The ids come first, from an index alone: with all columns in one query PostgreSQL's generic plan may read
        # and sort all orders of a customer who has many.
        order_by, _ = SORTS[wanted.sort]
        rest = f"select {columns} from page join orders.orders o using (id) order by {order_by}"  # noqa: S608
        if wanted.words:
            texts = await self.search.conditions(wanted.words)
            statement = f"with page as (select unnest($1::uuid[]) as id) {rest}"
            return await self._reads.run(partial(_matching, statement, wanted, limit, texts))
        page = find_page(wanted, limit)
        return await self._reads.run(partial(_rows, f"with page as materialized ({page.sql}) {rest}", page))

    async def change(self, transition: Transition, connection: Connection | None = None) -> bool:
        """Store the new state, the history and the event together; ``False``: another change came first."""
        order, event = transition.order, transition.event
        changed = await (connection or self._database).fetchval(
            _CHANGE,
            order.id,
            transition.was,
            order.status,
            order.payment_status,
            order.version,
            order.updated_at,
            transition.by.kind,
            transition.by.id,
            transition.by.name,
            transition.reason,
            transition.entries,
            transition.request_id,
            *values(event),
            transition.hold_mail_s,
            *transition.restores,
            *values(transition.payment_event),
        )
        return bool(changed)

    async def trace(self, order: str) -> OrderTrace:
        """Everything known about an order, by its id or number. Raises ``NotFound``."""
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
        history = await self._database.fetch(
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
            steps=(*steps, *(_history_step(row) for row in history)),
        )

    async def unannounced(self, type_: str, limit: int) -> Sequence[str]:
        """Orders without an event of this type, oldest first, within the time for which events are kept."""
        rows = await self._database.fetch(
            """
            select o.id::text as id from orders.orders o
            where o.id > $1 and o.user_email <> '' and not exists (
                select from orders.outbox e where e.subject = o.id::text and e.type = $2
            )
            order by o.id limit $3""",
            first_id_of(now() - KEEP + _KEEP_MARGIN),
            type_,
            limit,
        )
        return [row["id"] for row in rows]

    async def announce(self, event: Envelope) -> bool:
        """Store an event; ``False`` when the order has one of its type."""
        return await emit(self._database, "orders", event, known="skipped") == 1

    async def purge(self) -> int:
        """Delete expired idempotency keys; how many."""
        return await self._database.purge("orders.idempotency_keys", "expires_at < now()")


async def _matching(
    statement: str, wanted: OrderFilter, limit: int, texts: Mapping[str, str], database: Database
) -> Sequence[Record]:
    async with database.transaction() as connection:
        found = await search(connection, wanted, limit, texts)
        rows: Sequence[Record] = await connection.fetch(statement, found) if found else []
        return rows


async def _rows(statement: str, page: Page, database: Database) -> Sequence[Record]:
    if not page.needs_values:
        return await database.fetch(statement, *page.arguments)
    async with database.transaction() as connection:
        await connection.execute("set local plan_cache_mode = force_custom_plan")
        rows: Sequence[Record] = await connection.fetch(statement, *page.arguments)
        return rows


_OUTCOME = {
    "order_id": "uuid",
    "at": "timestamptz",
    "what": "text",
    "event_id": "text",
    "kind": "text",
    "state": "text",
    "attempts": "int",
    "resends": "int",
    "reply": "text",
    "error": "text",
    "request_id": "text",
}
_Outcome = tuple[UUID, datetime, str, str, str, str, int, int, str, str, str]
"""The values of the columns ``_OUTCOME``."""
# The orders of a statement differ and are locked in the order of its rows, so that two groups cannot deadlock.
# Two deliveries of one event at once may both count up: that leaves a gap in the ids and one entry. The mail
# server's reply may contain an address, so an erased order keeps none. ">= 0", which holds for all, lets the
# planner expect one outcome at most: else it reads all orders while they are few, and goes on until they are
# analyzed again.
_ADD_MAILS = f"""
with told as materialized (
    select new.*, kept from {unnest(*_OUTCOME.values())} as new ({", ".join(_OUTCOME)}), lateral (
        select erased_at is null as kept from orders.orders where id = new.order_id for no key update offset 0
    ) as locked
    where attempts >= 0 and resends >= 0 and not exists (
        select from orders.history h where h.order_id = new.order_id and h.mail_event_id = new.event_id
            and h.mail_state = new.state and h.mail_resends = new.resends offset 0
    )
), trouble as (
    insert into orders.mail_troubles (order_id, event_id)
    select order_id, event_id from told
    where state in ('failed', 'unknown') and not starts_with(error, '{SUPERSEDED}') and not exists (
        select from orders.history h where h.order_id = told.order_id and h.mail_event_id = told.event_id
            and h.mail_state in (told.state, 'sent') and h.mail_resends >= told.resends offset 0
    )
    on conflict do nothing
), mended as (
    delete from orders.mail_troubles t using told
    where t.order_id = told.order_id and t.event_id = told.event_id and told.state = 'sent'
), noted as (
    update orders.orders set entries = entries + 1 from told where id = order_id returning told.*, entries
)
insert into orders.history (order_id, id, at, what, actor, request_id, mail_event_id, mail_kind,
    mail_state, mail_attempts, mail_resends, smtp_reply, mail_error)
select order_id, entries, at, what, 'system', request_id, event_id, kind, state, attempts, resends,
    case when kept then reply else '' end, case when kept then error else '' end
from noted
on conflict (order_id, mail_event_id, mail_state, mail_resends) where mail_event_id is not null
do nothing"""  # noqa: S608 - constants
_MAX_OUTCOMES = 50


class HistoryStore:
    """Stores the history of orders."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._outcomes: Coalescer[_Outcome, None] = Coalescer(
            alone_after_failure(self._add_mails), max_size=_MAX_OUTCOMES
        )

    async def timeline(self, order_id: UUID, owner: str | None) -> Timeline:
        """The history of one order, of this owner unless ``None``. Raises ``NotFound``."""
        rows = await self._database.fetch(
            f"""
            select o.number, o.user_id, o.user_name, o.request_id as placed_by, o.created_at, {_ENTRY}
            from orders.orders o left join orders.history h on h.order_id = o.id
            where o.id = $1 and ($2::text is null or o.user_id = $2) order by h.id""",  # noqa: S608 - constants
            order_id,
            owner,
        )
        if not rows:
            raise NotFound("There is no such order.")
        first = rows[0]
        start = placed(first["user_id"], first["user_name"], first["created_at"], first["placed_by"])
        later = [_entry(row) for row in rows if row["id"] is not None]
        return Timeline(order_id, first["number"], (start, *later))

    async def news(self, after: Mapping[UUID, int]) -> Mapping[UUID, Sequence[Entry]]:
        """New entries of these orders, each after the id given (at least 1). Orders without any are absent."""
        rows = await self._database.fetch(
            f"""
            select h.order_id, {_ENTRY}
            from unnest($1::uuid[], $2::int[]) as known (order_id, last)
            join orders.history h on h.order_id = known.order_id and h.id > known.last
            order by h.order_id, h.id""",  # noqa: S608 - constants
            list(after),
            list(after.values()),
        )
        found: dict[UUID, list[Entry]] = {}
        for row in rows:
            found.setdefault(row["order_id"], []).append(_entry(row))
        return found

    async def add_mail(self, order_id: UUID, mail: MailOutcome, at: datetime) -> None:
        """Add the outcome of a mail once. An order that is not ours is ignored.

        Outcomes that are added at the same moment share a round trip and a commit.
        """
        await self._outcomes.call(
            (
                order_id,
                at,
                mail.what,
                mail.event_id,
                mail.kind,
                mail.state,
                mail.attempts,
                mail.resends,
                storable(mail.smtp_reply, _MAX_REPLY),
                storable(mail.error, _MAX_REPLY),
                log.request_id.get(),
            )
        )

    async def _add_mails(self, outcomes: Sequence[_Outcome]) -> Sequence[None]:
        await self._database.fetchmany(_ADD_MAILS, [tuple(columns(one)) for one in _of_different_orders(outcomes)])
        return [None] * len(outcomes)


def _of_different_orders(outcomes: Sequence[_Outcome]) -> Sequence[Sequence[_Outcome]]:
    """Split outcomes into groups without two of the same order, each sorted by order."""
    groups: list[list[_Outcome]] = []
    seen: Counter[UUID] = Counter()
    for outcome in sorted(outcomes, key=itemgetter(0)):
        if seen[outcome[0]] == len(groups):
            groups.append([])
        groups[seen[outcome[0]]].append(outcome)
        seen[outcome[0]] += 1
    return groups


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


def _kept(row: Record) -> StoredOrder:
    return StoredOrder(
        order=_order(row),
        buyer=Buyer(row["user_name"], row["user_email"], row["language"]),
        erased=row["erased"],
        undo_until=row["undo_until"],
    )


def _entry(row: Record) -> Entry:
    mail = None
    if row["mail_event_id"] is not None:
        mail = MailOutcome(
            event_id=row["mail_event_id"],
            kind=row["mail_kind"],
            state=row["mail_state"],
            attempts=row["mail_attempts"],
            resends=row["mail_resends"],
            smtp_reply=row["smtp_reply"],
            error=row["mail_error"],
        )
    return Entry(
        id=row["id"],
        at=row["at"],
        what=row["what"],
        by=ChangedBy(row["actor"], row["actor_id"], row["actor_name"]),
        reason=row["reason"],
        request_id=row["request_id"],
        mail=mail,
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


def _history_step(row: Record) -> TraceStep:
    """An entry of the history. Mails are traced by role email itself."""
    who = f"by {row['actor']} {row['actor_name']}".rstrip() + (f" ({row['actor_id']})" if row["actor_id"] else "")
    parts = [who, *([row["reason"]] if row["reason"] else []), f"request {row['request_id']}"]
    return TraceStep(at=row["at"], what=row["what"].replace("_", " "), detail=", ".join(parts))
