"""The invariants of orders: I1, I2, I7, I8."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from http import HTTPStatus

from purveyor_drill.observations import EventRow, Observations, OrderRow

CREATED = "order.created"


def accepted_once(observed: Observations) -> Iterator[str]:
    """I1: an accepted key has exactly one order, a refused one none, one with unknown outcome none or one.

    Orders that no client placed are violations too, and orders that were answered 201 but not found by GET.
    """
    by_key: defaultdict[str, list[OrderRow]] = defaultdict(list)
    for order in observed.orders:
        by_key[order.key].append(order)
    for order in by_key.pop("", ()):
        yield f"order {order.id} has no idempotency key: the drill did not place it"
    for purchase in observed.purchases:
        orders = by_key.pop(purchase.key, [])
        least, most = {"ok": (1, 1), "fail": (0, 0), "info": (0, 1)}[purchase.outcome]
        if not least <= len(orders) <= most:
            names = ", ".join(order.id for order in orders) or "none"
            told = f"{purchase.outcome}, answered with order {purchase.order_id or 'unknown'}"
            yield f"key {purchase.key} ({told}): stored is {names}"
        elif orders and purchase.order_id and orders[0].id != purchase.order_id:
            yield f"key {purchase.key} was answered with order {purchase.order_id}, stored is {orders[0].id}"
        if any(attempt.kind == "get" and attempt.status == HTTPStatus.NOT_FOUND for attempt in purchase.attempts):
            yield f"order {purchase.order_id} was answered 201 and later 404"
    for key, orders in by_key.items():
        yield f"order {orders[0].id} has key {key}, which the drill did not send"


def events_one_to_one(observed: Observations) -> Iterator[str]:
    """I2: every order has exactly one creation event, and every such event an order."""
    events = Counter(event.subject for event in observed.events if event.type == CREATED)
    orders = {order.id for order in observed.orders}
    for order in orders:
        if events[order] != 1:
            yield f"order {order} has {events[order]} creation events in the outbox"
    for subject in events.keys() - orders:
        yield f"there is a creation event of order {subject}, which is not stored"


def amounts_agree(observed: Observations) -> Iterator[str]:
    """I7: the lines add up to the total in the row, in the event and in the mail, to the cent."""
    events = {event.subject: event for event in observed.events if event.type == CREATED}
    message_ids = {record.event_id: record.message_id for record in observed.ledger}
    amounts = {mail.message_id: mail.amounts for mail in observed.mails}
    wanted = {purchase.key: purchase.quantities for purchase in observed.purchases}
    for order in observed.orders:
        total = sum(line.quantity * line.price for line in order.lines)
        if total != order.total:
            yield f"order {order.id}: its lines add up to {total}, its total is {order.total}"
        if wanted.get(order.key, {}) != {line.product_id: line.quantity for line in order.lines}:
            yield f"order {order.id}: its lines are not what was ordered"
        if event := events.get(order.id):
            if (stated := _stated(event)) != (order.total, total):
                yield f"order {order.id}: its event {event.id} states {stated}, its total is {order.total}"
            shown = amounts.get(message_ids.get(event.id, ""))
            if shown is not None and order.total not in shown:
                yield f"order {order.id}: its mail does not show the total {order.total}"


def _stated(event: EventRow) -> tuple[int, int]:
    """The total and the sum of the lines in an event's body, in minor units; -1 for what is no whole number."""
    body = json.loads(event.body, parse_float=Decimal)
    lines = sum(Decimal(item["quantity"]) * Decimal(item["price"]) for item in body["items"])
    return _cents(Decimal(body["total_amount"])), _cents(Decimal(lines))


def _cents(amount: Decimal) -> int:
    minor = amount * 100
    return int(minor) if minor == int(minor) else -1


def replays_equal(observed: Observations) -> Iterator[str]:
    """I8: every 201 for a key has the same body, and all but the first are marked as replayed."""
    for purchase in observed.purchases:
        digests = {attempt.digest for attempt in purchase.attempts if attempt.digest}
        if len(digests) > 1:
            yield f"key {purchase.key}, order {purchase.order_id}: {len(digests)} different answers"
        firsts = [a for a in purchase.attempts if a.status == HTTPStatus.CREATED and not a.replayed]
        if len(firsts) > 1:
            yield f"key {purchase.key}, order {purchase.order_id}: {len(firsts)} answers claim to be the first"
        for attempt in purchase.attempts:
            refused = 400 <= attempt.status < 500 and attempt.status not in {401, 409, 429}  # noqa: PLR2004 - 4xx
            if attempt.kind == "repeat" and refused:
                yield f"order {purchase.order_id}: the same request again was answered {attempt.status}"
