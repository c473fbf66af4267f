"""What orders needs from outside: somewhere to keep them. Where prices come from stands in products.py."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from purveyor.kit.events.message import Envelope
from purveyor.roles.orders.contract import OrderTrace
from purveyor.roles.orders.model import By, Entry, MailOutcome, Order, Timeline

_BLANK = b'"order_number":0,'


class IdempotencyKey(msgspec.Struct, frozen=True):
    """A client's word that two requests are the same one. ``fingerprint`` is the SHA-256 of the request."""

    user_id: str
    key: str
    fingerprint: bytes


class Numbered(msgspec.Struct, frozen=True):
    """JSON in which the order's number is still to be filled in: the database gives it with the insert."""

    before: bytes
    after: bytes

    @classmethod
    def split(cls, body: bytes) -> "Numbered":
        """A body at its blank number: the first one, for only ids and no text stand before it."""
        before, _, after = body.partition(_BLANK)
        return cls(before + _BLANK[:-2], b"," + after)

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
    """Its ``order.created``, in whose body the number is still blank."""
    key: IdempotencyKey | None


class Stored(msgspec.Struct, frozen=True):
    """The answer to a placed order; ``replayed`` when it is the answer to an earlier, equal request."""

    order_id: UUID
    answer: bytes
    replayed: bool = False


class Buyer(msgspec.Struct, frozen=True):
    """Whom the events about an order go to, as they were when it was placed; empty once they were erased."""

    name: str
    email: str
    language: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An order with what is kept beside it."""

    order: Order
    buyer: Buyer
    erased: bool
    """Whether its buyer was erased: the order has no name, no address and no note any more."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A change of an order, with all that is stored in its transaction. ``order`` is what it becomes."""

    order: Order
    was: int
    """The version that it is made from."""
    entries: tuple[str, ...]
    """What happened, for the history."""
    by: By
    reason: str
    request_id: str
    event: Envelope | None


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders to list; ``None`` means any. ``after`` is the last order of the page before."""

    user_id: str | None = None
    status: str | None = None
    payment_status: str | None = None
    order_number: int | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    after: UUID | None = None


class OrderBook(Protocol):
    """Keeps orders."""

    async def add(self, new: NewOrder) -> Stored:
        """Store order, lines, idempotency key and event together, or nothing.

        With a key that is known: the first answer again, ``KeyReused`` for another request,
        ``RequestInProgress`` while the first one is being stored. ``TokenInvalid`` when the buyer was erased.
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

    async def find(self, order_id: UUID, owner: str | None) -> Kept:
        """One order with what is kept beside it, of this owner unless ``None``. Raises ``NotFound``."""
        ...

    async def page(self, wanted: Filter, limit: int) -> Sequence[Kept]:
        """Like ``list``, with what is kept beside the orders."""
        ...

    async def change(self, step: Step) -> bool:
        """Store the order's new state, its history and its event together; ``False``: it is at another version."""
        ...

    async def trace(self, order: str) -> OrderTrace:
        """What is known of an order, by its id or number. Raises ``NotFound``."""
        ...

    async def purge(self) -> int:
        """Forget idempotency keys that have expired; how many."""
        ...


class Histories(Protocol):
    """Keeps what happened to orders."""

    async def timeline(self, order_id: UUID, owner: str | None) -> Timeline:
        """All that happened to one order, of this owner unless ``None``. Raises ``NotFound``."""
        ...

    async def news(self, after: Mapping[UUID, int]) -> Mapping[UUID, Sequence[Entry]]:
        """What happened to these orders after the entries with these ids (1 or more); nothing for no news."""
        ...

    async def add_mail(self, order_id: UUID, mail: MailOutcome, at: datetime) -> None:
        """Note what became of a mail, once; nothing for an order that is not ours."""
        ...


class Audits(Protocol):
    """Compares orders with the outbox."""

    async def unannounced(self, type_: str, limit: int) -> Sequence[str]:
        """Orders without an event of this type, oldest first, as far back as events are kept for certain."""
        ...

    async def announce(self, event: Envelope) -> bool:
        """Store an event; ``False`` when there is one of its type for its order."""
        ...


class Persons(Protocol):
    """Erases people and answers for their data."""

    async def erase(self, user_id: str, answer: Envelope, at: datetime) -> None:
        """Erase a person from orders, history, idempotency keys and published events; the amounts stay.

        The answer is emitted together with the last of it. May be repeated: it is then emitted again.
        """
        ...

    async def sweep(self) -> None:
        """Erase what came in after the erasure of its person, and in time forget who they were."""
        ...

    async def answer_export(self, export_id: str, user_id: str, parts: Sequence[Envelope], at: datetime) -> None:
        """Emit the parts of an export, once for each ``export_id``."""
        ...
