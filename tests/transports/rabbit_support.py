"""What tests of the RabbitMQ transport share: servers, another service's client, handlers that tests control."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import aio_pika
import aiormq
import msgspec
import pytest
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.events.transport import EventHandler, Queue
from purveyor.kit.ids import new_id
from purveyor.transports.rabbitmq.events import RabbitEvents
from purveyor_drill.servers.rabbitmq import RabbitServer4

MOMENT = datetime(2026, 11, 22, 12, 30, 15, tzinfo=UTC)


class QuorumServer4(RabbitServer4):
    """RabbitMQ 4 where a queue without a type becomes a quorum queue, as some providers set it."""

    _vhost = ""

    def start(self) -> None:
        super().start()
        self.create_vhost("quorum", default_queue_type="quorum")
        self._vhost = "quorum"

    def _own_url(self) -> str:
        return super()._own_url() + self._vhost


def event_type(name: str) -> type[Event]:
    kind: Any = msgspec.defstruct(
        "Numbered", [("number", int)], bases=(Event,), namespace={"type": name}, frozen=True, kw_only=True
    )
    return cast("type[Event]", kind)


@asynccontextmanager
async def opened(url: str, *queues: Queue, prefetch: int = 20) -> AsyncIterator[RabbitEvents]:
    events = RabbitEvents(url, startup_wait_s=10, prefetch=prefetch)
    try:
        await events.open(queues)
        yield events
    finally:
        await events.close()


class Foreign:
    """Another service with a client of its own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def depth(self, name: str) -> int:
        async with self.connection.channel() as channel:
            try:
                queue = await channel.declare_queue(name, passive=True)
            except aio_pika.exceptions.ChannelNotFoundEntity:
                return 0
            return int(queue.declaration_result.message_count)

    async def consumers(self, name: str) -> int:
        async with self.connection.channel() as channel:
            queue = await channel.declare_queue(name, passive=True)
            return int(queue.declaration_result.consumer_count)

    async def delete(self, name: str) -> None:
        async with self.connection.channel() as channel:
            await channel.queue_delete(name)

    async def take(self, name: str) -> Any:
        async with self.connection.channel() as channel:
            return await (await channel.get_queue(name)).get(no_ack=True)

    async def put(self, name: str, body: bytes, **properties: Any) -> None:
        async with self.connection.channel() as channel:
            await channel.default_exchange.publish(aio_pika.Message(body, **properties), name)

    async def put_raw(self, name: str, body: bytes, flags: int = 0, properties: bytes = b"") -> None:
        """Below the client's own publish, which adds a message id and refuses to write odd properties."""
        async with self.connection.channel() as channel:
            wire: aiormq.Channel = await channel.get_underlay_channel()
            header = RawHeader(flags, properties, body_size=len(body))
            frames: list[Any] = [Basic.Publish(routing_key=name), header, ContentBody(body)]
            await wire.write_queue.put(ChannelFrame.marshall(channel_number=wire.number, frames=frames))


class RawHeader(ContentHeader):
    """A content header whose properties are written as they stand (AMQP 0-9-1 section 2.3.5.2)."""

    def __init__(self, flags: int, raw: bytes, body_size: int) -> None:
        super().__init__(body_size=body_size)
        self.flags, self.raw = flags, raw

    def marshal(self) -> bytes:
        return struct.pack(">HxxQH", 60, self.body_size, self.flags) + self.raw


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
    events: RabbitEvents, queue: Queue, handler: EventHandler
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
