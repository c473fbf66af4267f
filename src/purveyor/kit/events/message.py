"""Messages between roles: frozen structs for asks, replies and events."""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Generic, TypeVar
from uuid import UUID

import msgspec

from purveyor.kit import log, tracing
from purveyor.kit.clock import now
from purveyor.kit.errors import Problem, TokenInvalid
from purveyor.kit.ids import new_id

R = TypeVar("R")
_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(content: object) -> bytes:
    """Encode as JSON the way every interface of ours does: decimals are numbers."""
    return _encoder.encode(content)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that crosses a role boundary.

    Fields are scalars, tuples and other messages. Contracts only grow: a new field has a default, and a
    reader ignores members that it does not know.
    """


class Ask(Message, Generic[R], frozen=True, kw_only=True):
    """A request from one role to another that is answered with an ``R``.

    ``route`` is the public route of the answering role that an ask on a person's behalf is bound to, with the
    fields in braces; ``bearer`` names the field that travels as their bearer token. An ask without a route is
    made by a role: over HTTP it has a private route and carries a service token. ``headers`` names the header of
    each field that travels as one, such as ``{"if_match": "If-Match"}``; every other field goes into the JSON
    body. Only an ``idempotent`` ask may be repeated by a transport. ``refusals`` are what a foreign service means
    by a status, where it does not say so in our words.
    """

    reply: ClassVar[type[Message]]
    route: ClassVar[str] = ""
    bearer: ClassVar[str | None] = None
    headers: ClassVar[Mapping[str, str]] = {}
    idempotent: ClassVar[bool] = False
    refusals: ClassVar[Mapping[int, type[Problem]]] = {401: TokenInvalid}


class Event(Message, frozen=True, kw_only=True):
    """A fact in the past tense. ``type`` is its name on every wire, for example ``order.created``."""

    type: ClassVar[str]


class Cause(Message, frozen=True, kw_only=True):
    """The request and the trace that made an event happen."""

    correlation_id: str = ""
    """The id of the request (``X-Request-ID``)."""
    traceparent: str = ""
    """The trace that the request belongs to (W3C Trace Context)."""

    @classmethod
    def current(cls) -> "Cause":
        """The request or the event that this task is handling."""
        return cls(correlation_id=log.request_id.get(), traceparent=tracing.traceparent.get())


class Envelope(Cause, frozen=True, kw_only=True):
    """An event under way: the encoded body and what transports, consumers and operators need around it."""

    id: UUID
    """The event id: UUIDv7, the message id on a broker, the key of every consumer's duplicate check."""
    type: str
    body: bytes
    occurred_at: datetime
    subject: str = ""
    """The ID of the order or other object; ``sequence`` orders the events of one subject."""
    sequence: int = 0
    currency: str = ""
    language: str = ""
    signature: str = ""
    """Proves that a role of this installation sent it; only events about people have one."""

    @classmethod
    def about(
        cls,
        event: Event,
        *,
        subject: str,
        sequence: int = 0,
        caused_by: Cause | None = None,
        id: UUID | None = None,  # noqa: A002 - the member's name
        at: datetime | None = None,
        currency: str = "",
        language: str = "",
    ) -> "Envelope":
        """Put an event into its envelope.

        By default the id is a new one, the time is now, and the cause is the request or event in hand. An event
        that may be emitted again for the same fact needs a stable ``id``.
        """
        cause = caused_by or Cause.current()
        return cls(
            id=id or new_id(),
            type=event.type,
            body=encode(event),
            occurred_at=at or now(),
            subject=subject,
            sequence=sequence,
            correlation_id=cause.correlation_id,
            traceparent=cause.traceparent,
            currency=currency,
            language=language,
        )

    def below(self, span: tracing.Span) -> "Envelope":
        """The event with a span as its trace."""
        return msgspec.structs.replace(self, traceparent=span.traceparent) if span.traceparent else self
