"""Observations of a drill as plain data: the client's journal, and the servers' contents afterwards."""

from typing import Literal

import msgspec

AttemptKind = Literal["order", "repeat", "get"]
OperationKind = Literal["read", "change"]
Outcome = Literal["ok", "fail", "info"]
"""``ok``: done; ``fail``: certainly not done; ``info``: unknown."""
Policy = Literal["resend", "park"]
"""``MAIL_DOUBTFUL`` of the application."""

CLIENT = "drill"
UNANSWERED = 0
"""The status of an attempt that ended without an answer."""
FINAL = ("sent", "failed", "unknown")
"""The states of a mail that needs no more work."""


class Line(msgspec.Struct, frozen=True):
    """One line of an order; ``price`` is the unit price in minor units."""

    product_id: int
    quantity: int
    price: int


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its outcome. ``repeat``: the order was sent again after its 201."""

    kind: AttemptKind
    key: str
    number: int
    process: str
    """The process it was sent to."""
    sent_at: float
    elapsed_s: float
    status: int
    error: str = ""
    retry_after: bool = False
    replayed: bool = False
    digest: str = ""
    """SHA-256 of the body of a 201."""


class Purchase(msgspec.Struct, kw_only=True):
    """One order as its customer sees it. ``due_at`` was fixed before the load began."""

    key: str
    email: str
    due_at: float
    quantities: dict[int, int]
    """By product id."""
    order_id: str = ""
    attempts: list[Attempt] = []

    @property
    def outcome(self) -> Outcome:
        """``ok``: answered 201 at least once; ``fail``: refused for good (4xx); ``info``: unknown."""
        statuses = [attempt.status for attempt in self.attempts if attempt.kind == "order"]
        if 201 in statuses:  # noqa: PLR2004 - Created
            return "ok"
        maybe = {UNANSWERED, 401, 409, 429}
        certain = [status for status in statuses if status < 500 and status not in maybe]  # noqa: PLR2004 - 5xx
        return "fail" if certain and len(certain) == len(statuses) else "info"

    @property
    def accepted_at(self) -> float | None:
        """Time at which its first 201 was read."""
        times = [a.sent_at + a.elapsed_s for a in self.attempts if a.kind == "order" and a.status == 201]  # noqa: PLR2004
        return min(times, default=None)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A read of an order, or a change with ``If-Match``. Times in seconds, by a clock that never goes back."""

    id: str
    """The id of the request, which the order's history names for a change."""
    client: str
    """The client that sent it. A client sends one request after the other."""
    kind: OperationKind
    order_id: str
    process: str
    """The process it was sent to."""
    sent_at: float
    ended_at: float
    status: int
    error: str = ""
    retry_after: bool = False
    base: int = 0
    """The version in ``If-Match``."""
    sets: str = ""
    """The payment status that a change sets."""
    version: int = 0
    """The version in the answer's ``ETag``; 0 if there was none."""
    state: str = ""
    """The payment status in the answer; empty if there was none."""

    @property
    def elapsed_s(self) -> float:
        return self.ended_at - self.sent_at

    @property
    def outcome(self) -> Outcome:
        if self.status == 200:  # noqa: PLR2004 - OK
            return "ok"
        return "fail" if 400 <= self.status < 500 else "info"  # noqa: PLR2004 - 4xx


class OrderHistory(msgspec.Struct, frozen=True, kw_only=True):
    """An order with its changes as they are stored."""

    order_id: str
    version: int
    payment_status: str
    changes: tuple[str, ...]
    """The id of each change's request, oldest first."""


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    """An order as it is stored; amounts in minor units. ``key`` is empty if it has no idempotency key."""

    id: str
    number: int
    email: str
    total: int
    key: str
    lines: tuple[Line, ...]


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of an outbox; times in seconds since 1970."""

    id: str
    type: str
    subject: str
    body: bytes
    occurred_at: float
    published_at: float | None


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the mail ledger."""

    event_id: str
    kind: str
    recipient: str
    state: str
    attempts: int
    resends: int
    message_id: str


class SinkMail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that the SMTP sink received."""

    message_id: str
    recipient: str
    at: float
    digest: str
    """SHA-256 of its bytes."""
    amounts: frozenset[int]
    """Every amount of money in its text, in minor units."""


class Sample(msgspec.Struct, frozen=True):
    """The resources of one process at one moment; ``CLIENT`` is the drill's own process."""

    process: str
    pid: int
    at: float
    descriptors: int
    memory: int
    """Resident set in bytes."""
    waited_s: float | None = None
    """Seconds of waiting for a processor since its start; ``None`` if not counted."""


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """An event that may cause duplicates: a sender died, or the answer to a final dot was cut off."""

    at: float
    cause: str
    sender_died: bool
    mails: int
    """Maximum number of emails between their final dot and the record of the reply."""


class Injected(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that was injected; times in seconds since 1970."""

    action: str
    target: str
    detail: str
    began_at: float
    ended_at: float
    """Time at which it was lifted: the process was restarted, or the server was reachable again."""
    ready_at: float
    """Time at which a restarted process was ready; otherwise ``ended_at``."""
    error: str = ""


class Observations(msgspec.Struct, kw_only=True):
    """Everything that the checker judges."""

    began_at: float = 0.0
    ended_at: float = 0.0
    """Time at which the load ended."""
    policy: Policy
    purchases: list[Purchase]
    operations: list[Operation] = []
    histories: list[OrderHistory] = []
    """The orders that were operated on."""
    orders: list[OrderRow]
    events: list[EventRow]
    ledger: list[LedgerRow]
    mails: list[SinkMail]
    injected: list[Injected] = []
    doubts: list[Doubt] = []
    samples: list[Sample] = []
    waiting: dict[str, int] = {}
    """Messages in queues at the end; dead letters under the name of their own queue."""
    stuck_transactions: int = 0
    leaks: list[str] = []
    """Places where a canary secret was found."""
    settled_in_s: float | None = None
    """Seconds from the end of the load until no work was pending; ``None`` if that took too long."""
    skipped: int = 0
    """Faults of the schedule that were skipped because their target was still down."""
    own_deaths: list[str] = []
    """Processes that ended by themselves."""
