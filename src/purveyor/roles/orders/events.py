"""What others hear of orders: the bodies and envelopes of this role's events."""

from typing import Any

import msgspec

from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.ids import derived_id
from purveyor.kit.money import to_major
from purveyor.roles.auth.contract import Principal
from purveyor.roles.orders.contract import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderDelivered,
    OrderedItem,
    OrderShipped,
)
from purveyor.roles.orders.model import Order
from purveyor.roles.orders.ports import Buyer, Kept

_FIRST_VERSION = 1
_BY_STATUS: dict[str, type[Event]] = {
    "confirmed": OrderConfirmed,
    "shipped": OrderShipped,
    "delivered": OrderDelivered,
    "cancelled": OrderCancelled,
}


def created_event(order: Order, buyer: Principal) -> Envelope:
    """The ``order.created`` of an order whose number is still blank."""
    return _about(order, Buyer(buyer.name, buyer.email, buyer.language), OrderCreated)


def announcement(kept: Kept) -> Envelope | None:
    """The ``order.created`` of an order that has lost its own; ``None`` once its buyer is erased."""
    if kept.erased:
        return None
    event = _about(kept.order, kept.buyer, OrderCreated)
    return msgspec.structs.replace(
        event,
        id=derived_id(kept.order.id, OrderCreated.type),
        occurred_at=kept.order.created_at,
        sequence=_FIRST_VERSION,
    )


def status_event(order: Order, kept: Kept, reason: str) -> Envelope | None:
    """The event that says what an order has become; ``None`` once its buyer is erased: nobody is to be told."""
    if kept.erased:
        return None
    kind = _BY_STATUS[order.status]
    return _about(order, kept.buyer, kind, **({"reason": reason} if kind is OrderCancelled else {}))


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
            price=to_major(line.price),
            total_amt=to_major(line.total),
        )
        for line in order.lines
    )
    return {
        "order_number": order.number,
        "user_email": buyer.email,
        "user_name": buyer.name,
        "total_amount": to_major(order.total),
        "items": items,
        "payment_method": order.payment_method,
    }
