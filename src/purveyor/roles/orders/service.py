"""The use cases of role orders."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec

from purveyor.kit import log
from purveyor.kit.clock import now
from purveyor.kit.errors import Conflict, FieldError, Forbidden, InvalidInput, NotFound, Problem
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import Backlog
from purveyor.kit.failpoints import failpoint
from purveyor.kit.ids import new_id, parse_id
from purveyor.kit.limits.memory import Decision, Limiter, Rate
from purveyor.roles.auth.contract import Address, Identity, Principal
from purveyor.roles.email.contract import MailSettled
from purveyor.roles.orders.contract import (
    OrderTrace,
    PreconditionRequired,
    RequestInProgress,
    TraceOrder,
)
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.events import created_event, status_event
from purveyor.roles.orders.model import By, Draft, MailOutcome, Order, Timeline
from purveyor.roles.orders.ports import Filter, Histories, IdempotencyKey, Kept, NewOrder, OrderBook, Step, Stored
from purveyor.roles.orders.products.answers import ProductView
from purveyor.roles.orders.products.client import Products
from purveyor.roles.orders.schemas import answer_of


class Orders:
    """Placing and reading orders. ``committed`` is called when an event was stored: it wakes the relay."""

    def __init__(
        self,
        book: OrderBook,
        products: Products,
        identity: Identity,
        limiter: Limiter,
        *,
        rate: Rate,
        currency: str,
        committed: Callable[[], None],
        backlog: Backlog | None = None,
    ) -> None:
        self._book = book
        self._products = products
        self._identity = identity
        self._limiter = limiter
        self._rate = rate
        self._currency = currency
        self._committed = committed
        self._backlog = backlog or Backlog("orders")
        self._running: set[tuple[str, str]] = set()

    async def admit(self, buyer: Principal) -> Decision:
        """Count one attempt to order against the buyer's limit. Raises ``TooManyRequests``."""
        decision = await self._limiter.hit("orders", buyer.user_id, self._rate)
        decision.require()
        return decision

    async def place(
        self, buyer: Principal, draft: Draft, *, address_id: str | None = None, key: str | None = None
    ) -> Stored:
        """Place an order at the catalogue's prices; with a key, at most once.

        Raises ``UnknownProduct``, ``ProductsUnavailable``, ``EventBacklog``, ``KeyReused``, ``RequestInProgress``.
        """
        if key is None:
            return await self._place(buyer, draft, address_id, None)
        running = (buyer.user_id, key)
        if running in self._running:
            raise RequestInProgress
        self._running.add(running)
        kept = IdempotencyKey(buyer.user_id, key, _fingerprint(draft, address_id))
        try:
            return await self._place(buyer, draft, address_id, kept)
        except Problem:
            # Whatever is in the way now, the first answer to an equal request stands.
            if (stored := await self._book.find_answer(kept)) is not None:
                return stored
            raise
        finally:
            self._running.discard(running)

    async def _place(
        self, buyer: Principal, draft: Draft, address_id: str | None, key: IdempotencyKey | None
    ) -> Stored:
        self._backlog.require_room()
        fetching = self._products.fetch({line.product_id for line in draft.lines})
        if address_id is None:
            products = await fetching
        else:
            products, address = await asyncio.gather(fetching, self._address(buyer, address_id))
            draft = msgspec.structs.replace(draft, shipping_address=address)
        failpoint("order.priced")
        order = Order.place(new_id(), buyer, draft, products, currency=self._currency, at=now())
        stored = await self._book.add(
            NewOrder(
                order=order,
                buyer_email=buyer.email,
                buyer_name=buyer.name,
                answer=answer_of(order),
                event=created_event(order, buyer),
                key=key,
            )
        )
        failpoint("order.stored")
        self._committed()
        return stored

    async def _address(self, buyer: Principal, address_id: str) -> Address:
        try:
            return await self._identity.address(buyer, address_id)
        except NotFound as error:
            problem = FieldError("/shipping_address_id", "is not one of your addresses")
            raise InvalidInput("There is no such address.", errors=[problem]) from error

    async def get(self, caller: Principal, order_id: str) -> Order:
        """One order: one's own, any for staff. Raises ``NotFound``."""
        found = parse_id(order_id)
        if found is None:
            raise NotFound("There is no such order.")
        return await self._book.get(found, None if caller.is_staff else caller.user_id)

    async def list(self, caller: Principal, wanted: Filter, limit: int) -> tuple[Sequence[Order], UUID | None]:
        """A page of orders, newest first, and the cursor of the next page: one's own, all for staff."""
        if not caller.is_staff:
            wanted = msgspec.structs.replace(wanted, user_id=caller.user_id)
        found = await self._book.list(wanted, limit + 1)
        page = found[:limit]
        return page, page[-1].id if len(found) > limit else None

    async def products(self, page: int, limit: int, category: str | None) -> Sequence[ProductView]:
        """A page of the catalogue. Raises ``ProductsUnavailable``."""
        return await self._products.page(page, limit, category)

    async def product(self, product_id: int) -> ProductView:
        """One product. Raises ``NotFound``, ``ProductsUnavailable``."""
        found = (await self._products.fetch({product_id})).get(product_id)
        if found is None:
            raise NotFound("There is no such product.")
        return found

    async def trace(self, ask: TraceOrder) -> OrderTrace:
        """See ``TraceOrder``."""
        return await self._book.trace(ask.order)


def _fingerprint(draft: Draft, address_id: str | None) -> bytes:
    """The SHA-256 of the request as it was understood: spacing and the order of members do not matter."""
    return hashlib.sha256(msgspec.json.encode((draft, address_id))).digest()


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
            raise Forbidden(
                "Only staff may change an order. To cancel your own order, use POST /api/orders/{order_id}/cancel."
            )
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
        raise Conflict("The order was changed by others at the same time. Try again.")

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


class Timelines:
    """Histories of orders. ``committed`` is called with the id of an order whose history has grown."""

    def __init__(self, histories: Histories, *, committed: Callable[[UUID], None]) -> None:
        self._histories = histories
        self._committed = committed

    async def read(self, caller: Principal, order_id: str) -> Timeline:
        """See ``read``."""
        return await read(self._histories, caller, order_id)

    async def note_mail(self, settled: MailSettled, envelope: Envelope) -> None:
        """Handle ``mail.settled``. A mail about no order of ours (a foreign publisher's) has no history."""
        order_id = parse_id(envelope.subject)
        if order_id is None:
            return
        mail = MailOutcome(
            event_id=settled.event_id,
            kind=settled.kind,
            state=settled.state,
            attempts=settled.attempts,
            resends=settled.resends,
            smtp_reply=settled.smtp_reply,
            error=settled.error,
        )
        await self._histories.add_mail(order_id, mail, envelope.occurred_at)
        self._committed(order_id)


async def read(histories: Histories, caller: Principal, order_id: str) -> Timeline:
    """What happened to one's own order, to any for staff. Raises ``NotFound``."""
    found = parse_id(order_id)
    if found is None:
        raise NotFound("There is no such order.")
    return await histories.timeline(found, None if caller.is_staff else caller.user_id)
