"""An event's envelope as message headers, and notes on its failures: the same names on every broker.

A foreign publisher may write anything: what cannot be read counts as missing. Numbers and moments may be texts,
since some brokers carry nothing else.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from purveyor.kit import tracing
from purveyor.kit.clock import now
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import DeadLetter, Queue
from purveyor.kit.ids import new_id, parse_id, stable_id
from purveyor.transports.handling import Failure

Headers = Mapping[str, Any]

ATTEMPT, REASON, DIED_AT, DEAD_ID = NOTES = ("x-attempt", "x-reason", "x-died-at", "x-dead-id")
REPLAYED = {ATTEMPT: 0}
"""The notes on a dead letter that is sent again."""
NO_ID = UUID(int=0)
_ORDER_ID, _SUBJECT = "order_id", "subject"
"""The header that has the envelope's subject: the first one if that is an order."""
_ABOUT_ORDERS = ("order.", "mail.settled")
_SHOWN_BYTES = 64 * 1024


def headers_of(sent: Envelope) -> dict[str, Any]:
    """The headers of an event; empty values are left out. Id, time, type and request id travel as properties."""
    headers: dict[str, Any] = {
        _ORDER_ID if sent.type.startswith(_ABOUT_ORDERS) else _SUBJECT: sent.subject,
        "sequence": sent.sequence,
        "currency": sent.currency,
        "language": sent.language,
        "traceparent": sent.traceparent,
        "signature": sent.signature,
    }
    return {name: value for name, value in headers.items() if value}


def envelope_of(
    headers: Headers,
    queue: Queue,
    body: bytes,
    *,
    message_id: str | None,
    occurred_at: datetime | None,
    correlation_id: str | None,
) -> Envelope:
    """The envelope of a delivered message; a foreign one may lack every property."""
    return Envelope(
        id=event_id(message_id),
        type=queue.event.type,
        body=body,
        occurred_at=occurred_at or now(),
        subject=_text(headers, _ORDER_ID) or _text(headers, _SUBJECT),
        sequence=_number(headers, "sequence"),
        correlation_id=correlation_id or "",
        currency=_text(headers, "currency"),
        language=_text(headers, "language"),
        traceparent=tracing.parse(_text(headers, "traceparent")),
        signature=_text(headers, "signature"),
    )


def event_id(message_id: str | None) -> UUID:
    """Zero for a message without an id, derived from an id that is no UUID (RFC 9562 section 5.5)."""
    return (parse_id(message_id) or stable_id(message_id)) if message_id else NO_ID


def attempts_of(headers: Headers) -> int:
    """Return the number of failed attempts so far."""
    return max(0, _number(headers, ATTEMPT))


def notes_on(failure: Failure, sent: Envelope) -> dict[str, Any]:
    """The headers that a failed message gets for its next queue."""
    notes: dict[str, Any] = {ATTEMPT: failure.attempts, REASON: failure.reason}
    if failure.dead:
        notes[DIED_AT] = now()
        if sent.id == NO_ID:
            notes[DEAD_ID] = str(new_id())
    return notes


def moment_of(headers: Headers, name: str) -> datetime | None:
    """Return the moment in a header, in UTC if it does not say; ``None`` without one."""
    value = headers.get(name)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def dead_id_of(headers: Headers, message_id: str | None) -> str:
    """Return the id of a dead letter: its event id, or else the id assigned when it became a dead letter."""
    return _text(headers, DEAD_ID) or str(event_id(message_id))


def dead_letter_of(headers: Headers, queue: Queue, sent: Envelope, dead_id: str) -> DeadLetter:
    """A dead message as an operator sees it; of a large body the first 64 KiB."""
    return DeadLetter(
        queue=queue.name,
        event_id=dead_id,
        type=sent.type,
        subject=sent.subject,
        attempts=attempts_of(headers),
        reason=_text(headers, REASON),
        died_at=moment_of(headers, DIED_AT) or now(),
        body=sent.body[:_SHOWN_BYTES].decode("utf-8", "replace"),
    )


def _text(headers: Headers, name: str) -> str:
    value = headers.get(name)
    return value if isinstance(value, str) else ""


def _number(headers: Headers, name: str) -> int:
    value = headers.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:  # noqa: PLR2004 - fits an int4
        return int(value)
    return value if isinstance(value, int) else 0
