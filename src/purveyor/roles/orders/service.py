"""The use cases of role orders."""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Protocol
from uuid import UUID

import msgspec

from purveyor.kit import log, tracing
from purveyor.kit.clock import now
from purveyor.kit.errors import Conflict, FieldError, Forbidden, InvalidInput, NotFound, Problem
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import Backlog
from purveyor.kit.failpoints import failpoint
from purveyor.kit.ids import new_id, parse_id
from purveyor.kit.limits.memory import Decision, Limiter, Rate
from purveyor.kit.money import to_major
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import Address, Principal, Profile
from purveyor.roles.email.contract import MailSettled
from purveyor.roles.orders.contract import (
    AnnounceOrders,
    FindUnannounced,
    OrderCreated,
    OrderTrace,
    PreconditionRequired,
    ProductId,
    ProductUnavailable,
    RequestInProgress,
    TraceOrder,
    Unannounced,
    shown,
)
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.events import announcement, created_event, payment_event, status_event
from purveyor.roles.orders.model import (
    Buyer,
    ChangedBy,
    Draft,
    IdempotencyKey,
    MailOutcome,
    NewOrder,
    Order,
    OrderFilter,
    Product,
    ProductSlice,
    StoredAnswer,
    StoredOrder,
    Timeline,
    Transition,
    Unsellable,
)
from purveyor.roles.orders.schemas import answer_of, price_changed
from purveyor.roles.orders.store import HistoryStore, OrderStore

_TRIES = 5


class Products(Protocol):
    """Source of products and prices: the bundled catalog or a product API."""

    async def fetch(self, ids: Collection[ProductId]) -> Mapping[ProductId, Product | Unsellable]:
        """The products with these ids, in one call for a whole order; unknown ids are absent.

        Raises ``ProductsUnavailable`` when the source cannot be asked.
        """
        ...

    async def page(self, page: int, limit: int, category: str | None) -> ProductSlice:
        """One page of the catalog, counted from 1; empty past the end. Raises ``ProductsUnavailable``.

        A product costs what ``fetch`` says, until ``fetch`` or ``page`` reads it again from the source.
        """
        ...

    async def check(self) -> str:
        """Describe the source in a few words. Raises ``ProductsUnavailable``."""
        ...


