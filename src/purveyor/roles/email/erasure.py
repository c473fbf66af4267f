"""What is remembered of an address that was erased, and for how long: no event from before brings it back."""

import hashlib
from datetime import datetime, timedelta

from purveyor.kit.message import Envelope

REMEMBERED_DAYS = 365
"""An older event could only come from a dead letter that somebody sends again after more than a year."""


def digest_of(address: str) -> str:
    """The SHA-256 of an address, in hexadecimal digits: it is recognised, and not kept."""
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()


def happened_at(envelope: Envelope) -> datetime:
    """When an event happened: of RabbitMQ's whole seconds, the id of an event of ours tells the millisecond."""
    at = envelope.occurred_at
    if envelope.id.version != 7 or at.microsecond:  # noqa: PLR2004 - UUIDv7
        return at
    later = timedelta(milliseconds=(envelope.id.int >> 80) - int(at.timestamp()) * 1000)
    return at + later if timedelta(0) <= later < timedelta(seconds=1) else at
