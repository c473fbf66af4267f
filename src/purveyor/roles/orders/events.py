"""The events of role orders."""

from typing import Any

import msgspec

from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.ids import stable_id
from purveyor.kit.money import to_major
from purveyor.roles.orders.contract import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderDelivered,
    OrderedItem,
    OrderPaid,
    OrderRefunded,
    OrderShipped,
)
from purveyor.roles.orders.model import Buyer, Order, StoredOrder

_FIRST_VERSION = 1
_BY_STATUS: dict[str, type[Event]] = {
    "confirmed": OrderConfirmed,
    "shipped": OrderShipped,
    "delivered": OrderDelivered,
    "cancelled": OrderCancelled,
}
_BY_PAYMENT_STATUS: dict[str, type[Event]] = {"paid": OrderPaid, "refunded": OrderRefunded}


def created_event(order: Order, buyer: Buyer) -> Envelope:
    """The ``order.created`` of an order that has no number yet."""
    return _about(order, buyer, OrderCreated)


def announcement(stored: StoredOrder) -> Envelope | None:
    """A new ``order.created`` for an order that lost its own; ``None`` when the buyer was erased."""
    if stored.erased:
        return None
    event = _about(stored.order, stored.buyer, OrderCreated)
    return msgspec.structs.replace(
        event,
        id=stable_id(OrderCreated.type, stored.order.id, dated=True),
        occurred_at=stored.order.created_at,
        sequence=_FIRST_VERSION,
    )


def status_event(order: Order, stored: StoredOrder, reason: str) -> Envelope | None:
    """The event for an order's new status; ``None`` when the buyer was erased."""
    if stored.erased:
        return None
    kind = _BY_STATUS[order.status]
    return _about(order, stored.buyer, kind, **({"reason": reason} if kind is OrderCancelled else {}))


def payment_event(order: Order, stored: StoredOrder) -> Envelope | None:
    """The event for an order's new payment status; ``None`` when the buyer was erased."""
    return None if stored.erased else _about(order, stored.buyer, _BY_PAYMENT_STATUS[order.payment_status])


def _about(order: Order, buyer: Buyer, kind: type[Event], **more: str) -> Envelope:
    return Envelope.about(
        kind(**_members(order, buyer), **more),
        subject=str(order.id),
        sequence=order.version,
        at=order.updated_at,
        currency=order.currency,
        language=buyer.language,
    )


def _members(order: Order, buyer: Buyer) -> dict[str, Any]:
    items = tuple(
        OrderedItem(
            product_id=line.product_id,
            quantity=line.quantity,
            price=to_major(line.price, order.currency),
            total_amt=to_major(line.total, order.currency),
            title=line.title,
        )
        for line in order.lines
    )
    return {
        "order_number": order.number,
        "user_email": buyer.email,
        "user_name": buyer.name,
        "total_amount": to_major(order.total, order.currency),
        "items": items,
        "payment_method": order.payment_method,
        "order_id": str(order.id),
        "currency": order.currency,
        "language": buyer.language,
        "payment_status": order.payment_status,
        "note": order.note,
        "shipping_address": order.shipping_address,
        "user_id": order.user_id,
        "recipient_confirmed": buyer.confirmed,
    }
