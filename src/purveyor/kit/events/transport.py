"""The interfaces of transports for asks and events, free of business terms and drivers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from purveyor.kit.events.message import Ask, Envelope, Event, Message
from purveyor.kit.json_input import UNREADABLE, decode_json

R = TypeVar("R")

Answers = Mapping[type[Ask[Any]], Callable[[Any], Awaitable[Message]]]
"""The asks that an actor answers: their types, with the coroutine functions that handle them."""

EventHandler = Callable[[Any, Envelope], Awaitable[None]]
"""Takes the decoded event and its envelope; returning means handled, raising means try again later."""


class Undeliverable(Exception):
    """A handler's word that this event can never be handled: it goes to the dead letters at once."""


MAX_BODY_BYTES = 256 * 1024
"""No event's body is larger: every transport refuses such a one, so that all give the same guarantee."""


def decoded(body: bytes, event: type[Event]) -> Any:
    """The event that a delivered body holds; raises ``Undeliverable`` for one that no handler could be given."""
    if len(body) > MAX_BODY_BYTES:
        raise Undeliverable(f"the body is larger than {MAX_BODY_BYTES // 1024} KiB")
    try:
        return decode_json(body, event)
    except UNREADABLE as error:
        raise Undeliverable(f"the body cannot be read: {error}") from error


class Asker(Protocol):
    """Carries an ask to the role that answers it, always with a deadline."""

    async def ask(self, message: Ask[R]) -> R:
        """Ask and wait for the reply.

        Raises the ``Problem`` that the other role raised, ``Unavailable`` when the deadline passes or the
        other side cannot be reached, ``RemoteFailure`` for an answer outside the contract.
        """
        ...


class Queue(msgspec.Struct, frozen=True):
    """A named place where events of one type wait for one role."""

    name: str
    event: type[Event]
    role: str


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a role could not handle, as an operator sees it."""

    queue: str
    event_id: str
    type: str
    subject: str
    attempts: int
    reason: str
    died_at: datetime
    body: str


class Publisher(Protocol):
    """Hands events over; the part of a transport that a relay needs."""

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        """Hand events over, at least once. ``None`` at an event's place: confirmed; else why it is not."""
        ...


class EventTransport(Publisher, Protocol):
    """Carries events from the relays to the queues, and from the queues to the handlers."""

    async def open(self, queues: Sequence[Queue]) -> None:
        """Connect, and make sure that every queue of the registry exists, whoever consumes it."""
        ...

    async def close(self) -> None:
        """Finish what is in hand, and let go of the connections."""
        ...

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        """Deliver a queue's events to the handler until cancelled; each at least once."""
        ...

    async def waiting(self, queues: Sequence[Queue]) -> Mapping[str, int]:
        """Count the events that wait in these queues or for their next attempt, by the queue's name.

        Dead letters do not count. Raises when the server does not tell.
        """
        ...

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """Events that could not be handled, oldest first."""
        ...

    async def replay(self, queue: str, event_id: str) -> bool:
        """Send one dead letter again. ``False`` when there is none with that id; safe to repeat."""
        ...

    async def drop(self, queue: str, event_id: str) -> bool:
        """Throw one dead letter away. ``False`` when there is none with that id; safe to repeat."""
        ...

    async def check(self) -> str:
        """Ask the server for a sign of life; a short description, or an exception that says what is wrong."""
        ...
