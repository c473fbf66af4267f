"""What tests of the RabbitMQ transport share: servers, another service's client, handlers that tests control."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import aiormq
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from purveyor.kit.events.transport import Queue
from purveyor.transports.rabbitmq.events import RabbitEvents
from purveyor_drill.servers.rabbitmq import RabbitServer4


class QuorumServer4(RabbitServer4):
    """RabbitMQ 4 where a queue without a type becomes a quorum queue, as some providers set it."""

    _vhost = ""

    def start(self) -> None:
        super().start()
        self.create_vhost("quorum", default_queue_type="quorum")
        self._vhost = "quorum"

    def _own_url(self) -> str:
        return super()._own_url() + self._vhost


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
