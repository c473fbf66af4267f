"""The audit of role orders: whether every order was announced, and announcing what was not."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import NotFound
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import KEEP, emit
from purveyor.kit.ids import first_id_of, parse_id
from purveyor.roles.orders.contract import (
    AnnounceOrders,
    FindUnannounced,
    OrderCreated,
    Unannounced,
)
from purveyor.roles.orders.events import announcement
from purveyor.roles.orders.ports import Audits, OrderBook


class Audit:
    """Answers ``app reconcile``. ``committed`` is called when an event was stored: it wakes the relay."""

    def __init__(self, book: OrderBook, audits: Audits, committed: Callable[[], None]) -> None:
        self._book = book
        self._audits = audits
        self._committed = committed

    async def find(self, ask: FindUnannounced) -> Unannounced:
        """See ``FindUnannounced``."""
        return Unannounced(order_ids=tuple(await self._audits.unannounced(OrderCreated.type, ask.limit)))

    async def announce(self, ask: AnnounceOrders) -> Unannounced:
        """See ``AnnounceOrders``."""
        announced: list[str] = []
        for text in ask.order_ids:
            if (order_id := parse_id(text)) is None:
                raise NotFound(f"There is no order {text}.")
            event = announcement(await self._book.find(order_id, None))
            if event is not None and await self._audits.announce(event):
                announced.append(text)
        self._committed()
        return Unannounced(order_ids=tuple(announced))


_MARGIN = timedelta(days=1)


class PostgresAudits:
    """Satisfies ``Audits``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unannounced(self, type_: str, limit: int) -> Sequence[str]:
        """See ``Audits``."""
        rows = await self._database.fetch(
            """
            select o.id::text as id from orders.orders o
            where o.id > $1 and o.user_email <> '' and not exists (
                select from orders.outbox e where e.subject = o.id::text and e.type = $2
            )
            order by o.id limit $3""",
            first_id_of(now() - KEEP + _MARGIN),
            type_,
            limit,
        )
        return [row["id"] for row in rows]

    async def announce(self, event: Envelope) -> bool:
        """See ``Audits``."""
        return await emit(self._database, "orders", event, known="skipped") == 1