class Orders:
    """Place and read orders. ``committed`` is called after an event was stored and wakes the relay."""

    def __init__(
        self,
        store: OrderStore,
        products: Products,
        identity: Identity,
        limiter: Limiter,
        *,
        rate: Rate,
        currency: str,
        committed: Callable[[], None],
        backlog: Backlog | None = None,
    ) -> None:
        self._store = store
        self._products = products
        self._identity = identity
        self._limiter = limiter
        self._rate = rate
        self._currency = currency
        self._committed = committed
        self._backlog = backlog or Backlog("orders")
        self._running: set[tuple[str, str]] = set()

    async def admit(self, buyer: Principal) -> Decision:
        """Count one attempt against the buyer's rate limit. Raises ``TooManyRequests``."""
        decision = await self._limiter.hit("orders", buyer.user_id, self._rate)
        decision.require()
        return decision

    async def place(
        self,
        buyer: Principal,
        draft: Draft,
        *,
        address_id: str | None = None,
        key: str | None = None,
        expected_total: Decimal | None = None,
    ) -> StoredAnswer:
        """Place an order at the catalog's prices; with a key, at most once.

        Raises ``UnknownProduct``, ``ProductUnavailable``, ``PriceChanged`` unless the total is as expected,
        ``ProductsUnavailable``, ``EventBacklog``, ``KeyReused``, ``RequestInProgress``.
        """
        if key is None:
            return await self._place(buyer, draft, address_id, expected_total, None)
        running = (buyer.user_id, key)
        if running in self._running:
            raise RequestInProgress
        self._running.add(running)
        kept = IdempotencyKey(buyer.user_id, key, _fingerprint(draft, address_id, expected_total))
        try:
            return await self._place(buyer, draft, address_id, expected_total, kept)
        except Problem:
            # An equal request may have been answered before: that answer stands, whatever fails now.
            if (stored := await self._store.find_answer(kept)) is not None:
                return stored
            raise
        finally:
            self._running.discard(running)

    async def _place(
        self,
        buyer: Principal,
        draft: Draft,
        address_id: str | None,
        expected_total: Decimal | None,
        key: IdempotencyKey | None,
    ) -> StoredAnswer:
        with tracing.span("place order", "internal", {}) as span:
            self._backlog.require_room()
            fetching = self._products.fetch({line.product_id for line in draft.lines})
            asking = self._identity.profile(buyer, buyer.user_id)
            if address_id is None:
                products, profile = await asyncio.gather(fetching, asking)
            else:
                finding = self._address(buyer, address_id)
                products, profile, address = await asyncio.gather(fetching, asking, finding)
                draft = msgspec.structs.replace(draft, shipping_address=address)
            recipient = Buyer(
                name=profile.name or buyer.name,
                email=profile.email or buyer.email,
                language=profile.language or buyer.language,
                confirmed=profile.email_confirmed is True,
            )
            failpoint("order.priced")
            order = Order.place(new_id(), buyer, draft, products, currency=self._currency, at=now())
            if expected_total is not None and expected_total != to_major(order.total, order.currency):
                raise price_changed(order, expected_total)
            stored = await self._store.add(
                NewOrder(
                    order=order,
                    buyer_email=recipient.email,
                    buyer_name=recipient.name,
                    answer=answer_of(order),
                    event=created_event(order, recipient),
                    key=key,
                )
            )
            failpoint("order.stored")
            if span.is_recorded:
                span.add({"order.id": str(order.id)})
            self._committed()
            return stored

    async def _address(self, buyer: Principal, address_id: str) -> Address:
        try:
            return await self._identity.address(buyer, address_id)
        except NotFound as error:
            problem = FieldError("/shipping_address_id", "is not one of your addresses")
            raise InvalidInput("There is no such address.", errors=[problem]) from error

    async def get(self, caller: Principal, order_id: str) -> StoredOrder:
        """One order. Customers see their own, staff see all. Raises ``NotFound``."""
        found = parse_id(order_id)
        if found is None:
            raise NotFound("There is no such order.")
        return await self._store.find(found, None if caller.is_staff else caller.user_id)

    async def list(
        self, caller: Principal, wanted: OrderFilter, limit: int
    ) -> tuple[Sequence[StoredOrder], UUID | None]:
        """A page of orders and the cursor of the next page. Customers see only their own."""
        if not caller.is_staff:
            wanted = msgspec.structs.replace(wanted, user_id=caller.user_id)
        found = await self._store.page(wanted, limit + 1)
        page = found[:limit]
        return page, page[-1].order.id if len(found) > limit else None

    async def products(self, page: int, limit: int, category: str | None) -> ProductSlice:
        """A page of the catalog. Raises ``ProductsUnavailable``."""
        return await self._products.page(page, limit, category)

    async def product(self, product_id: ProductId) -> Product:
        """One product. Raises ``NotFound``, ``ProductUnavailable``, ``ProductsUnavailable``."""
        found = (await self._products.fetch({product_id})).get(product_id)
        if found is None:
            raise NotFound("There is no such product.")
        if isinstance(found, Unsellable):
            raise ProductUnavailable(f"Product {shown(product_id)} cannot be sold now: {found.why}.")
        return found

    async def trace(self, ask: TraceOrder) -> OrderTrace:
        """Answer ``TraceOrder``."""
        return await self._store.trace(ask.order)


def _fingerprint(draft: Draft, address_id: str | None, expected_total: Decimal | None) -> bytes:
    """The SHA-256 of the decoded request: white space and the order of members do not matter."""
    request: tuple[object, ...] = (draft, address_id)
    if expected_total is not None:
        request = (*request, expected_total.normalize())
    return hashlib.sha256(msgspec.json.encode(request)).digest()


class OrderChange(msgspec.Struct, frozen=True, kw_only=True):
    """Requested change of an order; ``None`` keeps a status."""

    status: str | None = None
    payment_status: str | None = None
    reason: str = ""
    hold_mail_s: int = 0
    """Seconds to hold the email about the change, so that staff can undo it."""


