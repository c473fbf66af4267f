"""The audit of role orders: whether every order was announced, and announcing what was not."""

from collections.abc import Callable

from purveyor.kit.errors import NotFound
from purveyor.kit.ids import parse_id
from purveyor.roles.orders.contract import AnnounceOrders, FindUnannounced, OrderCreated, Unannounced
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
