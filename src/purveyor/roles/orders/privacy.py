"""Personal data in role orders: erasure and export."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

import msgspec

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import Conflict
from purveyor.kit.events.chunking import PART_DOCUMENTS, parts
from purveyor.kit.events.message import Envelope, encode
from purveyor.kit.events.outbox import KEEP, emit
from purveyor.roles.auth.contract import UserErased, UserExportRequested
from purveyor.roles.orders.contract import OrderDataErased, OrderDataExported
from purveyor.roles.orders.model import (
    NEXT_STATUS,
    ChangedBy,
    Entry,
    OrderFilter,
    StoredOrder,
    placed,
)
from purveyor.roles.orders.schemas import entry_view, order_view
from purveyor.roles.orders.service import OrderChange, transition_of
from purveyor.roles.orders.store import HistoryStore, OrderStore

_TRIES = 5


class PersonalData:
    """Handle erasure and export requests. ``committed`` is called after an event was stored."""

    def __init__(
        self,
        store: "PersonalDataStore",
        orders: OrderStore,
        histories: HistoryStore,
        *,
        committed: Callable[[], None],
    ) -> None:
        self._store = store
        self._orders = orders
        self._histories = histories
        self._committed = committed

    async def erase(self, erased: UserErased, _envelope: Envelope) -> None:
        """Handle ``user.erased``: erase, and emit the answer in the same transaction.

        Open orders retain what their delivery needs. Those that can be cancelled are, if the user wishes so.
        """
        at = now()
        await self._store.retain(erased.user_id, at)
        if erased.cancel_open_orders:
            await self._cancel_open(erased.user_id)
        await self._store.erase(erased.user_id, at)
        self._committed()

    async def sweep(self) -> None:
        """Erase what is due, and what arrived after an erasure."""
        if await self._store.sweep():
            self._committed()

    async def _cancel_open(self, user_id: str) -> None:
        after = None
        while page := await self._orders.page(OrderFilter(user_id=user_id, after=after), PART_DOCUMENTS):
            for stored in page:
                await self._cancel(stored)
            after = page[-1].order.id

    async def _cancel(self, stored: StoredOrder) -> None:
        by = ChangedBy("customer", stored.order.user_id)
        for _ in range(_TRIES):
            if "cancelled" not in NEXT_STATUS[stored.order.status]:
                return
            if await self._orders.change(transition_of(stored, OrderChange(status="cancelled"), by)):
                return
            stored = await self._orders.find(stored.order.id, None)
        raise Conflict(f"Order {stored.order.id} was changed by others at the same time.")

    async def export(self, wanted: UserExportRequested, _envelope: Envelope) -> None:
        """Handle ``user.export_requested``: emit all personal data in parts; without data, one empty part."""
        at = now()
        documents = list(parts([document async for document in self._documents(wanted.user_id)]))
        events = [
            Envelope.about(
                OrderDataExported(
                    export_id=wanted.export_id, part=number, parts=len(documents), document=document
                ),
                subject=wanted.export_id,
                sequence=number,
                at=at,
            )
            for number, document in enumerate(documents, 1)
        ]
        await self._store.answer_export(wanted.export_id, wanted.user_id, events, at)
        self._committed()

    async def _documents(self, user_id: str) -> AsyncIterator[str]:
        after = None
        while page := await self._orders.page(OrderFilter(user_id=user_id, after=after), PART_DOCUMENTS):
            for document in await self._described(page):
                yield document
            after = page[-1].order.id

    async def _described(self, page: Sequence[StoredOrder]) -> Sequence[str]:
        """Each order as its buyer sees it, with the buyer's own data and the history."""
        later = await self._histories.news({stored.order.id: 1 for stored in page})
        return [_described(stored, later.get(stored.order.id, ())) for stored in page]


