"""The interfaces of role email: the mail ledger and the mailer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from purveyor.kit.events.message import Cause
from purveyor.roles.email.contract import MailRecord

DoubtPolicy = Literal["resend", "park"]
"""Policy for an email that may have been sent: resend it once, or park it for an operator.

A mail that is doubtful a second time is always parked.
"""
DOUBT_PAUSE_S = 2.0
"""The pause before a doubtful mail is resent."""


class NewMail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail to be sent, with the exact bytes of its message."""

    event_id: str
    kind: str
    order_number: int | None
    recipient: str
    subject: str
    message_id: str
    message: bytes
    created_at: datetime
    order_id: str = ""
    """The order whose role gets a report on the mail; may be empty."""
    sequence: int = 0
    """The place among the mails of the order; 0 if it has none."""
    user_id: str = ""
    """The account that the mail belongs to; empty if it is unknown."""
    mailbox: str = ""
    """The digest of the recipient's mailbox if the address is not confirmed."""
    request_id: str = ""
    traceparent: str = ""


class Account(msgspec.Struct, frozen=True):
    """An account whose mails are exported or erased.

    The address finds only mails that were recorded before the ledger knew accounts. Mails of a foreign publisher
    belong to nobody, because an address is no proof of who owns it.
    """

    user_id: str
    address: str


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A sender's lease of a mail. ``owner`` and ``attempt`` fence off other senders."""

    event_id: str
    kind: str
    recipient: str
    owner: str
    attempt: int


class Claim(Lease, frozen=True, kw_only=True):
    """A mail that one sender works on."""

    message_id: str
    message: bytes
    created_at: datetime
    superseded_by: str = ""
    """The kind of a later mail that makes this one pointless. Such a mail is not sent."""
    resends: int = 0
    """Number of times it was sent again, because it was doubtful or an operator wanted it."""
    order_id: str = ""
    """The order whose role gets a report on the mail; may be empty."""
    mailbox: str = ""
    """The digest of an unconfirmed mailbox, whose quota the mail has taken at ``taken_at``."""
    taken_at: datetime | None = None
    request_id: str = ""
    traceparent: str = ""


class Report(msgspec.Struct, frozen=True):
    """A record in state ``sent``, ``failed`` or ``unknown`` that is not reported to the order's role yet."""

    record: MailRecord
    order_id: str
    cause: Cause


class ClaimLost(Exception):
    """Another sender has taken over the mail; do not send the final dot."""


Emit = Callable[..., Awaitable[object]]
"""Emits any number of envelopes and returns once they are durable."""


