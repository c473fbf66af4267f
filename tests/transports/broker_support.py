"""What tests of the transports over brokers share: events, and handlers that tests control."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest

from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.events.transport import EventHandler, EventTransport, Queue
from purveyor.kit.ids import new_id

MOMENT = datetime(2026, 11, 22, 12, 30, 15, tzinfo=UTC)


def event_type(name: str) -> type[Event]:
    kind: Any = msgspec.defstruct(
        "Numbered", [("number", int)], bases=(Event,), namespace={"type": name}, frozen=True, kw_only=True
    )
    return cast("type[Event]", kind)


class Seen:
    """A handler that keeps what it got, and does what the test says."""

    def __init__(self, then: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.got: list[tuple[Any, Envelope]] = []
        self._then = then

    async def __call__(self, event: Any, envelope: Envelope) -> None:
        self.got.append((event, envelope))
        if self._then is not None:
            await self._then(len(self.got))

    @property
    def numbers(self) -> list[int]:
        return [event.number for event, _ in self.got]


@asynccontextmanager
async def consuming(
    events: EventTransport, queue: Queue, handler: EventHandler
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(events.consume(queue, handler))
    try:
        yield task
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def raising(error: Exception) -> Callable[[int], Awaitable[None]]:
    async def then(_: int) -> None:
        raise error

    return then


def sent_on(queue: Queue, number: int = 1, **more: Any) -> Envelope:
    body = b'{"number":%d}' % number
    return Envelope(id=new_id(), type=queue.event.type, body=body, occurred_at=MOMENT, **more)
