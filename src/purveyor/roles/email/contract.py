"""What the console may ask of email, and the mail record that it shows."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Literal

from purveyor.kit.events.message import Ask, Event, Message
from purveyor.kit.role import Port

State = Literal["pending", "claimed", "data", "sent", "retry", "failed", "unknown"]
"""``pending``: not tried yet. ``claimed``: a sender works on it, nothing is certain to have left. ``data``: the
final dot may have been written. ``retry``: will be tried again. ``failed``: refused for good, or given up.
``unknown``: nobody knows whether it was sent; parked for an operator."""


class MailRecord(Message, frozen=True):
    """One record of the mail ledger: one for each event, kind and recipient."""

    event_id: str
    kind: str
    order_number: int | None
    recipient: str
    subject: str
    message_id: str
    state: State
    attempts: int
    resends: int
    """How often the mail was handed over again: after a doubt, or because an operator wanted it."""
    smtp_reply: str
    error: str
    created_at: datetime
    updated_at: datetime


class MailSettled(Event, frozen=True):
    """An email about an order reached a final state: sent, failed or unknown.

    The envelope's subject is the order's id. It may come again, after a re-send, with more ``resends``.
    """

    type: ClassVar = "mail.settled"

    event_id: str
    kind: str
    recipient: str
    state: State
    attempts: int
    resends: int
    smtp_reply: str
    error: str


class MailDataErased(Event, frozen=True):
    """Role email has erased the personal data of a user, as the answer to user.erased."""

    type: ClassVar = "mail_data.erased"

    user_id: str


class MailDataExported(Event, frozen=True):
    """A part of the personal data in role email, as the answer to user.export_requested."""

    type: ClassVar = "mail_data.exported"

    export_id: str
    part: int
    """Counted from 1."""
    parts: int
    document: str
    """JSON: an array of mail records."""


class MailRecords(Message, frozen=True):
    """Several records."""

    mails: tuple[MailRecord, ...]


class ListMails(Ask[MailRecords], frozen=True):
    """The newest records, of one state or of all."""

    reply: ClassVar = MailRecords
    idempotent: ClassVar = True

    state: str = ""
    event_ids: tuple[str, ...] = ()
    limit: int = 50


class EventIds(Message, frozen=True):
    """Events by their ids."""

    event_ids: tuple[str, ...]


class WhichUnrecorded(Ask[EventIds], frozen=True):
    """Which of these events have no email in the ledger? Only for events that become emails."""

    reply: ClassVar = EventIds
    idempotent: ClassVar = True

    event_ids: tuple[str, ...]


class ClaimsFound(Message, frozen=True):
    """Senders that are gone and had mails in hand, and how many mails were settled or freed."""

    senders: tuple[str, ...]
    mails: int


class RecoverClaims(Ask[ClaimsFound], frozen=True):
    """From the console: find what senders that are gone had in hand; with ``apply`` settle or free it."""

    reply: ClassVar = ClaimsFound

    apply: bool = False


class MailShown(Message, frozen=True):
    """A record with the message as it is sent."""

    record: MailRecord
    message: str


class ShowMail(Ask[MailShown], frozen=True):
    """One record by its event id. Raises ``NotFound``."""

    reply: ClassVar = MailShown
    idempotent: ClassVar = True

    event_id: str


class ResendMail(Ask[MailRecord], frozen=True):
    """Send a mail again (same Message-ID), whatever became of it. Raises ``NotFound``, ``Conflict``."""

    reply: ClassVar = MailRecord

    event_id: str


class ResolveMail(Ask[MailRecord], frozen=True):
    """Say what became of an ``unknown`` mail. Raises ``NotFound``, ``Conflict``."""

    reply: ClassVar = MailRecord

    event_id: str
    sent: bool


class MailboxFound(Message, frozen=True):
    """Whether there is a development mailbox."""

    found: bool


class FindMailbox(Ask[MailboxFound], frozen=True):
    """Whether emails land in a development mailbox that may be shown."""

    reply: ClassVar = MailboxFound
    idempotent: ClassVar = True


MailboxPart = Literal["messages", "previews"]


class MailboxContent(Message, frozen=True):
    """A part of the development mailbox, ready to be served: HTML or JSON."""

    content: str


class ReadMailbox(Ask[MailboxContent], frozen=True):
    """A part of the development mailbox; ``limit`` is for messages. Raises ``NotFound`` where there is none."""

    reply: ClassVar = MailboxContent
    idempotent: ClassVar = True

    part: MailboxPart
    limit: int = 200


class Email(Port):
    """The mail ledger and the development mailbox as other roles and the operator see them."""

    role = "email"
    setting = "EMAIL_SERVICE"
    asks = (
        *(ListMails, ShowMail, ResendMail, ResolveMail, WhichUnrecorded, RecoverClaims),
        *(FindMailbox, ReadMailbox),
    )

    async def mails(
        self, *, state: str = "", event_ids: Sequence[str] = (), limit: int = 50
    ) -> tuple[MailRecord, ...]:
        """The newest records, of one state or of all, about these events or any."""
        return (await self._asker.ask(ListMails(state=state, event_ids=tuple(event_ids), limit=limit))).mails

    async def show(self, event_id: str) -> MailShown:
        """One record with its message. Raises ``NotFound``."""
        return await self._asker.ask(ShowMail(event_id=event_id))

    async def resend(self, event_id: str) -> MailRecord:
        return await self._asker.ask(ResendMail(event_id=event_id))

    async def resolve(self, event_id: str, *, sent: bool) -> MailRecord:
        return await self._asker.ask(ResolveMail(event_id=event_id, sent=sent))

    async def unrecorded(self, event_ids: Sequence[str]) -> Sequence[str]:
        return (await self._asker.ask(WhichUnrecorded(event_ids=tuple(event_ids)))).event_ids

    async def recover(self, *, apply: bool) -> ClaimsFound:
        return await self._asker.ask(RecoverClaims(apply=apply))

    async def has_mailbox(self) -> bool:
        """Whether there is a development mailbox to show."""
        return (await self._asker.ask(FindMailbox())).found

    async def mailbox(self, part: MailboxPart, limit: int = 200) -> str:
        """A part of it. Raises ``NotFound``."""
        return (await self._asker.ask(ReadMailbox(part=part, limit=limit))).content