class Ledger(Protocol):
    """Keeps one record per event, kind and recipient. Every transition is atomic and fenced by the claim.

    The write that moves an order's mail to ``sent``, ``failed`` or ``unknown`` also records that ``mail.settled``
    is due, once per state and resend. All methods raise ``Unavailable`` when the database is down.
    """

    server: str
    """The server for error messages; empty means the role's PostgreSQL."""

    async def record(self, mail: NewMail) -> bool:
        """Store a mail to be sent. Returns ``False`` and changes nothing if its record exists, even erased.

        If the account was erased after ``mail.created_at``, stores an erased record and returns ``False``.
        """

    def ownership(self) -> AbstractAsyncContextManager["Owner"]:
        """Register a sender for the duration of the context."""

    async def gone(self) -> Sequence[str]:
        """Return the dead senders with claimed mails. Their names are never reused."""

    async def take_over(self, gone: Sequence[str], policy: DoubtPolicy) -> int:
        """Free the mails of dead senders and return their number. Mails in state ``data`` are doubtful."""

    async def claim(self, owner: str, limit: int) -> Sequence[Claim]:
        """Claim up to ``limit`` due mails whose turn it is.

        A mail with a ``sequence`` waits for the earlier mails about its order to the same recipient. A mail beyond
        the quota of an unconfirmed mailbox is held until the quota has room.
        """

    async def mark_data(self, claim: Claim) -> None:
        """Record that the final dot is about to be sent. Raises ``ClaimLost``."""

    async def mark_sent(self, claim: Lease, reply: str) -> None:
        """Record the server's acceptance, even if the mail was freed since but not claimed again. Idempotent."""

    async def mark_retry(self, claim: Claim, *, reply: str, error: str, pause_s: float) -> None:
        """Record that the mail was not sent and is due again in ``pause_s`` seconds. Gives back its quota."""

    async def mark_failed(self, claim: Claim, *, reply: str, error: str) -> None:
        """Record that the mail was not sent and will not be tried again."""

    async def mark_doubtful(self, claim: Claim, error: str, policy: DoubtPolicy) -> None:
        """Record that no reply to the final dot was read."""

    async def of_account(
        self, account: Account, after: MailRecord | None = None, limit: int = 100
    ) -> Sequence[tuple[MailRecord, bytes]]:
        """Return up to ``limit`` records of an account after ``after`` with their messages, oldest first."""

    async def erase(self, account: Account, at: datetime) -> int:
        """Erase address, subject and message of an account's records; return how many.

        Unsent mails become ``failed``. The records stay, so that an event that is delivered again is not mailed.
        The digest of the account is stored with ``at``, so that older events that are delivered later are not
        mailed either.
        """

    async def release(self, account: Account) -> int:
        """Lift the quota from an account's unsent mails to its address and make held ones due; return how many.

        Mails of foreign publishers and of other accounts to the same mailbox stay bounded.
        """

    async def erase_farewells(self) -> int:
        """Erase the last mails to deleted accounts that were sent or have failed; return how many.

        ``erase`` leaves these mails out, since it may be repeated before they are sent.
        """

    async def forget_old(self, erased_days: int) -> None:
        """Delete the digests of accounts that were erased so long ago, and quotas that nothing counts against."""

    async def empty_sent(self, older_than_days: int, limit: int) -> int:
        """Empty up to ``limit`` messages of mails sent so long ago; return how many. They cannot be resent."""

    async def find(self, event_id: str) -> tuple[MailRecord, bytes] | None: ...

    async def list(self, state: str, event_ids: Sequence[str], limit: int) -> Sequence[MailRecord]:
        """Return the newest records; an empty ``state`` or ``event_ids`` means any."""

    async def resend(self, event_id: str) -> bool:
        """Make a mail due again, without a quota.

        Returns ``False`` if it is being sent, not held, or its message was deleted.
        """

    async def resolve(self, event_id: str, *, sent: bool) -> bool:
        """Settle an ``unknown`` mail. Returns ``False`` if it is in another state."""

    async def waiting(self) -> Mapping[str, int]:
        """Count the mails that are not sent yet: ``due`` now, due ``later``, or ``claimed`` by a sender."""

    async def check(self) -> str:
        """Return a short description, or raise."""


class Owner(Protocol):
    """A registered sender."""

    name: str

    def is_alive(self) -> bool:
        """Return whether the sender still holds its claims; if not, other senders may take over."""


class Refused(Exception):
    """The server rejected the mail permanently (5xx)."""


class NotNow(Exception):
    """The mail was not sent and may be sent later (4xx, no connection, an error before the final dot)."""


class Doubtful(Exception):
    """The final dot was sent and the reply is unknown."""


class Mailer(Protocol):
    """Delivers mails."""

    slots: int
    """The maximum number of concurrent mails."""
    server: str
    """The server for error messages; may be empty."""

    async def send(self, claim: Claim, before_dot: Callable[[], Awaitable[None]]) -> str:
        """Send a mail and return the server's reply. Raises ``Refused``, ``NotNow`` or ``Doubtful``.

        Calls ``before_dot`` just before the final dot, and stops if that raises.
        """

    async def check(self) -> str:
        """Return a short description, or raise."""
