"""Events through RabbitMQ: publish with confirms, consume with retries and dead letters, look and replay.

FastStream's broker holds the connections and publishes. Consumers are channels of their own: its subscribers
cancel the handlers in hand when the connection drops, and hoard deliveries while they stop.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, cast

import msgspec
from aio_pika import Channel, Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from aiormq import Channel as WireChannel
from faststream.rabbit import RabbitExchange

from purveyor.kit import log as logs
from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.message import Envelope, Event
from purveyor.kit.metrics import EVENTS_HANDLED
from purveyor.kit.transport import DeadLetter, EventHandler, Queue, Undeliverable
from purveyor.transports import rabbitmq_topology as topology
from purveyor.transports.rabbitmq_topology import Link, Refused, Unroutable, soon

log = logging.getLogger(__name__)

_Tasks = set[asyncio.Task[None]]
_Send = Callable[[Message, str, RabbitExchange, float], Awaitable[None]]

_CONFIRM_S = 5.0
_DECLARE_S = 20.0
_RESTORE_EVERY_S = 1.0
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
                        raise StartupError(f"{away.detail} Start it, or correct RABBITMQ_URL.") from away
                await asyncio.sleep(random.uniform(0.2, 0.6))  # noqa: S311 - spreads processes that start as one
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See ``EventTransport``."""
        await asyncio.gather(self._consuming.close(), self._publishing.close())

    async def _declare(self, link: Link, queues: Sequence[Queue]) -> None:
        async with link.channel() as channel, link.until(soon(_DECLARE_S)):
            await topology.declare(channel, queues, self._queue_type)

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        """See ``EventTransport``. Returns within 6 s, whatever the server does.

        ``Unavailable`` at an event's place: not confirmed, and it may have arrived all the same. ``Unroutable``
        and ``Refused``: it has not.
        """
        deadline = soon(_CONFIRM_S)

        async def outcome(sent: Envelope) -> Exception | None:
            try:
                await self._send(topology.message_of(sent), sent.type, topology.EVENTS, deadline)
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
        deliveries = _Deliveries(link, self._send, queue, handler, over)

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
        if queue not in self._queues:
            return False
        async with aclosing(self._dead(self._queues[queue])) as messages:
            async for message in messages:
                if str(topology.id_of(message)) == event_id:
                    deadline = soon(_CONFIRM_S)
                    await self._send(topology.fresh(message), queue, topology.DEFAULT, deadline)
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


class _Deliveries:
    """What becomes of the events that one subscription delivers."""

    def __init__(self, link: Link, send: _Send, queue: Queue, handler: EventHandler, over: asyncio.Event) -> None:
        self._link = link
        self._send = send
        self._queue = queue
        self._handler = handler
        self._decoder = msgspec.json.Decoder(queue.event)
        self._over = over  # the subscription has ended: nothing waits any longer, the server delivers again

    async def handle(self, message: AbstractIncomingMessage) -> None:
        """Handle one event, and settle it."""
        logs.request_id.set(message.correlation_id or "")
        pause_s = 0.5
        while isinstance(error := await self._attempt(message), Unavailable):
            log.warning("event waits", extra=self._about(message) | {"reason": str(error)})
            if await self._over_within(pause_s):
                return
            pause_s = min(_LONGEST_WAIT_S, pause_s * 2)
        try:
            if error is not None:
                await self._put_aside(message, error)
            settle = message.ack
        except (Unavailable, Refused, StartupError) as refusal:
            log.warning("event cannot be put aside", extra=self._about(message) | {"reason": str(refusal)})
            if await self._over_within(_REFUSED_PAUSE_S):
                return
            settle = message.nack
        try:
            async with self._link.until(soon(_CONFIRM_S)):
                await settle()
        except Unavailable as away:
            log.warning("event will come again", extra=self._about(message) | {"reason": away.detail})

    async def _attempt(self, message: AbstractIncomingMessage) -> Exception | None:
        error: Exception | None = None
        try:
            event = self._read(message.body)
            async with asyncio.timeout(_HANDLER_S):
                await self._handler(event, topology.envelope_of(message, self._queue))
        except TimeoutError as late:
            error = TimeoutError(str(late) or f"not handled within {_HANDLER_S:g} s")
        except Exception as raised:
            error = raised
        EVENTS_HANDLED.labels(self._queue.name, "failed" if error else "handled").inc()
        return error

    def _read(self, body: bytes) -> Event:
        if len(body) > _MAX_BODY_BYTES:
            raise Undeliverable(f"the body is larger than {_MAX_BODY_BYTES // 1024} KiB")
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Undeliverable(f"the body cannot be read: {error}") from error

    async def _put_aside(self, message: AbstractIncomingMessage, error: Exception) -> None:
        """Confirmed into the next retry queue or the dead letters; the caller then acks."""
        attempts = topology.attempts_of(message) + 1
        dead = topology.dead_queue(self._queue.name)
        target = dead if isinstance(error, Undeliverable) else topology.next_queue(self._queue.name, attempts)
        extra = self._about(message) | {"attempts": attempts, "reason": f"{type(error).__name__}: {error}"}
        log.log(logging.ERROR if target == dead else logging.WARNING, "event not handled", extra=extra)
        copy = topology.failed(message, error, dead=target == dead)
        await self._send(copy, target, topology.DEFAULT, soon(_CONFIRM_S))

    async def _over_within(self, pause_s: float) -> bool:
        try:
            async with asyncio.timeout(pause_s * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads the attempts
                return await self._over.wait()
        except TimeoutError:
            return False

    def _about(self, message: AbstractIncomingMessage) -> dict[str, Any]:
        return {"queue": self._queue.name, "event_id": str(topology.id_of(message))}


async def _watch(channel: Channel, tag: str) -> None:
    """Return when the channel has lost its consumer: the server may cancel one without closing anything."""
    wire = cast("WireChannel", await channel.get_underlay_channel())
    while not channel.is_closed and tag in wire.consumers:  # noqa: ASYNC110 - nothing reports all of it
        await asyncio.sleep(_WATCH_S)
