"""Events through RabbitMQ: publish with confirms, consume with retries and dead letters, look and replay.

FastStream's broker holds the connections and publishes. Consumers are channels of their own: its subscribers
cancel the handlers in hand when the connection drops, and hoard deliveries while they stop.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import cast

from aio_pika import Channel, Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq import Channel as WireChannel
from faststream.rabbit import RabbitExchange

from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import DeadLetter, EventHandler, Queue
from purveyor.kit.failpoints import failpoint
from purveyor.transports.rabbitmq import topology
from purveyor.transports.rabbitmq.deliveries import Deliveries
from purveyor.transports.rabbitmq.link import CONFIRM_S, Link, Unroutable, soon

log = logging.getLogger(__name__)

_Tasks = set[asyncio.Task[None]]

_DECLARE_S = 20.0
_DECLARING = 8
_RESTORE_EVERY_S = 1.0
_LOOK_S = 15.0
_MAX_DEAD_LETTERS = 1000
_WATCH_S = 0.5
_FINISH_S = 15.0


class RabbitEvents:
    """The event transport over RabbitMQ.

    ``queue_type="quorum"`` makes the queues replicated. A foreign service that asserts ``order.created`` as
    plain durable then gets PRECONDITION_FAILED, because a queue has one type: choose ``classic``, the
    default, where such services share a queue with us. ``startup_wait_s`` is how long ``open`` waits for the
    server, in seconds; ``prefetch`` how many events of a queue are in hand at a time.
    """

    def __init__(
        self, url: str, *, queue_type: topology.QueueType = "classic", startup_wait_s: float, prefetch: int = 20
    ) -> None:
        self._queue_type = queue_type
        self._startup_wait_s, self._prefetch = startup_wait_s, prefetch
        self._queues: dict[str, Queue] = {}
        self._publishing = Link(url, "publish")
        # A memory alarm stops whatever comes over a connection that publishes: the acks need another one.
        self._consuming = Link(url, "consume")
        self._restoring, self._restored_at = asyncio.Lock(), -_RESTORE_EVERY_S

    async def open(self, queues: Sequence[Queue]) -> None:
        """See ``EventTransport``.

        Raises ``StartupError`` when the server cannot be reached in ``startup_wait_s``, refuses us, or has a
        queue in another form. Once this returned, the transport heals by itself.
        """
        self._queues = {queue.name: queue for queue in queues}
        deadline = soon(self._startup_wait_s)
        try:
            while True:
                try:
                    return await self._declare(self._publishing, queues)
                except Unavailable as away:
                    if soon(0) >= deadline:
                        raise StartupError(f"{away.detail} Start the server or correct RABBITMQ_URL.") from away
                await asyncio.sleep(random.uniform(0.2, 0.6))  # noqa: S311 - spreads processes that start as one
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See ``EventTransport``."""
        await asyncio.gather(self._consuming.close(), self._publishing.close())

    async def _declare(self, link: Link, queues: Sequence[Queue]) -> None:
        """Over several channels: a queue takes six round trips, which a channel makes one after the other."""

        async def some(part: Sequence[Queue]) -> None:
            async with link.channel() as channel, link.until(soon(_DECLARE_S)):
                await topology.declare(channel, part, self._queue_type)

        parts = [queues[place::_DECLARING] for place in range(min(_DECLARING, len(queues)))]
        outcomes = await asyncio.gather(*map(some, parts), return_exceptions=True)
        for failure in filter(None, outcomes):
            raise failure

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        """See ``EventTransport``. Returns within 6 s, whatever the server does.

        ``Unavailable`` at an event's place: not confirmed, and it may have arrived all the same. ``Unroutable``
        and ``Refused``: it has not.
        """
        deadline = soon(CONFIRM_S)

        async def outcome(sent: Envelope) -> Exception | None:
            try:
                await self._send(topology.message_of(sent), sent.type, topology.EVENTS, deadline)
                failpoint("publish.confirmed")
            except Exception as error:
                return error
            return None

        return await asyncio.gather(*map(outcome, envelopes))

    async def _send(self, message: Message, key: str, exchange: RabbitExchange, deadline: float) -> None:
        try:
            await self._publishing.send(message, key, exchange, deadline)
        except Unroutable:
            async with self._publishing.until(deadline):
                await self._restore()
            await self._publishing.send(message, key, exchange, deadline)

    async def _restore(self) -> None:
        """Declare again what somebody deleted while we ran; one at a time, and at most once a second."""
        async with self._restoring:
            if soon(-_RESTORE_EVERY_S) > self._restored_at:
                self._restored_at = soon(0)
                await self._declare(self._publishing, list(self._queues.values()))

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        """See ``EventTransport``.

        A handler that fails is called again after 5 s, 30 s and 5 min; then the event is a dead letter. While
        it raises ``Unavailable`` the event stays in hand, and that counts as no attempt. When cancelled: no
        new events, and at most 15 s for the handlers in hand.
        """
        in_hand: _Tasks = set()
        try:
            while True:
                try:
                    await self._subscribe(queue, handler, in_hand)
                except (Unavailable, StartupError, ChannelNotFoundEntity) as error:
                    log.warning("not subscribed", extra={"queue": queue.name, "reason": str(error)})
                await asyncio.sleep(random.uniform(0.1, 0.4))  # noqa: S311 - spreads processes that come back as one
        finally:
            for task in in_hand:
                task.cancel()
            await asyncio.gather(*in_hand, return_exceptions=True)

    async def _subscribe(self, queue: Queue, handler: EventHandler, in_hand: _Tasks) -> None:
        """Consume until the server ends it (connection lost, queue deleted, failover), or until cancelled."""
        link, over = self._consuming, asyncio.Event()
        deliveries = Deliveries(link, self._send, queue, handler, over)

        async def take(message: AbstractIncomingMessage) -> None:
            # A task of ours: the library cancels its own when the connection drops.
            task = asyncio.create_task(deliveries.handle(message), name=f"event of {queue.name}")
            in_hand.add(task)
            task.add_done_callback(in_hand.discard)

        try:
            await self._declare(link, [queue])
        except StartupError as error:
            log.warning("queue changed while we ran", extra={"queue": queue.name, "reason": str(error)})
        async with link.channel() as channel:
            async with link.until(soon(_DECLARE_S)):
                await channel.set_qos(self._prefetch)
                source = await channel.get_queue(queue.name, ensure=False)
                tag = await source.consume(take)
            try:
                await _watch(channel, tag)
            except asyncio.CancelledError:
                await link.let_go(source.cancel(tag))
                over.set()
                if in_hand:
                    await asyncio.wait(in_hand, timeout=_FINISH_S)
                raise
            finally:
                over.set()

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """See ``EventTransport``. The oldest 1000 of each queue; they stay where they are."""
        found = [
            topology.dead_letter_of(message, queue)
            for queue in self._queues.values()
            async for message in self._dead(queue)
        ]
        return sorted(found, key=lambda letter: letter.died_at)[:_MAX_DEAD_LETTERS]

    async def replay(self, queue: str, event_id: str) -> bool:
        """See ``EventTransport``. Looks through the oldest 1000; the queue confirms it before it is taken out."""

        async def send(message: AbstractIncomingMessage, deadline: float) -> None:
            await self._send(topology.fresh(message), queue, topology.DEFAULT, deadline)

        return await self._take_out(queue, event_id, send)

    async def drop(self, queue: str, event_id: str) -> bool:
        """See ``EventTransport``. Looks through the oldest 1000."""

        async def leave(_message: AbstractIncomingMessage, _deadline: float) -> None:
            return

        return await self._take_out(queue, event_id, leave)

    async def _take_out(
        self, queue: str, event_id: str, first: Callable[[AbstractIncomingMessage, float], Awaitable[None]]
    ) -> bool:
        if queue not in self._queues:
            return False
        async with aclosing(self._dead(self._queues[queue])) as messages:
            async for message in messages:
                if topology.dead_id_of(message) == event_id:
                    deadline = soon(CONFIRM_S)
                    await first(message, deadline)
                    async with self._publishing.until(deadline):
                        await message.ack()
                    return True
        return False

    async def _dead(self, queue: Queue) -> AsyncGenerator[AbstractIncomingMessage, None]:
        """The dead letters of a queue; all that are not acked go back when this is closed."""
        deadline = soon(_LOOK_S)
        async with self._publishing.channel() as channel:
            source = await channel.get_queue(topology.dead_queue(queue.name), ensure=False)
            with suppress(ChannelNotFoundEntity):  # somebody deleted the queue
                for _ in range(_MAX_DEAD_LETTERS):
                    async with self._publishing.until(deadline):
                        message = await source.get(fail=False)
                    if message is None:
                        return
                    yield message

    async def check(self) -> str:
        """See ``EventTransport``. Raises ``Unavailable``, also while an alarm of the server blocks publishers."""
        return await self._publishing.check()


async def _watch(channel: Channel, tag: str) -> None:
    """Return when the channel has lost its consumer: the server may cancel one without closing anything."""
    wire = cast("WireChannel", await channel.get_underlay_channel())
    while not channel.is_closed and tag in wire.consumers:  # noqa: ASYNC110 - nothing reports all of it
        await asyncio.sleep(_WATCH_S)
