"""What happened to an order: the entries of its history. Pure, like the rules in model.py."""

from datetime import datetime
from uuid import UUID

import msgspec


class By(msgspec.Struct, frozen=True):
    """Who did something: ``customer``, ``staff`` or ``system``; the name is empty once it was erased."""

    kind: str
    id: str = ""
    name: str = ""


class MailOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a mail about the order. ``event_id`` is that of the event which it tells of."""

    event_id: str
    kind: str
    state: str
    attempts: int
    resends: int
    smtp_reply: str
    error: str

    @property
    def what(self) -> str:
        """Its name in a history: ``mail_sent``, ``mail_failed`` or ``mail_unknown``."""
        return f"mail_{self.state}"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. ``id`` counts up per order, in the order in which the changes were committed."""

    id: int
    at: datetime
    what: str
    by: By
    reason: str = ""
    request_id: str = ""
    mail: MailOutcome | None = None


def placed(user_id: str, name: str, at: datetime, request_id: str = "") -> Entry:
    """The first entry of every history. It is not stored: the order itself says all of it."""
    return Entry(id=1, at=at, what="placed", by=By("customer", user_id, name), request_id=request_id)


class Timeline(msgspec.Struct, frozen=True):
    """All that happened to one order so far, in the order of the entries' ids."""

    order_id: UUID
    order_number: int
    entries: tuple[Entry, ...]
