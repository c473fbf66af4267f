"""What email needs from outside: a ledger of mails, and a way to hand them over."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from purveyor.kit.events.message import Cause
from purveyor.roles.email.contract import MailRecord

DoubtPolicy = Literal["resend", "park"]
"""What to do with a mail of which nobody knows whether it was sent: ``resend`` it once, or ``park`` it.

In doubt a second time it is parked in any case, until an operator has it sent again.
"""
DOUBT_PAUSE_S = 2.0
"""How long a doubtful mail waits before it is re-sent, in seconds."""


class NewMail(msgspec.Struct, frozen=True, kw_only=True):
    """A mail to be sent, complete: what is stored are the very bytes that leave."""

    event_id: str
    kind: str
    order_number: int | None
    recipient: str
    subject: str
    message_id: str
    message: bytes
    created_at: datetime
    order_id: str = ""
    """The order that the mail is about: what becomes of the mail is then reported. Empty: of no known order."""
    request_id: str = ""
    """The request that caused it."""
    traceparent: str = ""
    """The trace that it belongs to (W3C Trace Context)."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One sender's hold on one mail. ``owner`` and ``attempt`` are the fence against a second sender."""

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


class Report(msgspec.Struct, frozen=True):
    """A record at ``sent``, ``failed`` or ``unknown`` of which the order's role is not told yet."""

    record: MailRecord
    order_id: str
    cause: Cause


class ClaimLost(Exception):
    """Another sender has taken the mail over: whoever meets this stops before the final dot."""


Emit = Callable[..., Awaitable[object]]
"""Takes any number of envelopes and returns once none of them can be lost."""


class Ledger(Protocol):
    """Keeps one record per (event, kind, recipient); every transition is atomic and fenced by the claim.

    When a mail of an order comes to ``sent``, ``failed`` or ``unknown``, the same write has it told as
    ``mail.settled``, once for each state and re-send.

    Raises ``Unavailable`` when the database is away.
    """

    server: str
    """Which server it is, for people; empty: the role's PostgreSQL."""

    async def record(self, mail: NewMail) -> bool:
        """Store a mail to be sent; ``False`` when there was one already, which then stays as it is.

        One that was erased counts: an event that is delivered again brings nothing back. When the recipient was
        erased after ``mail.created_at``, what is stored is such a record without them, and the answer ``False``.
        """
        ...

    def ownership(self) -> AbstractAsyncContextManager["Owner"]:
        """Become a sender, for as long as the context lasts."""
        ...

    async def gone(self) -> Sequence[str]:
        """The senders that have mails in hand and are not alive. Their names are never used again."""
        ...

    async def take_over(self, gone: Sequence[str], policy: DoubtPolicy) -> int:
        """Free the mails of senders that are gone; how many. What was at ``data`` is doubtful."""
        ...

    async def claim(self, owner: str, limit: int) -> Sequence[Claim]:
        """Take mails that are due, at most ``limit``."""
        ...

    async def mark_data(self, claim: Claim) -> None:
        """Record that the final dot is about to be written. Raises ``ClaimLost``."""
        ...

    async def mark_sent(self, claim: Lease, reply: str) -> None:
        """Record the server's acceptance, also when the mail was freed meanwhile but nobody has taken it.

        Repeating it changes nothing.
        """
        ...

    async def mark_retry(self, claim: Claim, *, reply: str, error: str, pause_s: float) -> None:
        """Certainly not sent: to be tried again after ``pause_s`` seconds."""
        ...

    async def mark_failed(self, claim: Claim, *, reply: str, error: str) -> None:
        """Certainly not sent, and not to be tried again."""
        ...

    async def mark_doubtful(self, claim: Claim, error: str, policy: DoubtPolicy) -> None:
        """The final dot was written and no answer was read: see ``DoubtPolicy``."""
        ...

    async def of_recipient(
        self, recipient: str, after: MailRecord | None = None, limit: int = 100
    ) -> Sequence[tuple[MailRecord, bytes]]:
        """The records of an address with their messages, oldest first: at most ``limit`` that follow ``after``."""
        ...

    async def erase(self, recipient: str, at: datetime) -> int:
        """Wipe address, subject and message of an address's records; how many.

        What was not sent never will be: it becomes ``failed``. What is left of a record keeps its event, when
        that is delivered again, from making a new one. That the address was erased ``at`` is remembered by its
        digest: events from before that come only now are not mailed, later ones are.
        """
        ...

    async def forget_erased(self, older_than_days: int) -> None:
        """Forget what addresses were erased so long ago."""
        ...

    async def empty_sent(self, older_than_days: int, limit: int) -> int:
        """Empty the messages of mails that were sent so long ago, at most ``limit``; how many.

        The records stay. Such a mail can no longer be sent again.
        """
        ...

    async def find(self, event_id: str) -> tuple[MailRecord, bytes] | None:
        """A record and its message."""
        ...

    async def list(self, state: str, event_ids: Sequence[str], limit: int) -> Sequence[MailRecord]:
        """The newest records; an empty ``state`` or ``event_ids`` means any."""
        ...

    async def resend(self, event_id: str) -> bool:
        """Make a mail due again that no sender works on and that still has its message; ``False``: none such."""
        ...

    async def resolve(self, event_id: str, *, sent: bool) -> bool:
        """Settle an ``unknown`` mail; ``False`` when there is none such."""
        ...

    async def check(self) -> str:
        """A sign of life, or an exception."""
        ...


class Owner(Protocol):
    """A sender as the ledger knows it."""

    name: str

    def is_alive(self) -> bool:
        """Whether the ledger still holds this sender for alive; if not, its claims belong to others."""
        ...


class Refused(Exception):
    """The server refused the mail for good (5xx)."""


class NotNow(Exception):
    """The mail was certainly not sent, and may be sent later (4xx, no connection, an error before the dot)."""


class Doubtful(Exception):
    """The final dot was written and the answer is not known."""


class Mailer(Protocol):
    """Hands a mail over to whatever delivers it."""

    slots: int
    """How many mails may be under way at once."""
    server: str
    """Which server it is, for people; empty: none."""

    async def send(self, claim: Claim, before_dot: Callable[[], Awaitable[None]]) -> str:
        """Hand one mail over and return the server's reply.

        Calls ``before_dot`` just before the point of no return, and does not go on when that raises.
        Raises ``Refused``, ``NotNow`` or ``Doubtful``.
        """
        ...

    async def check(self) -> str:
        """A sign of life, or an exception."""
        ...
