"""The brokers of crashed installations, as an auditor with a client of its own sees them."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
import nats
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from waiting import PATIENCE_S


class Broker(ABC):
    """Counts what lies where, and puts poison in."""

    copies: int
    """How often an event lies in the dead letters whose consumer died between putting it there and the ack."""

    @abstractmethod
    async def waiting(self, queues: Sequence[str]) -> Mapping[str, int]:
        """Messages in each queue and in its dead letters."""

    @abstractmethod
    async def put(self, queue: str, body: bytes, message_id: str) -> None: ...

    @abstractmethod
    async def take_dead(self, queue: str) -> str | None:
        """Take the oldest dead letter out, once nothing waits before it; its message id."""


@dataclass
class RabbitBroker(Broker):
    channel: aio_pika.abc.AbstractChannel
    copies = 2

    async def waiting(self, queues: Sequence[str]) -> Mapping[str, int]:
        found = {}
        for name in (name for queue in queues for name in (queue, f"{queue}.dead")):
            declared = await self.channel.declare_queue(name, passive=True)
            found[name] = declared.declaration_result.message_count or 0
        return found

    async def put(self, queue: str, body: bytes, message_id: str) -> None:
        message = aio_pika.Message(body, message_id=message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self.channel.default_exchange.publish(message, queue)

    async def take_dead(self, queue: str) -> str | None:
        dead = await self.channel.declare_queue(f"{queue}.dead", passive=True)
        letter = await dead.get(no_ack=True, fail=False)
        return letter.message_id if letter else None


@dataclass
class NatsBroker(Broker):
    jetstream: JetStreamContext
    copies = 1  # the server knows the second one's id

    async def waiting(self, queues: Sequence[str]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for stream in ("purveyor", "purveyor-dead"):
            info = await self.jetstream.stream_info(stream, subjects_filter=">")
            found |= info.state.subjects or {}
        return found

    async def put(self, queue: str, body: bytes, message_id: str) -> None:
        await self.jetstream.publish(f"purveyor.events.{queue}", body, headers={"message_id": message_id})

    async def take_dead(self, queue: str) -> str | None:
        if f"purveyor.events.{queue}" in await self.waiting([queue]):
            return None
        subject = f"purveyor.dead.{queue}"
        try:
            letter = await self.jetstream.get_msg("purveyor-dead", seq=1, subject=subject, next=True)
        except NotFoundError:
            return None
        await self.jetstream.delete_msg("purveyor-dead", int(letter.seq or 0))
        return (letter.headers or {}).get("message_id")


@asynccontextmanager
async def broker_of(place: Mapping[str, str]) -> AsyncIterator[Broker]:
    """The broker in an installation's settings."""
    if "NATS_URL" in place:
        client = await nats.connect(place["NATS_URL"])
        yield NatsBroker(client.jetstream(timeout=PATIENCE_S))
        await client.close()
    else:
        async with await aio_pika.connect(place["RABBITMQ_URL"]) as connection:
            yield RabbitBroker(await connection.channel())
