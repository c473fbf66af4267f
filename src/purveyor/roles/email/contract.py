"""The asks and events of role email."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Literal

from purveyor.kit.events.message import Ask, Event, Message
from purveyor.kit.role import Port

State = Literal["pending", "claimed", "data", "sent", "retry", "failed", "unknown"]
"""``pending``: not tried yet. ``claimed``: a sender works on it and has not sent it. ``data``: the final dot may
have been sent. ``retry``: will be tried again. ``failed``: rejected or given up. ``unknown``: may have been sent;
parked for an operator."""

SUPERSEDED = "superseded by "
"""Start of the error of an email that a later one made pointless. The kind of the later one follows."""

HELD = "held: "
"""Start of the error of an email that waits because its address is unconfirmed. The limit follows."""


class MailRecord(Message, frozen=True):
    """A record of the mail ledger, one per event, kind and recipient."""

    event_id: str
    kind: str
    order_number: int | None
    recipient: str
    subject: str
    message_id: str
    state: State
    attempts: int
    resends: int
    """Number of resends, in doubt or by an operator."""
    smtp_reply: str
    error: str
    created_at: datetime
    updated_at: datetime
    next_attempt_at: datetime | None = None
    """When the mail is tried next at the earliest, if its state is ``pending`` or ``retry``."""


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
    """A JSON array of mail records."""


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
    """Of these events, which all become mails, return those without a mail in the ledger."""

    reply: ClassVar = EventIds
    idempotent: ClassVar = True

    event_ids: tuple[str, ...]


class ClaimsFound(Message, frozen=True):
    """Dead senders with claimed mails, and the number of mails that were settled or freed."""

    senders: tuple[str, ...]
    mails: int


class RecoverClaims(Ask[ClaimsFound], frozen=True):
    """Find the mails claimed by dead senders; with ``apply`` settle or free them."""

    reply: ClassVar = ClaimsFound

    apply: bool = False


class MailShown(Message, frozen=True):
    """A record with the message as it is sent."""

    record: MailRecord
    message: str


class ShowMail(Ask[MailShown], frozen=True):
    """A record by its event id. Raises ``NotFound``."""

    reply: ClassVar = MailShown
    idempotent: ClassVar = True

    event_id: str


class ResendMail(Ask[MailRecord], frozen=True):
    """Send a mail again with the same Message-ID, unless it is being sent. Raises ``NotFound``, ``Conflict``."""

    reply: ClassVar = MailRecord

    event_id: str


class ResolveMail(Ask[MailRecord], frozen=True):
    """Settle an ``unknown`` mail as sent, or send it again. Raises ``NotFound``, ``Conflict``."""

    reply: ClassVar = MailRecord

    event_id: str
    sent: bool


class MailboxFound(Message, frozen=True):
    """True if there is a development mailbox."""

    found: bool


class FindMailbox(Ask[MailboxFound], frozen=True):
    """True if emails go to a development mailbox."""

    reply: ClassVar = MailboxFound
    idempotent: ClassVar = True


MailboxPart = Literal["messages", "message", "source", "previews"]


class MailboxContent(Message, frozen=True):
    """A part of the development mailbox as JSON, or the source of an email."""

    content: str
    next_cursor: str = ""
    """The cursor of the next page of messages; empty on the last one."""
    total: int = 0
    """The number of messages on all pages."""


class ReadMailbox(Ask[MailboxContent], frozen=True):
    """A part of the development mailbox. Raises ``NotFound`` without a mailbox.

    ``limit``, ``cursor`` and ``query`` apply to messages; ``id`` names the email of ``message`` and ``source``.
    """

    reply: ClassVar = MailboxContent
    idempotent: ClassVar = True

    part: MailboxPart
    limit: int = 50
    cursor: str = ""
    query: str = ""
    id: str = ""


class EmptyMailbox(Ask[MailboxFound], frozen=True):
    """Delete one email from the development mailbox, or all of them without ``id``. Raises ``NotFound``."""

    reply: ClassVar = MailboxFound
    idempotent: ClassVar = True

    id: str = ""


class Email(Port):
    """The mail ledger and the development mailbox as other roles and the operator see them."""

    role = "email"
    setting = "EMAIL_SERVICE"
    asks = (
        *(ListMails, ShowMail, ResendMail, ResolveMail, WhichUnrecorded, RecoverClaims),
        *(FindMailbox, ReadMailbox, EmptyMailbox),
    )

    async def mails(
        self, *, state: str = "", event_ids: Sequence[str] = (), limit: int = 50
    ) -> tuple[MailRecord, ...]:
        return (await self._asker.ask(ListMails(state=state, event_ids=tuple(event_ids), limit=limit))).mails

    async def show(self, event_id: str) -> MailShown:
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
        return (await self._asker.ask(FindMailbox())).found

    async def mailbox(
        self,
        part: MailboxPart,
        *,
        limit: int = 50,
        cursor: str = "",
        query: str = "",
        id: str = "",  # noqa: A002
    ) -> MailboxContent:
        return await self._asker.ask(ReadMailbox(part=part, limit=limit, cursor=cursor, query=query, id=id))

    async def empty_mailbox(self, id: str = "") -> None:  # noqa: A002 - the field's name
        await self._asker.ask(EmptyMailbox(id=id))