def _described(stored: StoredOrder, later: Sequence[Entry]) -> str:
    order, buyer = stored.order, stored.buyer
    entries = (placed(order.user_id, buyer.name, order.created_at), *later)
    view = msgspec.structs.asdict(order_view(order))
    members = {
        **{name: value for name, value in view.items() if value is not msgspec.UNSET},
        "user_name": buyer.name,
        "user_email": buyer.email,
        "language": buyer.language,
        "history": [entry_view(entry, by_staff=False) for entry in entries],
    }
    return encode(members).decode()


_BATCH = 200
_OPEN = "('pending', 'confirmed', 'shipped')"
_KEPT_DAYS = 14
"""Days for which a delivered or cancelled order keeps personal data, for complaints and refunds."""
_LAST_SEQUENCE = 2**31 - 1

_RETAIN = f"""
with mine as materialized (
    select id from orders.orders
    where user_id = any($1::text[]) and erased_at is null and buyer_left_at is null and status in {_OPEN}
    order by id limit {_BATCH} for update
), retained as (
    update orders.orders o set buyer_left_at = $2, note = '', version = version + 1
    from mine where o.id = mine.id
)
select count(*) from mine"""  # noqa: S608 - our own numbers
_ERASE_ORDERS = f"""
with mine as materialized (
    select id from orders.orders o
    where user_id = any($1::text[]) and erased_at is null and status not in {_OPEN} and (
        buyer_left_at is null
        or coalesce((
            select max(h.at) from orders.history h where h.order_id = o.id and h.what in ('delivered', 'cancelled')
        ), updated_at) <= $2::timestamptz - interval '{_KEPT_DAYS} days'
    )
    order by id limit {_BATCH} for update
), erased as (
    update orders.orders o set user_email = '', user_name = '', language = '', shipping_address = null, note = '',
        version = version + 1, entries = entries + 1, updated_at = $2, erased_at = $2
    from mine where o.id = mine.id
    returning o.id, o.entries
), noted as (
    insert into orders.history (order_id, id, at, what, actor, request_id)
    select id, entries, $2, 'erased', 'system', '' from erased
), texts as (
    update orders.history set reason = '', smtp_reply = left(smtp_reply, 0), mail_error = left(mail_error, 0)
    where order_id in (select id from mine)
)
select count(*) from mine"""  # noqa: S608 - our own numbers

# The body stays valid for its type, so that it can be replayed; it only names nobody.
_ERASE_EVENTS = f"""
update orders.outbox set body = convert_to((
    convert_from(body, 'UTF8')::jsonb
    || '{{"user_email": "", "user_name": "", "note": "", "shipping_address": null}}'
    || case when type = 'order.cancelled' then '{{"reason": ""}}' else '{{}}' end::jsonb)::text, 'UTF8')
where id in (
    select e.id from orders.orders o join orders.outbox e on e.subject = o.id::text
    where o.user_id = any($1::text[]) and o.erased_at is not null and e.published_at is not null
        and convert_from(e.body, 'UTF8')::jsonb ->> 'user_email' <> ''
    order by e.id limit {_BATCH} for update of e skip locked)"""  # noqa: S608 - our own numbers
_ERASE_NAMES = "update orders.history set actor_name = '' where actor_id = any($1::text[]) and actor_name <> ''"
_ERASE_AUTHORS = """
with notes as (update orders.notes set actor_name = '' where actor_id = any($1::text[]) and actor_name <> '')
update orders.bulk_jobs set actor_name = '' where actor_id = any($1::text[]) and actor_name <> ''"""
_ERASE_DESK = """
with mine as materialized (
    select id from orders.orders where user_id = any($1::text[]) and erased_at is not null
), notes as (
    delete from orders.notes where order_id in (select id from mine)
)
delete from orders.search_texts where order_id in (select id from mine)"""
"""Internal notes about the person, and the words by which the orders are found."""
_ERASE_KEYS = "delete from orders.idempotency_keys where user_id = any($1::text[])"
_ERASE_EXPORTS = """
with gone as (delete from orders.exports where user_id = any($1::text[]) returning export_id)
delete from orders.outbox where subject in (select export_id from gone)"""


