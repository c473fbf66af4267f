"""Events through RabbitMQ: publish with confirms, consume with retries and dead letters, look and replay.

FastStream's broker holds the connections and publishes. Its subscribers are not used: one that starts drops
deliveries of its first moment until the channel closes, and one that the server cancelled never comes back.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec
from aio_pika import Channel, Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq import Channel as WireChannel
from faststream.rabbit import RabbitExchange

from purveyor.kit import log as logs
from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.message import Envelope
from purveyor.kit.metrics import EVENTS_HANDLED
from purveyor.kit.transport import DeadLetter, EventHandler, Queue, Undeliverable
from purveyor.transports import rabbitmq_topology as topology
from purveyor.transports.rabbitmq_topology import Link, Refused, Unroutable

log = logging.getLogger(__name__)

_CONFIRM_S = 5.0
_DECLARE_S = 20.0
_CHECK_S = 2.0
_LOOK_S = 15.0
_MAX_DEAD_LETTERS = 1000
_WATCH_S = 0.5
_HANDLER_S = 10.0
_FINISH_S = 15.0
_MAX_BODY_BYTES = 256 * 1024
_LONGEST_WAIT_S = 2.0
_REFUSED_PAUSE_S = 5.0


class RabbitEvents:
    """The event transport over RabbitMQ.

    ``queue_type="quorum"`` makes the queues replicated. A foreign service that asserts ``order.created`` as
    plain durable then gets PRECONDITION_FAILED, because a queue has one type: choose ``classic``, the
    default, where such services share a queue with us. ``startup_wait_s`` is how long ``open`` waits for the
    server, in seconds; ``prefetch`` how many events of a queue are in hand at a time.
    """

    def __init__(
        self,
        url: str,
        *,
        queue_type: topology.QueueType = "classic",
        startup_wait_s: float,
        prefetch: int = 20,
    ) -> None:
        self._queue_type = queue_type
        self._startup_wait_s = startup_wait_s
        self._prefetch = prefetch
        self._queues: dict[str, Queue] = {}
        self._publishing = Link(url, "publish")
        # A memory alarm stops what comes over a connection that publishes: the acks need another one.
        self._consuming = Link(url, "consume")
        self._opening = asyncio.Lock()

    async def open(self, queues: Sequence[Queue]) -> None:
        """See ``EventTransport``.

        Raises ``StartupError`` when the server cannot be reached in ``startup_wait_s``, refuses us, or has a
        queue in another form. Once this returned, the transport heals by itself.
        """
        self._queues = {queue.name: queue for queue in queues}
        await self._publishing.open(self._startup_wait_s)
        try:
            await self._declare(self._publishing, queues)
        except Unavailable as away:
            raise StartupError(away.detail) from away

    async def close(self) -> None:
        """See ``EventTransport``."""
        await self._consuming.close()
        await self._publishing.close()

    async def _declare(self, link: Link, queues: Sequence[Queue]) -> None:
        async with link.channel() as channel, link.until(link.soon(_DECLARE_S)):
            await topology.declare(channel, queues, self._queue_type)

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        """See ``EventTransport``. Returns within 5 s, whatever the server does.

        ``Unavailable`` at an event's place: no confirm, and it may have arrived all the same. ``Unroutable``
        and ``Refused``: it has not.
        """
        deadline = self._publishing.soon(_CONFIRM_S)
        outcomes = await self._send_all(envelopes, deadline)
        types = {queue.event.type for queue in self._queues.values()}
        lost = [
            at
            for at, (sent, error) in enumerate(zip(envelopes, outcomes, strict=True))
            if isinstance(error, Unroutable) and sent.type in types
        ]
        if lost and await self._restore(deadline):
            again = await self._send_all([envelopes[at] for at in lost], deadline)
            for at, error in zip(lost, again, strict=True):
                outcomes[at] = error
        return outcomes

    async def _send_all(self, envelopes: Sequence[Envelope], deadline: float) -> list[Exception | None]:
        return list(
            await asyncio.gather(
                *(
                    self._try(topology.message_of(sent), sent.type, topology.EVENTS, deadline)
                    for sent in envelopes
                )
            )
        )

    async def _try(
        self, message: Message, routing_key: str, exchange: RabbitExchange, deadline: float
    ) -> Exception | None:
        try:
            await self._publishing.send(message, routing_key, exchange, deadline)
        except Exception as error:  # noqa: BLE001 - the outcome of this event, not of the batch
            return error
        return None

    async def _restore(self, deadline: float) -> bool:
        """Declare again what somebody deleted while we ran."""
        try:
            async with self._publishing.until(deadline):
                await self._declare(self._publishing, list(self._queues.values()))
        except (Unavailable, StartupError) as error:
            log.warning("queues cannot be declared again", extra={"reason": str(error)})
            return False
        return True
