"""Histories as JSON: what customers may know of them, and what staff may."""

from datetime import datetime

import msgspec

from purveyor.roles.orders.history import By, Entry, MailOutcome, Timeline

_SHOP = "the shop"


class ByView(msgspec.Struct, frozen=True):
    """Who did it. Customers are told ``the shop`` for its staff and its machines."""

    kind: str
    id: str | None
    name: str | None


class MailView(msgspec.Struct, frozen=True):
    """What became of a mail. What the mail server said is for staff, and ``null`` for customers."""

    kind: str
    state: str
    event_id: str | None = None
    attempts: int | None = None
    resends: int | None = None
    smtp_reply: str | None = None
    error: str | None = None


class EntryView(msgspec.Struct, frozen=True):
    """One thing that happened. ``id`` counts up within the order; ``request_id`` is for staff."""

    id: int
    at: datetime
    what: str
    by: ByView
    reason: str | None
    request_id: str | None
    mail: MailView | None


class TimelineView(msgspec.Struct, frozen=True):
    """All that happened to an order, in the order of the ids."""

    order_id: str
    order_number: int
    entries: list[EntryView]


def timeline_view(timeline: Timeline, *, by_staff: bool) -> TimelineView:
    """What a client reads of a timeline."""
    entries = [entry_view(entry, by_staff=by_staff) for entry in timeline.entries]
    return TimelineView(str(timeline.order_id), timeline.order_number, entries)


def entry_view(entry: Entry, *, by_staff: bool) -> EntryView:
    """What a client reads of one entry."""
    return EntryView(
        id=entry.id,
        at=entry.at,
        what=entry.what,
        by=_by(entry.by, by_staff=by_staff),
        reason=entry.reason or None,
        request_id=(entry.request_id or None) if by_staff else None,
        mail=_mail(entry.mail, by_staff=by_staff) if entry.mail else None,
    )


def _by(by: By, *, by_staff: bool) -> ByView:
    if by_staff or by.kind == "customer":
        return ByView(by.kind, by.id or None, by.name or None)
    return ByView(by.kind, None, _SHOP)


def _mail(mail: MailOutcome, *, by_staff: bool) -> MailView:
    if not by_staff:
        return MailView(mail.kind, mail.state)
    return MailView(
        kind=mail.kind,
        state=mail.state,
        event_id=mail.event_id,
        attempts=mail.attempts,
        resends=mail.resends,
        smtp_reply=mail.smtp_reply or None,
        error=mail.error or None,
    )