class PersonalDataStore:
    """Erases people and stores the answers to their requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def retain(self, user_id: str, at: datetime) -> None:
        """Take no more orders of a person, and mark the open ones as retained."""
        await self._database.execute(
            "insert into orders.erased_users (user_id, erased_at) values ($1, $2) on conflict do nothing",
            user_id,
            at,
        )
        # In batches, so that no statement and no lock lasts long.
        while await self._database.fetchval(_RETAIN, [user_id], at) == _BATCH:
            continue

    async def erase(self, user_id: str, at: datetime) -> None:
        """Erase a person from orders, history, idempotency keys and published events; the amounts stay.

        Retained orders are left out. The answer is emitted together with the last batch; a repetition emits it
        again.
        """
        while await self._erase_some([user_id], at, user_id):
            continue

    async def sweep(self) -> bool:
        """Erase what is due and what arrived after an erasure; whether an event was emitted.

        Forgets erased people once no event about them can be left.
        """
        at = now()
        rows = await self._database.fetch("select user_id from orders.erased_users")
        if users := [row["user_id"] for row in rows]:
            while await self._database.fetchval(_RETAIN, users, at) == _BATCH:
                continue
            while await self._erase_some(users, at, None):
                continue
        told = await self._tell_progress(at)
        await self._database.purge("orders.exports", "made_at < $1", at - KEEP)
        await self._database.purge("orders.erased_users", "erased_at < $1 and retained = 0", at - KEEP)
        return told

    async def _tell_progress(self, at: datetime) -> bool:
        """Emit how many orders each person's erasure waits for, where that has changed."""
        rows = await self._database.fetch(
            """
            select user_id, retained, (
                select count(*) from orders.orders o where o.user_id = e.user_id and o.erased_at is null
            ) as now
            from orders.erased_users e where retained > 0"""
        )
        changed = [row for row in rows if row["retained"] != row["now"]]
        for row in changed:
            user_id, retained = row["user_id"], row["now"]
            async with self._database.transaction() as connection:
                # Remembered from now on: the events about the last order are erased as well.
                await connection.execute(
                    "update orders.erased_users set retained = $2, erased_at = $3 where user_id = $1",
                    user_id,
                    retained,
                    at,
                )
                await emit(connection, "orders", _answer(user_id, retained, _LAST_SEQUENCE - retained, at))
        return bool(changed)

    async def _erase_some(self, users: Sequence[str], at: datetime, answered: str | None) -> bool:
        """Erase a batch; whether there may be more. Answers the user with the last batch."""
        async with self._database.transaction() as connection:
            orders = await connection.fetchval(_ERASE_ORDERS, users, at)
            events = await connection.execute(_ERASE_EVENTS, users)
            if orders == _BATCH or events == f"UPDATE {_BATCH}":
                return True
            for statement in (_ERASE_NAMES, _ERASE_AUTHORS, _ERASE_DESK, _ERASE_KEYS, _ERASE_EXPORTS):
                await connection.execute(statement, users)
            if answered is not None:
                retained = await connection.fetchval(
                    "select count(*) from orders.orders where user_id = $1 and erased_at is null", answered
                )
                # A repetition sends the first answer again, so what was told since stays to be told.
                await connection.execute(
                    "update orders.erased_users set retained = greatest(retained, $2) where user_id = $1",
                    answered,
                    retained,
                )
                await emit(connection, "orders", _answer(answered, retained, 1, at), known="sent again")
        return False

    async def answer_export(self, export_id: str, user_id: str, parts: Sequence[Envelope], at: datetime) -> None:
        """Emit the parts of an export, once per ``export_id``."""
        async with self._database.transaction() as connection:
            new = await connection.fetchval(
                "insert into orders.exports (export_id, user_id, made_at) values ($1, $2, $3) "
                "on conflict do nothing returning 1",
                export_id,
                user_id,
                at,
            )
            if new:
                await emit(connection, "orders", *parts)


def _answer(user_id: str, retained: int, sequence: int, at: datetime) -> Envelope:
    event = OrderDataErased(user_id=user_id, retained=retained)
    return Envelope.about(event, subject=user_id, sequence=sequence, at=at)
