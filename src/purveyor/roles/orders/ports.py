"""What orders needs from outside: somewhere to keep them. Where prices come from stands in products.py."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from purveyor.kit.message import Envelope
from purveyor.roles.orders.contract import OrderTrace
from purveyor.roles.orders.model import Order


class IdempotencyKey(msgspec.Struct, frozen=True):
    """A client's word that two requests are the same one. ``fingerprint`` is the SHA-256 of the request."""

    user_id: str
    key: str
    fingerprint: bytes


class Numbered(msgspec.Struct, frozen=True):
    """JSON in which the order's number is still to be filled in: the database gives it with the insert."""

    before: bytes
    after: bytes

    def fill(self, number: int) -> bytes:
        """The whole."""
        return b"%b%d%b" % (self.before, number, self.after)


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order with all that is stored in its transaction."""

    order: Order
    buyer_email: str
    buyer_name: str
    answer: Numbered
    event: Envelope
    event_body: Numbered
    key: IdempotencyKey | None


class Stored(msgspec.Struct, frozen=True):
    """The answer to a placed order; ``replayed`` when it is the answer to an earlier, equal request."""

    order_id: UUID
    answer: bytes
    replayed: bool = False


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders to list; ``None`` means any. ``after`` is the last order of the page before."""

    user_id: str | None = None
    status: str | None = None
    order_number: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    after: UUID | None = None


class OrderBook(Protocol):
    """Keeps orders."""

    async def add(self, new: NewOrder) -> Stored:
        """Store order, lines, idempotency key and event together, or nothing.

        With a key that is known: the first answer again, ``KeyReused`` for another request,
        ``RequestInProgress`` while the first one is being stored.
        """
        ...

    async def find_answer(self, key: IdempotencyKey) -> Stored | None:
        """The answer kept for a key, or ``None``. Raises ``KeyReused`` for another request."""
        ...

    async def get(self, order_id: UUID, owner: str | None) -> Order:
        """One order, of this owner unless ``None``. Raises ``NotFound``."""
        ...

    async def list(self, wanted: Filter, limit: int) -> Sequence[Order]:
        """At most ``limit`` orders, newest first."""
        ...

    async def trace(self, order: str) -> OrderTrace:
        """What is known of an order, by its id or number. Raises ``NotFound``."""
        ...

    async def purge(self) -> int:
        """Forget idempotency keys that have expired; how many."""
        ...
