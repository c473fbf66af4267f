"""Shared by the tests of brokers: events, handlers that tests control, and one test for every broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.events.transport import DeadLetter, EventHandler, EventTransport, Queue, Undeliverable
from purveyor.kit.ids import new_id
from waiting import until

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


async def told_apart(
    events: EventTransport, queue: Queue, put: Callable[[], Awaitable[object]], reason: str = "no"
) -> Sequence[DeadLetter]:
    """Three equal messages without an id become dead letters, which are dropped and replayed one by one."""

    async def then(count: int) -> None:
        if count <= 3:
            raise Undeliverable(reason)

    async def dead() -> Sequence[DeadLetter] | None:
        found = await events.dead_letters()
        return found if len(found) == 3 else None

    seen = Seen(then)
    async with consuming(events, queue, seen):
        for _ in range(3):
            await put()
        letters = await until(dead)
        assert letters is not None
        first, second, third = (letter.event_id for letter in letters)
        assert len({first, second, third, str(UUID(int=0))}) == 4
        assert letters == await events.dead_letters()

        assert await events.drop(queue.name, second)
        assert not await events.drop(queue.name, second)
        assert await events.replay(queue.name, first)
        await until(lambda: len(seen.got) == 4)
        assert [letter.event_id for letter in await events.dead_letters()] == [third]
    assert {envelope.id for _, envelope in seen.got} == {UUID(int=0)}
    return letters
