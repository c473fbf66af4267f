"""Made-up observations: a small shop in which everything went well, for tests to spoil."""

import json

import msgspec

from purveyor_drill.observations import (
    Attempt,
    Doubt,
    EventRow,
    Injected,
    LedgerRow,
    Line,
    Observations,
    OrderRow,
    Purchase,
    Sample,
    SinkMail,
)

BEGAN = 1_800_000_000.0


def attempt(key: str, status: int, **rest: object) -> Attempt:
    observed = {"kind": "order", "number": 1, "process": "orders-1", "sent_at": BEGAN, "elapsed_s": 0.01}
    observed |= {"digest": f"answer to {key}"} if status == 201 else {}
    return Attempt(**{**observed, "key": key, "status": status, **rest})


def good_observations(orders: int = 3) -> Observations:
    """Each order answered, stored, told, recorded and mailed once."""
    observed = Observations(
        began_at=BEGAN,
        ended_at=BEGAN + 10,
        policy="resend",
        purchases=[],
        orders=[],
        events=[],
        ledger=[],
        mails=[],
        settled_in_s=1.0,
        doubts=[Doubt(at=BEGAN + 1, cause="kill mails-1", sender_died=True, mails=2)],
        injected=[fault("kill", "mails-1", BEGAN + 1, BEGAN + 1.5, BEGAN + 3)],
    )
    for number in range(orders):
        key, email = f"key-{number}", f"customer-{number}@example.com"
        order, event = f"order-{number}", f"event-{number}"
        purchase = Purchase(key=key, email=email, due_at=BEGAN + number, quantities={7: 2}, order_id=order)
        purchase.attempts = [attempt(key, 201, sent_at=BEGAN + number)]
        observed.purchases.append(purchase)
        observed.orders.append(
            OrderRow(id=order, number=number, email=email, total=2598, key=key, lines=(Line(7, 2, 1299),))
        )
        observed.events.append(
            EventRow(
                id=event,
                type="order.created",
                subject=order,
                body=json.dumps({"total_amount": 25.98, "items": [{"quantity": 2, "price": 12.99}]}).encode(),
                occurred_at=BEGAN + number,
                published_at=BEGAN + number + 0.1,
            )
        )
        observed.ledger.append(
            LedgerRow(
                event_id=event,
                kind="order.created",
                recipient=email,
                state="sent",
                attempts=1,
                resends=0,
                message_id=f"<{event}@shop>",
            )
        )
        observed.mails.append(
            SinkMail(
                message_id=f"<{event}@shop>",
                recipient=email,
                at=BEGAN + number + 0.5,
                digest=f"content of {event}",
                amounts=frozenset({1299, 2598}),
            )
        )
    return observed


def fault(action: str, target: str, began_at: float, ended_at: float, ready_at: float) -> Injected:
    return Injected(
        action=action, target=target, detail="", began_at=began_at, ended_at=ended_at, ready_at=ready_at
    )


def samples(
    descriptors: list[int], memory: list[int], *, process: str = "front", waited_s: list[float] | None = None
) -> list[Sample]:
    """One process, looked at every 10 s."""
    waits = waited_s or [None] * len(memory)
    seen = enumerate(zip(descriptors, memory, waits, strict=True))
    return [
        Sample(process, 1, BEGAN + 10 * place, files, size, waited_s=wait) for place, (files, size, wait) in seen
    ]


def changed(rows: list, place: int, **values: object) -> None:
    """Put a changed copy in the place of a row."""
    rows[place] = msgspec.structs.replace(rows[place], **values)
