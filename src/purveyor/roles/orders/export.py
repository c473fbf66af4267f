"""Orders as a CSV file (RFC 4180), safe to open in a spreadsheet."""

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec

from purveyor.kit.deadline import no_deadline
from purveyor.kit.money import to_major
from purveyor.roles.orders.model import Order, OrderFilter, StoredOrder
from purveyor.roles.orders.store import OrderStore

BATCH = 200
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ADDRESS = ("recipient", "line1", "line2", "city", "region", "postal_code", "country", "phone")

_EXACT: dict[str, Callable[[Order], object]] = {
    "order_number": lambda order: order.number,
    "id": lambda order: order.id,
    "created_at": lambda order: order.created_at.isoformat().replace("+00:00", "Z"),
    "updated_at": lambda order: order.updated_at.isoformat().replace("+00:00", "Z"),
    "status": lambda order: order.status,
    "payment_status": lambda order: order.payment_status,
    "payment_method": lambda order: order.payment_method,
    "currency": lambda order: order.currency,
    "total_amount": lambda order: f"{to_major(order.total):.2f}",
    "quantity": lambda order: sum(line.quantity for line in order.lines),
}
"""Columns with values of our own. The other columns hold user input."""
COLUMNS = (*_EXACT, "items", "user_id", "user_name", "user_email", *_ADDRESS, "note")


async def export(store: OrderStore, wanted: OrderFilter) -> AsyncIterator[bytes]:
    """The file in pieces, newest orders first. A piece is read once the one before has been sent."""
    page = await store.page(wanted, BATCH)
    yield _csv([COLUMNS, *map(_row, page)])
    while len(page) == BATCH:
        wanted = msgspec.structs.replace(wanted, after=page[-1].order.id)
        with no_deadline():
            page = await store.page(wanted, BATCH)
        yield _csv(map(_row, page))


def guarded(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _row(stored: StoredOrder) -> Sequence[object]:
    order = stored.order
    address = order.shipping_address
    texts = [
        "; ".join(f"{line.quantity} x {line.title}" for line in order.lines),
        order.user_id,
        stored.buyer.name,
        stored.buyer.email,
        *(getattr(address, name) if address else "" for name in _ADDRESS),
        order.note,
    ]
    return [*(value(order) for value in _EXACT.values()), *map(guarded, texts)]


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
