"""Orders' asks, events and errors for other roles."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, ClassVar

from msgspec import Meta

from purveyor.kit.errors import Conflict, InvalidInput, Problem, TooManyRequests, Unavailable
from purveyor.kit.events.message import Ask, Event, Message
from purveyor.kit.role import Port
from purveyor.roles.auth.contract import Address

OrderNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""A 64-bit integer. A consumer could never store a larger one."""


ProductId = int | str
"""Opaque: a JSON number or a text, kept as it came. ``1`` and ``"1"`` are different products."""


def shown(product_id: ProductId) -> str:
    """An id in a text for people and logs: text ids have quotes."""
    return f'"{product_id}"' if isinstance(product_id, str) else str(product_id)


class OrderedItem(Message, frozen=True, omit_defaults=True):
    """An order line in an event. Amounts are in major units."""

    product_id: ProductId
    quantity: int
    price: Decimal
    total_amt: Decimal
    title: str = ""


class _OrderEvent(Event, frozen=True):
    """The first six members are those that foreign publishers send; the others may be absent."""

    order_number: OrderNumber
    user_email: str
    user_name: str
    total_amount: Decimal
    items: tuple[OrderedItem, ...]
    payment_method: str
    order_id: str = ""
    currency: str = ""
    """ISO 4217; without it, that of the envelope or of the shop."""
    language: str = ""
    """BCP 47; without it, that of the envelope or of the shop."""
    payment_status: str = ""
    note: str = ""
    shipping_address: Address | None = None
    user_id: str = ""
    """The account that placed the order; empty if it has none here."""
    recipient_confirmed: bool = False
    """True if the owner of the mail address has confirmed it."""


class OrderCreated(_OrderEvent, frozen=True):
    """An order was placed. Foreign services read the body, so its members keep their meaning."""

    type: ClassVar = "order.created"


class OrderConfirmed(_OrderEvent, frozen=True):
    """An order was confirmed by the shop."""

    type: ClassVar = "order.confirmed"


class OrderShipped(_OrderEvent, frozen=True):
    """An order was shipped."""

    type: ClassVar = "order.shipped"


class OrderDelivered(_OrderEvent, frozen=True):
    """An order was delivered."""

    type: ClassVar = "order.delivered"


class OrderCancelled(_OrderEvent, frozen=True):
    """An order was cancelled by the customer or the shop."""

    type: ClassVar = "order.cancelled"

    reason: str = ""


class OrderPaid(_OrderEvent, frozen=True):
    """The payment of an order was received."""

    type: ClassVar = "order.paid"


class OrderRefunded(_OrderEvent, frozen=True):
    """The payment of an order was refunded."""

    type: ClassVar = "order.refunded"


ORDER_LINK = "order link"
"""The purpose of the tokens in links to an order (``kit.link_tokens``).

A token is about the order's id and bound to the buyer's email address, so that it ends with the buyer's erasure.
"""


def order_page(token: str) -> str:
    """The path of the page that shows an order without log-in."""
    return f"/order/{token}"


class OrderDataErased(Event, frozen=True):
    """Role orders has erased the personal data of a user but kept the amounts, as the answer to user.erased.

    While open orders retain what their delivery needs, another event follows for each change of their number.
    """

    type: ClassVar = "order_data.erased"

    user_id: str
    retained: int = 0
    """Number of orders that still hold name, address and email address."""


class OrderDataExported(Event, frozen=True):
    """A part of the personal data in role orders, as the answer to user.export_requested."""

    type: ClassVar = "order_data.exported"

    export_id: str
    part: int
    """Counted from 1."""
    parts: int
    document: str
    """JSON: an array of orders with their history."""


class TraceStep(Message, frozen=True):
    """One step in the processing of an order."""

    at: datetime | None
    what: str
    detail: str


class OrderTrace(Message, frozen=True):
    """An order's way through role orders. ``events`` are the ids by which to continue in other roles."""

    order_id: str
    order_number: int
    events: tuple[str, ...]
    steps: tuple[TraceStep, ...]


class TraceOrder(Ask[OrderTrace], frozen=True):
    """From the console: trace an order by id or number. Raises ``NotFound``."""

    reply: ClassVar = OrderTrace
    idempotent: ClassVar = True

    order: str


class Unannounced(Message, frozen=True):
    """Orders by id."""

    order_ids: tuple[str, ...]


