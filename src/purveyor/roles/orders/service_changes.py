"""The use cases that change an order: its course through the shop, its payment, its cancellation."""

from collections.abc import Callable
from uuid import UUID

import msgspec

from purveyor.kit import log
from purveyor.kit.clock import now
from purveyor.kit.errors import Conflict, Forbidden, NotFound
from purveyor.kit.ids import parse_id
from purveyor.roles.auth.contract import Principal
from purveyor.roles.orders.conditions import IfMatch
from purveyor.roles.orders.contract import PreconditionRequired
from purveyor.roles.orders.events import status_event
from purveyor.roles.orders.history import By
from purveyor.roles.orders.model import Order
from purveyor.roles.orders.ports import Kept, OrderBook, Step

_TRIES = 5


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What an order is to become; ``None`` leaves a state as it is."""

    status: str | None = None
    payment_status: str | None = None
    reason: str = ""


class Changes:
    """Changing orders. ``committed`` is called with the id of an order that was changed."""

    def __init__(self, book: OrderBook, *, committed: Callable[[UUID], None]) -> None:
        self._book = book
        self._committed = committed

    async def change(self, caller: Principal, order_id: str, wish: Wish, condition: IfMatch | None) -> Order:
        """Staff's word on an order's status, payment or both; the order as it is then.

        Raises ``NotFound``, ``Forbidden`` for a customer's own order, ``PreconditionRequired`` without a
        condition, ``PreconditionFailed`` and ``IllegalTransition``.
        """
        kept = await self._find(caller, order_id)
        if not caller.is_staff:
            raise Forbidden("Only staff may change an order. POST to its /cancel cancels one's own.")
        if condition is None:
            raise PreconditionRequired
        return await self._move(kept, wish, By("staff", caller.user_id, caller.name), condition)

    async def cancel(self, caller: Principal, order_id: str, reason: str, condition: IfMatch | None) -> Order:
        """Cancel one's own order, or as staff anybody's.

        Raises ``NotFound``, ``PreconditionFailed``, ``IllegalTransition`` for one on its way or cancelled before.
        """
        kept = await self._find(caller, order_id)
        by = By("customer" if caller.user_id == kept.order.user_id else "staff", caller.user_id, caller.name)
        return await self._move(kept, Wish(status="cancelled", reason=reason), by, condition or IfMatch(None))

    async def _move(self, kept: Kept, wish: Wish, by: By, condition: IfMatch) -> Order:
        """Try again where another change came first: the condition and the rules then speak about that one."""
        for _ in range(_TRIES):
            condition.require(kept.order.version)
            step = _step(kept, wish, by)
            if await self._book.change(step):
                self._committed(step.order.id)
                return step.order
            kept = await self._book.find(kept.order.id, None)
        raise Conflict("The order is being changed by others all the time. Try again.")

    async def _find(self, caller: Principal, order_id: str) -> Kept:
        found = parse_id(order_id)
        if found is None:
            raise NotFound("There is no such order.")
        return await self._book.find(found, None if caller.is_staff else caller.user_id)


def _step(kept: Kept, wish: Wish, by: By) -> Step:
    order = kept.order.become(status=wish.status, payment_status=wish.payment_status, at=now())
    return Step(
        order=order,
        was=kept.order.version,
        entries=tuple(filter(None, (wish.status, wish.payment_status))),
        by=by,
        reason=wish.reason,
        request_id=log.request_id.get(),
        event=status_event(order, kept, wish.reason) if wish.status else None,
    )
