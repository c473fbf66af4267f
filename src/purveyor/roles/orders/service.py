"""The use cases of role orders."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec

from purveyor.kit import log, tracing
from purveyor.kit.backlog import Backlog
from purveyor.kit.clock import now
from purveyor.kit.errors import FieldError, InvalidInput, NotFound, Problem
from purveyor.kit.failpoints import failpoint
from purveyor.kit.ids import new_id, parse_id
from purveyor.kit.message import Envelope
from purveyor.kit.ratelimit import Decision, Limiter, Rate
from purveyor.roles.auth.contract import Address, Identity, Principal
from purveyor.roles.orders.contract import OrderCreated, OrderTrace, RequestInProgress, TraceOrder
from purveyor.roles.orders.events import created_event
from purveyor.roles.orders.model import Draft, Order
from purveyor.roles.orders.ports import Filter, IdempotencyKey, NewOrder, OrderBook, Stored
from purveyor.roles.orders.products import Products
from purveyor.roles.orders.products_answers import ProductView
from purveyor.roles.orders.views import answer_of


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
        event = Envelope(
            id=new_id(),
            type=OrderCreated.type,
            body=b"",
            occurred_at=order.created_at,
            subject=str(order.id),
            sequence=order.version,
            correlation_id=log.request_id.get(),
            traceparent=tracing.traceparent.get(),
            currency=order.currency,
            language=buyer.language,
        )
        stored = await self._book.add(
            NewOrder(
                order=order,
                buyer_email=buyer.email,
                buyer_name=buyer.name,
                answer=answer_of(order),
                event=event,
                event_body=created_event(order, buyer),
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
            problem = FieldError("/shipping_address_id", "is none of your addresses")
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
