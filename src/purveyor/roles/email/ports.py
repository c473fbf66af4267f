"""What email needs from outside: a ledger of mails, and a way to hand them over."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from purveyor.roles.email.contract import MailRecord

DoubtPolicy = Literal["resend", "park"]
"""What to do with a mail of which nobody knows whether it was sent."""


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


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that one sender works on. ``owner`` and ``attempt`` are the fence against a second one."""

    event_id: str
    kind: str
    recipient: str
    message_id: str
    message: bytes
    owner: str
    attempt: int
    created_at: datetime


class ClaimLost(Exception):
    """Another sender has taken the mail over: whoever meets this stops before the final dot."""


class Ledger(Protocol):
    """Keeps one record per (event, kind, recipient); every transition is atomic and fenced by the claim.

    Raises ``Unavailable`` when the database is away.
    """

    async def record(self, mail: NewMail) -> bool:
        """Store a mail to be sent; ``False`` when there was one already, which then stays as it is."""
        ...

    def ownership(self) -> AbstractAsyncContextManager["Owner"]:
        """Become a sender, for as long as the context lasts."""
        ...

    async def recover(self, policy: DoubtPolicy) -> int:
        """Free the mails of senders that are gone; how many. What was at ``data`` is doubtful."""
        ...

    async def claim(self, owner: str, limit: int) -> Sequence[Claim]:
        """Take mails that are due, at most ``limit``."""
        ...

    async def mark_data(self, claim: Claim) -> None:
        """Record that the final dot is about to be written. Raises ``ClaimLost``."""
        ...

    async def mark_sent(self, claim: Claim, reply: str) -> None:
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
        """The final dot was written and no answer was read."""
        ...

    async def find(self, event_id: str) -> tuple[MailRecord, bytes] | None:
        """A record and its message."""
        ...

    async def list(self, state: str, event_ids: Sequence[str], limit: int) -> Sequence[MailRecord]:
        """The newest records; an empty ``state`` or ``event_ids`` means any."""
        ...

    async def resend(self, event_id: str) -> bool:
        """Make a mail due again that no sender works on; ``False`` when there is none such."""
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

    async def send(self, claim: Claim, before_dot: Callable[[], Awaitable[None]]) -> str:
        """Hand one mail over and return the server's reply.

        Calls ``before_dot`` just before the point of no return, and does not go on when that raises.
        Raises ``Refused``, ``NotNow`` or ``Doubtful``.
        """
        ...

    async def check(self) -> str:
        """A sign of life, or an exception."""
        ...
