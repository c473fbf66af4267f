"""Response bodies of role orders, and their examples."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from purveyor.kit.events.message import encode
from purveyor.kit.money import Amount, to_fixed, to_major
from purveyor.roles.auth.contract import PostalAddressView
from purveyor.roles.email.contract import SUPERSEDED
from purveyor.roles.orders.contract import PriceChanged, ProductId
from purveyor.roles.orders.model import (
    ChangedBy,
    Entry,
    LineFields,
    MailOutcome,
    NumberPlaceholder,
    Order,
    Product,
    StoredOrder,
    Timeline,
)

Status = Literal["pending", "confirmed", "shipped", "delivered", "cancelled"]
PaymentStatus = Literal["unpaid", "paid", "refunded"]
PaymentMethod = Literal["cash_on_delivery", "card", "bank_transfer"]


class ItemView(LineFields, frozen=True, kw_only=True):
    """An order line. Amounts are in major units, and beside each in integers of minor units."""

    price: Amount
    price_minor: int
    total_amt: Amount
    total_amt_minor: int


class BuyerView(msgspec.Struct, frozen=True):
    """The customer who placed an order."""

    name: str
    email: str


class OrderView(msgspec.Struct, frozen=True):
    """An order. Amounts are in major units of ``currency``; ``total_minor`` is an integer of minor units."""

    id: str
    order_number: int
    user_id: str
    status: str
    payment_status: str
    payment_method: str
    currency: str
    total_amount: Amount
    total_minor: int
    items: list[ItemView]
    shipping_address: PostalAddressView | None
    note: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    buyer: BuyerView | msgspec.UnsetType | None = msgspec.UNSET
    """Only staff see it; ``null`` after erasure."""
    undo_until: datetime | msgspec.UnsetType | None = msgspec.UNSET
    """End of the period in which the last change can be undone. Only staff see it."""


class OrderPage(msgspec.Struct, frozen=True):
    """A page of orders, newest first unless sorted. ``next_cursor`` is the cursor of the next page."""

    orders: list[OrderView]
    next_cursor: str | None
    has_more: bool


class ProductView(msgspec.Struct, frozen=True):
    """A product with its current price in major units of ``currency``, and in integers of minor units."""

    id: ProductId
    title: str
    price: Amount
    price_minor: int
    currency: str
    image: str
    description: str
    brand: str
    model: str
    color: str
    category: str
    discount: int


class ProductPage(msgspec.Struct, frozen=True):
    """A page of products in the order of the catalog, without those that cannot be sold now.

    It may be shorter than ``limit`` and even empty when there are more pages: only ``has_more`` says whether there
    are.
    """

    products: list[ProductView]
    page: int
    limit: int
    has_more: bool


def order_view(order: Order, for_staff: StoredOrder | None = None) -> OrderView:
    """An order in major units; with what only staff see of it if that is given."""
    buyer = BuyerView(for_staff.buyer.name, for_staff.buyer.email) if for_staff and not for_staff.erased else None
    address = order.shipping_address
    return OrderView(
        id=str(order.id),
        order_number=order.number,
        user_id=order.user_id,
        status=order.status,
        payment_status=order.payment_status,
        payment_method=order.payment_method,
        currency=order.currency,
        total_amount=to_major(order.total, order.currency),
        total_minor=order.total,
        items=item_views(order),
        shipping_address=PostalAddressView(**msgspec.structs.asdict(address)) if address else None,
        note=order.note or None,
        version=order.version,
        created_at=order.created_at,
        updated_at=order.updated_at,
        buyer=buyer if for_staff else msgspec.UNSET,
        undo_until=for_staff.undo_until if for_staff else msgspec.UNSET,
    )


def item_views(order: Order) -> list[ItemView]:
    """The lines of an order in major and minor units."""
    return [
        ItemView(
            product_id=line.product_id,
            title=line.title,
            quantity=line.quantity,
            price=to_major(line.price, order.currency),
            price_minor=line.price,
            total_amt=to_major(line.total, order.currency),
            total_amt_minor=line.total,
        )
        for line in order.lines
    ]


def price_changed(order: Order, expected: Decimal) -> PriceChanged:
    """The error for an order that costs something else than its buyer expected."""
    total = to_major(order.total, order.currency)
    return PriceChanged(
        f"The order would cost {to_fixed(order.total, order.currency)} {order.currency}, not {expected:f}.",
        members={
            "items": item_views(order),
            "total_amount": total,
            "total_minor": order.total,
            "currency": order.currency,
        },
    )


def product_view(product: Product, currency: str) -> ProductView:
    """A product in major and minor units."""
    members = {**msgspec.structs.asdict(product), "price": to_major(product.price, currency)}
    return ProductView(**members, price_minor=product.price, currency=currency)


def answer_of(order: Order) -> NumberPlaceholder:
    """The answer to a placed order, without its number."""
    return NumberPlaceholder.split(encode(order_view(order)))


_SHOP = "the shop"


class ByView(msgspec.Struct, frozen=True):
    """Author of the change. Customers see ``the shop`` for staff and the system."""

    kind: str
    id: str | None
    name: str | None


class MailView(msgspec.Struct, frozen=True):
    """The state of an email. Details are ``null`` for customers, except that a later email superseded this one."""

    kind: str
    state: str
    event_id: str | None = None
    attempts: int | None = None
    resends: int | None = None
    smtp_reply: str | None = None
    error: str | None = None


class EntryView(msgspec.Struct, frozen=True):
    """An entry of the timeline. ``id`` increases within the order. Only staff see ``request_id``."""

    id: int
    at: datetime
    what: str
    by: ByView
    reason: str | None
    request_id: str | None
    mail: MailView | None


class TimelineView(msgspec.Struct, frozen=True):
    """The timeline of an order, sorted by ``id``."""

    order_id: str
    order_number: int
    entries: list[EntryView]


def timeline_view(timeline: Timeline, *, by_staff: bool) -> TimelineView:
    """A timeline as customers or staff may see it."""
    entries = [entry_view(entry, by_staff=by_staff) for entry in timeline.entries]
    return TimelineView(str(timeline.order_id), timeline.order_number, entries)


def entry_view(entry: Entry, *, by_staff: bool) -> EntryView:
    """An entry as customers or staff may see it."""
    return EntryView(
        id=entry.id,
        at=entry.at,
        what=entry.what,
        by=_by(entry.by, by_staff=by_staff),
        reason=(entry.reason or None) if by_staff or entry.what != "corrected" else None,
        request_id=(entry.request_id or None) if by_staff else None,
        mail=_mail(entry.mail, by_staff=by_staff) if entry.mail else None,
    )


def _by(by: ChangedBy, *, by_staff: bool) -> ByView:
    if by_staff or by.kind == "customer":
        return ByView(by.kind, by.id or None, by.name or None)
    return ByView(by.kind, None, _SHOP)


def _mail(mail: MailOutcome, *, by_staff: bool) -> MailView:
    if not by_staff:
        # Without the error, a customer would read that the mail could not be delivered.
        return MailView(mail.kind, mail.state, error=mail.error if mail.error.startswith(SUPERSEDED) else None)
    return MailView(
        kind=mail.kind,
        state=mail.state,
        event_id=mail.event_id,
        attempts=mail.attempts,
        resends=mail.resends,
        smtp_reply=mail.smtp_reply or None,
        error=mail.error or None,
    )


ORDER_ID = "01a20481-297c-700c-a82d-3d9ac6bc1ffd"
_USER_ID = "01a20480-b1d2-7c11-9a55-0c6f6a1d2e3f"
PLACE = {
    "items": [{"product_id": 1, "quantity": 2}],
    "payment_method": "card",
    "shipping_address": {
        "recipient": "Ada Lovelace",
        "line1": "12 St James's Square",
        "city": "London",
        "postal_code": "SW1Y 4JH",
        "country": "GB",
    },
    "note": "ring twice",
}
ORDER: dict[str, Any] = {
    "id": ORDER_ID,
    "order_number": 10001,
    "user_id": _USER_ID,
    "status": "pending",
    "payment_status": "unpaid",
    "payment_method": "card",
    "currency": "EUR",
    "total_amount": 59.98,
    "total_minor": 5998,
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
    "shipping_address": PLACE["shipping_address"] | {"line2": "", "region": "", "phone": ""},  # type: ignore[operator]
    "note": "ring twice",
    "version": 1,
    "created_at": "2026-03-01T09:30:00.125000Z",
    "updated_at": "2026-03-01T09:30:00.125000Z",
}
FOR_STAFF = ORDER | {"buyer": {"name": "Ada Lovelace", "email": "ada@example.com"}, "undo_until": None}
CONFIRMED = ORDER | {
    "status": "confirmed",
    "payment_status": "paid",
    "version": 2,
    "updated_at": "2026-03-01T10:02:11.004000Z",
}
CANCELLED = ORDER | {"status": "cancelled", "version": 2, "updated_at": "2026-03-01T10:02:11.004000Z"}
ORDERS = {"orders": [ORDER], "next_cursor": ORDER_ID, "has_more": True}
_MAIL = {
    "id": 2,
    "at": "2026-03-01T09:30:01.480Z",
    "what": "mail_sent",
    "by": {"kind": "system", "id": None, "name": "the shop"},
    "reason": None,
    "request_id": None,
    "mail": {
        "kind": "order.created",
        "state": "sent",
        "event_id": None,
        "attempts": None,
        "resends": None,
        "smtp_reply": None,
        "error": None,
    },
}
TIMELINE = {
    "order_id": ORDER_ID,
    "order_number": 10001,
    "entries": [
        {
            "id": 1,
            "at": ORDER["created_at"],
            "what": "placed",
            "by": {"kind": "customer", "id": _USER_ID, "name": "Ada Lovelace"},
            "reason": None,
            "request_id": None,
            "mail": None,
        },
        _MAIL,
    ],
}
TICKET = {"ticket": "m0Zq1w6vB3n8J5kXr2tYp9uLd4sHc7fGaEiVoWbNeQs", "expires_in": 60}
STREAM = (
    "retry: 2000\n\nid: 2\nevent: mail_sent\n"
    'data: {"id":2,"at":"2026-03-01T09:30:01.480Z","what":"mail_sent",...}\n\n: nothing new\n\n'
)
CSV = (
    '"order_number","id","created_at","updated_at","status","payment_status","payment_method","currency",'
    '"total_amount","quantity","items","user_id","user_name","user_email","recipient","line1","line2","city",'
    '"region","postal_code","country","phone","note"\r\n'
    f'10001,"{ORDER_ID}","2026-03-01T09:30:00.125000Z","2026-03-01T09:30:00.125000Z","pending","unpaid","card",'
    f'"EUR",59.98,2,"2 x Kettle","{_USER_ID}","Ada Lovelace","ada@example.com","Ada Lovelace",'
    '"12 St James\'s Square","","London","","SW1Y 4JH","GB","","ring twice"\r\n'
)
PRODUCT = {
    "id": 1,
    "title": "Kettle",
    "price": 29.99,
    "price_minor": 2999,
    "currency": "EUR",
    "image": "/catalog/images/1.svg",
    "description": "Boils water.",
    "brand": "Hearth",
    "model": "K1",
    "color": "steel",
    "category": "kitchen",
    "discount": 10,
}
PRODUCTS = {"products": [PRODUCT], "page": 1, "limit": 20, "has_more": True}