class FindUnannounced(Ask[Unannounced], frozen=True):
    """From the console: orders whose ``order.created`` is not in the outbox, oldest first.

    Covers the time for which the outbox keeps events. Skips orders of erased buyers.
    """

    reply: ClassVar = Unannounced
    idempotent: ClassVar = True

    limit: int = 1000


class AnnounceOrders(Ask[Unannounced], frozen=True):
    """From the console: emit the missing ``order.created`` of these orders. Returns those that had none.

    May be repeated: the event of an order always has the same id.
    """

    reply: ClassVar = Unannounced

    order_ids: tuple[str, ...]


class Orders(Port):
    """Orders as other roles and the operator see them."""

    role = "orders"
    setting = "ORDERS_SERVICE"
    asks = (TraceOrder, FindUnannounced, AnnounceOrders)

    async def trace(self, order: str) -> OrderTrace:
        """An order's way, by its id or its number. Raises ``NotFound``."""
        return await self._asker.ask(TraceOrder(order=order))

    async def unannounced(self, limit: int) -> Sequence[str]:
        return (await self._asker.ask(FindUnannounced(limit=limit))).order_ids

    async def announce(self, order_ids: Sequence[str]) -> Sequence[str]:
        return (await self._asker.ask(AnnounceOrders(order_ids=tuple(order_ids)))).order_ids


class KeyReused(InvalidInput):
    """An Idempotency-Key identifies one request. Use a new key for a new order."""

    code, title = "idempotency-key-reused", "The idempotency key was already used for a different request"


class RequestInProgress(Conflict):
    """The first request with this Idempotency-Key is still running. Try again in a second to get its response."""

    code, title = "request-in-progress", "A request with this idempotency key is still in progress"
    default_headers: ClassVar = {"Retry-After": "1"}


class PreconditionRequired(Problem):
    """Changing an order requires its current version. Read the order and send its ETag as If-Match."""

    code, status, title = "precondition-required", 428, "The If-Match header is required"


class PreconditionFailed(Problem):
    """The order was changed by someone else. Reload it and try again."""

    code, status, title = "precondition-failed", 412, "The order was changed by someone else"


class IllegalTransition(Conflict):
    """An order goes from pending to confirmed, shipped and delivered, or from pending or confirmed to cancelled.
    Its payment goes from unpaid to paid and refunded. The detail names the current status and what can come next.
    """

    code, title = "illegal-transition", "The status of the order does not allow this change"


class UndoOver(Conflict):
    """Only the last change of an order can be undone, and only until the email about it is sent. An admin can
    correct the order.
    """

    code, title = "undo-over", "The change can no longer be undone"


class TooManyStreams(TooManyRequests):
    """Close a live timeline before you open another one."""

    code, title = "too-many-streams", "Too many live timelines are open"
    default_headers: ClassVar = {"Retry-After": "10"}


class ProductsUnavailable(Unavailable):
    """The product API as a whole cannot be asked, and the last known prices are too old. Orders are never placed
    at outdated prices. Try again after the number of seconds in Retry-After.
    """

    code, title = "products-unavailable", "Product prices are unavailable"
    is_logged = True


class UnknownProduct(InvalidInput):
    """The order contains products that do not exist.

    Each entry of errors points at one of them. GET /api/products lists the available products.
    """

    code, title = "unknown-product", "Unknown product"


class ProductUnavailable(InvalidInput):
    """The order contains products that cannot be sold now, for example because the product API gives no valid
    price for them, or a price in another currency than the shop's.

    Each entry of errors points at one of them and says why. Remove these products from the order.
    """

    code, title = "product-unavailable", "Product cannot be sold"


class PriceChanged(Conflict):
    """The order would not cost the expected_total of the request. The members items, total_amount, total_minor and
    currency show what it would cost now. To accept that, send the request again with the new total.
    """

    code, title = "price-changed", "The total differs from the expected total"
    example_members: ClassVar = {
        "items": [
            {
                "product_id": 1,
                "title": "Kettle",
                "quantity": 2,
                "price": 29.99,
                "price_minor": 2999,
                "total_amt": 59.98,
                "total_amt_minor": 5998,
            }
        ],
        "total_amount": 59.98,
        "total_minor": 5998,
        "currency": "EUR",
    }