class Changes:
    """Change orders. ``committed`` is called with the id of each changed order."""

    def __init__(self, store: OrderStore, identity: Identity, *, committed: Callable[[UUID], None]) -> None:
        self._store = store
        self._identity = identity
        self._committed = committed

    async def change(
        self, caller: Principal, order_id: str, change: OrderChange, condition: IfMatch | None
    ) -> StoredOrder:
        """Change an order's status, payment status or both, as staff.

        Raises ``NotFound``, ``Forbidden`` for a customer's own order, ``PreconditionRequired`` without a
        condition, ``PreconditionFailed`` and ``IllegalTransition``.
        """
        stored = await self._find(caller, order_id)
        if not caller.is_staff:
            raise Forbidden(
                "Only staff may change an order. To cancel your own order, use POST /api/orders/{order_id}/cancel."
            )
        if condition is None:
            raise PreconditionRequired
        return await self._apply(caller, stored, change, "staff", condition)

    async def cancel(
        self, caller: Principal, order_id: str, reason: str, condition: IfMatch | None, hold_mail_s: int = 0
    ) -> StoredOrder:
        """Cancel an order: customers their own, staff any.

        Raises ``NotFound``, ``PreconditionFailed``, ``Forbidden`` for a customer who wants to hold the mail back,
        and ``IllegalTransition`` once it was shipped or cancelled.
        """
        stored = await self._find(caller, order_id)
        if hold_mail_s and not caller.is_staff:
            raise Forbidden("Only staff may use hold_mail_s.")
        kind = "customer" if caller.user_id == stored.order.user_id else "staff"
        change = OrderChange(status="cancelled", reason=reason, hold_mail_s=hold_mail_s)
        return await self._apply(caller, stored, change, kind, condition or IfMatch(None))

    async def _apply(
        self, caller: Principal, stored: StoredOrder, change: OrderChange, kind: str, condition: IfMatch
    ) -> StoredOrder:
        """Retry when another change came first: condition and rules then apply to its result."""
        by = ChangedBy(kind, caller.user_id, caller.name)
        condition.require(stored.order.version)
        profile = await self._identity.profile(caller, stored.order.user_id)
        for _ in range(_TRIES):
            condition.require(stored.order.version)
            transition = transition_of(with_profile(stored, profile), change, by)
            if await self._store.change(transition):
                self._committed(transition.order.id)
                return _changed(stored, transition)
            stored = await self._store.find(stored.order.id, None)
        raise Conflict("The order was changed by others at the same time. Try again.")

    async def _find(self, caller: Principal, order_id: str) -> StoredOrder:
        found = parse_id(order_id)
        if found is None:
            raise NotFound("There is no such order.")
        return await self._store.find(found, None if caller.is_staff else caller.user_id)


def with_profile(stored: StoredOrder, profile: Profile) -> StoredOrder:
    """The order with the buyer's current name and language, in which the mail about a change is written."""
    if stored.erased:
        return stored
    known = stored.buyer
    confirmed = profile.email_confirmed is True and profile.email == known.email
    buyer = Buyer(profile.name or known.name, known.email, profile.language or known.language, confirmed)
    return msgspec.structs.replace(stored, buyer=buyer)


def transition_of(stored: StoredOrder, change: OrderChange, by: ChangedBy) -> Transition:
    """Build the stored form of a change. Raises ``IllegalTransition``."""
    order = stored.order.become(status=change.status, payment_status=change.payment_status, at=now())
    return Transition(
        order=order,
        was=stored.order.version,
        entries=tuple(filter(None, (change.status, change.payment_status))),
        by=by,
        reason=change.reason,
        request_id=log.request_id.get(),
        event=status_event(order, stored, change.reason) if change.status else None,
        payment_event=payment_event(order, stored) if change.payment_status else None,
        hold_mail_s=change.hold_mail_s,
        restores=(stored.order.status, stored.order.payment_status),
    )


def _changed(stored: StoredOrder, transition: Transition) -> StoredOrder:
    order, hold_s = transition.order, transition.hold_mail_s
    until = order.updated_at + timedelta(seconds=hold_s) if hold_s else None
    return msgspec.structs.replace(stored, order=order, undo_until=until)


class Timelines:
    """Histories of orders. ``committed`` is called with the id of each order whose history has grown."""

    def __init__(self, histories: HistoryStore, *, committed: Callable[[UUID], None]) -> None:
        self._histories = histories
        self._committed = committed

    async def read(self, caller: Principal, order_id: str) -> Timeline:
        """The history of an order. Customers see their own orders, staff see all. Raises ``NotFound``."""
        return await read_timeline(self._histories, caller, order_id)

    async def note_mail(self, settled: MailSettled, envelope: Envelope) -> None:
        """Handle ``mail.settled``. Mails about an order that is not ours (a foreign publisher's) are ignored."""
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


async def read_timeline(histories: HistoryStore, caller: Principal, order_id: str) -> Timeline:
    """The history of an order that the caller may see. Raises ``NotFound``."""
    found = parse_id(order_id)
    if found is None:
        raise NotFound("There is no such order.")
    return await histories.timeline(found, None if caller.is_staff else caller.user_id)


class Reconciliation:
    """Find orders that lost their ``order.created``, and emit it again. ``committed`` wakes the relay."""

    def __init__(self, store: OrderStore, committed: Callable[[], None]) -> None:
        self._store = store
        self._committed = committed

    async def find(self, ask: FindUnannounced) -> Unannounced:
        """Answer ``FindUnannounced``."""
        return Unannounced(order_ids=tuple(await self._store.unannounced(OrderCreated.type, ask.limit)))

    async def announce(self, ask: AnnounceOrders) -> Unannounced:
        """Answer ``AnnounceOrders``."""
        announced: list[str] = []
        for text in ask.order_ids:
            if (order_id := parse_id(text)) is None:
                raise NotFound(f"There is no order {text}.")
            event = announcement(await self._store.find(order_id, None))
            if event is not None and await self._store.announce(event):
                announced.append(text)
        self._committed()
        return Unannounced(order_ids=tuple(announced))
