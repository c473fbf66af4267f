"""Orders and products as JSON, as clients read them."""

from datetime import datetime
from typing import Literal

import msgspec

from purveyor.kit.money import Amount, to_major
from purveyor.kit.web import encode
from purveyor.roles.orders.model import Order
from purveyor.roles.orders.ports import Numbered
from purveyor.roles.orders.products_answers import ProductView

Status = Literal["pending", "confirmed", "shipped", "delivered", "cancelled"]
PaymentStatus = Literal["unpaid", "paid", "refunded"]
PaymentMethod = Literal["cash_on_delivery", "card", "bank_transfer"]


class ItemView(msgspec.Struct, frozen=True):
    """One line of an order; amounts are in major units."""

    product_id: int
    title: str
    quantity: int
    price: Amount
    total_amt: Amount


class ShippingAddressView(msgspec.Struct, frozen=True):
    """Where an order goes."""

    recipient: str
    line1: str
    line2: str
    city: str
    region: str
    postal_code: str
    country: str
    phone: str


class OrderView(msgspec.Struct, frozen=True):
    """An order; amounts are in major units of ``currency``."""

    id: str
    order_number: int
    user_id: str
    status: str
    payment_status: str
    payment_method: str
    currency: str
    total_amount: Amount
    items: list[ItemView]
    shipping_address: ShippingAddressView | None
    note: str | None
    version: int
    created_at: datetime
    updated_at: datetime


class OrderPage(msgspec.Struct, frozen=True):
    """Orders, newest first; ``next_cursor`` is for the page after this one."""

    orders: list[OrderView]
    next_cursor: str | None
    has_more: bool


class CatalogueItem(msgspec.Struct, frozen=True):
    """A product as it can be ordered now; the price is in major units of ``currency``."""

    id: int
    title: str
    price: Amount
    currency: str
    image: str
    description: str
    brand: str
    model: str
    color: str
    category: str
    discount: int


class CataloguePage(msgspec.Struct, frozen=True):
    """Products, in the catalogue's order."""

    products: list[CatalogueItem]
    page: int
    limit: int


def order_view(order: Order) -> OrderView:
    """What a client reads of an order."""
    address = order.shipping_address
    return OrderView(
        id=str(order.id),
        order_number=order.number,
        user_id=order.user_id,
        status=order.status,
        payment_status=order.payment_status,
        payment_method=order.payment_method,
        currency=order.currency,
        total_amount=to_major(order.total),
        items=[
            ItemView(line.product_id, line.title, line.quantity, to_major(line.price), to_major(line.total))
            for line in order.lines
        ],
        shipping_address=ShippingAddressView(**msgspec.structs.asdict(address)) if address else None,
        note=order.note or None,
        version=order.version,
        created_at=order.created_at,
        updated_at=order.updated_at,
    )


def catalogue_item(product: ProductView, currency: str) -> CatalogueItem:
    """What a client reads of a product."""
    members = {**msgspec.structs.asdict(product), "price": to_major(product.price)}
    return CatalogueItem(**members, currency=currency)


def answer_of(order: Order) -> Numbered:
    """The answer to a placed order, its number still blank."""
    return Numbered.split(encode(order_view(order)))
