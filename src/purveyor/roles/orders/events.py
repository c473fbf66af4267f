"""What others hear of orders: the bodies and envelopes of this role's events."""

from datetime import datetime
from typing import Any

from purveyor.kit import log, tracing
from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.http.web import encode
from purveyor.kit.ids import derived_id, new_id
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
from purveyor.roles.orders.ports import Buyer, Kept, Numbered

_FIRST_VERSION = 1
_BY_STATUS: dict[str, type[Event]] = {
    "confirmed": OrderConfirmed,
    "shipped": OrderShipped,
    "delivered": OrderDelivered,
    "cancelled": OrderCancelled,
}


def created_event(order: Order, buyer: Principal) -> Numbered:
    """The body of ``order.created``, the order's number still blank."""
    return Numbered.split(encode(OrderCreated(**_members(order, Buyer(buyer.name, buyer.email, buyer.language)))))


def announcement(kept: Kept) -> Envelope | None:
    """The ``order.created`` of an order that has lost its own; ``None`` once its buyer is erased."""
    if kept.erased:
        return None
    order = kept.order
    return Envelope(
        id=derived_id(order.id, OrderCreated.type),
        type=OrderCreated.type,
        body=encode(OrderCreated(**_members(order, kept.buyer))),
        occurred_at=order.created_at,
        subject=str(order.id),
        sequence=_FIRST_VERSION,
        correlation_id=log.request_id.get(),
        traceparent=tracing.traceparent.get(),
        currency=order.currency,
        language=kept.buyer.language,
    )


def status_event(order: Order, kept: Kept, reason: str) -> Envelope | None:
    """The event that says what an order has become; ``None`` once its buyer is erased: nobody is to be told."""
    if kept.erased:
        return None
    kind = _BY_STATUS[order.status]
    more = {"reason": reason} if kind is OrderCancelled else {}
    return Envelope(
        id=new_id(),
        type=kind.type,
        body=encode(kind(**_members(order, kept.buyer), **more)),
        occurred_at=order.updated_at,
        subject=str(order.id),
        sequence=order.version,
        correlation_id=log.request_id.get(),
        traceparent=tracing.traceparent.get(),
        currency=order.currency,
        language=kept.buyer.language,
    )


def answering_event(event: Event, *, subject: str, sequence: int, at: datetime) -> Envelope:
    """The envelope of an event that answers another one, and belongs to the same request."""
    return Envelope(
        id=new_id(),
        type=event.type,
        body=encode(event),
        occurred_at=at,
        subject=subject,
        sequence=sequence,
        correlation_id=log.request_id.get(),
        traceparent=tracing.traceparent.get(),
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
