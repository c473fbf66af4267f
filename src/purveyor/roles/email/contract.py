"""What the console may ask of email, and the mail record that it shows."""

from datetime import datetime
from typing import ClassVar, Literal

from purveyor.kit.message import Ask, Message

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
    """How often the mail was handed over again because the time before was doubtful."""
    smtp_reply: str
    error: str
    created_at: datetime
    updated_at: datetime


class MailRecords(Message, frozen=True):
    """Several records."""

    mails: tuple[MailRecord, ...]


class ListMails(Ask[MailRecords], frozen=True):
    """The newest records, of one state or of all."""

    reply: ClassVar = MailRecords

    state: str = ""
    event_ids: tuple[str, ...] = ()
    limit: int = 50


class MailShown(Message, frozen=True):
    """A record with the message as it is sent."""

    record: MailRecord
    message: str


class ShowMail(Ask[MailShown], frozen=True):
    """One record by its event id. Raises ``NotFound``."""

    reply: ClassVar = MailShown

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
