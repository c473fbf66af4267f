"""Personal data in role orders: erasure and export."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

import msgspec

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.events.chunking import PART_DOCUMENTS, parts
from purveyor.kit.events.message import Envelope, encode
from purveyor.kit.events.outbox import KEEP, emit
from purveyor.roles.auth.contract import UserErased, UserExportRequested
from purveyor.roles.orders.contract import OrderDataErased, OrderDataExported
from purveyor.roles.orders.model import (
    Entry,
    OrderFilter,
    StoredOrder,
    placed,
)
from purveyor.roles.orders.schemas import entry_view, order_view
from purveyor.roles.orders.store import HistoryStore, OrderStore


class PersonalData:
    """Handle erasure and export requests. ``committed`` is called after an answer was stored."""

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
        """Handle ``user.erased``: erase, and emit the answer in the same transaction."""
        at = now()
        answer = Envelope.about(OrderDataErased(user_id=erased.user_id), subject=erased.user_id, sequence=1, at=at)
        await self._store.erase(erased.user_id, answer, at)
        self._committed()

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
_ERASE_ORDERS = f"""
with mine as materialized (
    select id from orders.orders where user_id = any($1::text[]) and erased_at is null
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

    async def erase(self, user_id: str, answer: Envelope, at: datetime) -> None:
        """Erase a person from orders, history, idempotency keys and published events; the amounts stay.

        The answer is emitted together with the last batch; a repetition emits it again.
        """
        # In batches, so that no statement and no lock lasts long.
        await self._database.execute(
            "insert into orders.erased_users (user_id, erased_at) values ($1, $2) on conflict do nothing",
            user_id,
            at,
        )
        while await self._erase_some([user_id], at, answer):
            continue

    async def sweep(self) -> None:
        """Erase what arrived after the erasure, and forget erased people once no event about them can be left."""
        at = now()
        users = await self._database.fetch("select user_id from orders.erased_users")
        while users and await self._erase_some([row["user_id"] for row in users], at, None):
            continue
        await self._database.purge("orders.exports", "made_at < $1", at - KEEP)
        await self._database.purge("orders.erased_users", "erased_at < $1", at - KEEP)

    async def _erase_some(self, users: Sequence[str], at: datetime, answer: Envelope | None) -> bool:
        """Erase a batch; whether there may be more. Emits the answer with the last batch."""
        async with self._database.transaction() as connection:
            orders = await connection.fetchval(_ERASE_ORDERS, users, at)
            events = await connection.execute(_ERASE_EVENTS, users)
            if orders == _BATCH or events == f"UPDATE {_BATCH}":
                return True
            for statement in (_ERASE_NAMES, _ERASE_AUTHORS, _ERASE_DESK, _ERASE_KEYS, _ERASE_EXPORTS):
                await connection.execute(statement, users)
            if answer is not None:
                await emit(connection, "orders", answer, known="sent again")
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
