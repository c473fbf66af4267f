"""Consumers: FastStream subscribers that survive the loss of their connection, their queue or the server.

FastStream 0.7.8, aio-pika 10.2 and aiormq 7.2 cancel handlers, ignore deliveries or fall silent at six places. A
comment at each correction says what was measured without it. Beside that, nobody calls ``RabbitBroker.start``: it
starts all subscribers, and fails or hangs while the server is down. And the broker has no middleware: an exception
in one leaves the message unacked, with nothing in the log.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from aio_pika import IncomingMessage, Message, RobustChannel, RobustQueue
from aio_pika.exceptions import ChannelInvalidStateError, ChannelNotFoundEntity
from aiormq import Channel as WireChannel
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitExchange, RabbitMessage, RabbitQueue

from purveyor.kit.coalescer import Coalescer
from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.failpoints import failpoint
from purveyor.kit.poll import wait_until_set
from purveyor.kit.retry import RetrySchedule
from purveyor.transports import headers
from purveyor.transports.handling import Handling, caused_by
from purveyor.transports.rabbitmq import topology
from purveyor.transports.rabbitmq.link import ANSWER_S, CONFIRM_S, Link, Refused, ack_all, soon

log = logging.getLogger(__name__)

_Ack = tuple[WireChannel, int]
"""The channel that delivered a message, and the message's tag there."""
Send = Callable[[Message, str, RabbitExchange, float], Awaitable[None]]

_WATCH_S = 0.5
_FINISH_S = 15.0
_REFUSED = RetrySchedule(first_s=5.0, longest_s=5.0, jitter=0.2)
MOST_DELIVERIES = 10
"""Half of RabbitMQ 4's default limit, after which a quorum queue drops a message."""


class Consumer:
    """Keeps one queue subscribed, and settles what is delivered. ``declare`` makes sure that the queue exists."""

    def __init__(
        self, link: Link, name: str, *, declare: Callable[[], Awaitable[None]], send: Send, prefetch: int
    ) -> None:
        self._link, self._declare, self._send, self._prefetch = link, declare, send, prefetch
        self._in_hand: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._source: RobustQueue | None = None
        self._wire: WireChannel | None = None
        self._closed = False
        # Not robust, so that nobody but ``run`` subscribes again. Passive, since FastStream would always send
        # ``x-queue-type``, which makes it another queue than the one without arguments.
        self._queue = RabbitQueue(name, declare=False, robust=False)
        self._subscriber = link.broker.subscriber(
            self._queue, ack_policy=AckPolicy.MANUAL, decoder=_raw, no_reply=True
        )
        self._subscriber(self._take)
        self._acks = Coalescer(self._ack, max_size=prefetch)

    async def run(self, handling: Handling) -> None:
        """Consume until cancelled; then take nothing new, and wait 15 s at most for the handlers in hand."""
        self._handling = handling
        try:
            while True:
                if not self._subscribed():
                    try:
                        await self._subscribe()
                    except (Unavailable, StartupError, ChannelNotFoundEntity) as error:
                        log.warning("not subscribed", extra={"queue": self._queue.name, "reason": str(error)})
                # Spread, so that the processes do not come back as one.
                await asyncio.sleep(_WATCH_S * random.uniform(0.4, 1.0))  # noqa: S311
        finally:
            await self._finish()

    def _subscribed(self) -> bool:
        """Return whether the channel still has its consumer.

        The server may cancel one without closing anything (queue deleted, failover), and neither
        ``subscriber.running`` nor ``broker.ping`` tells: both stayed true for as long as we looked.
        """
        return self._wire is not None and not self._wire.is_closed and bool(self._wire.consumers)

    async def _subscribe(self) -> None:
        if self._wire is None or self._wire.is_closed:
            self._over.set()  # what came over that channel comes again
            self._over = asyncio.Event()
        await self._declare()
        async with self._link.until(soon(ANSWER_S)):
            if self._source is None:
                # FastStream keeps a channel whose prefetch could not be set, and uses it without a limit: 200
                # messages were in hand in place of 20. So each try has a new one until the first success.
                self._subscriber.channel = Channel(prefetch_count=self._prefetch, publisher_confirms=False)
            else:
                channel = cast("RobustChannel", self._source.channel)
                await (channel.reopen() if self._closed else channel.restore())
                self._closed = False
                await self._subscriber.stop()
            # ``start`` sets it when the first messages may be here already, which are then neither handled nor
            # acked. Read, not seen: a task switch in aio-pika wins the race today.
            self._subscriber.running = True
            await self._subscriber.start()
            self._source = await self._link.broker.declare_queue(self._queue)  # cached: the one of ``start``
            self._wire = cast("WireChannel", await self._source.channel.get_underlay_channel())

    async def _finish(self) -> None:
        if self._source is not None and self._wire is not None:
            # Before ``stop``: that ignores what is delivered while it waits for handlers, and cancels the consumer
            # only then. With one slow handler, 19 messages stayed unacked, and more kept coming.
            for tag in tuple(self._wire.consumers):
                await self._link.let_go(self._source.cancel(tag))
        self._over.set()
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=_FINISH_S)
        for task in self._in_hand:
            task.cancel()
        await asyncio.gather(*self._in_hand, return_exceptions=True)
        await self._acks.aclose()
        if self._source is not None:
            self._closed = True
            await self._link.let_go(self._source.channel.close())
        await self._link.let_go(self._subscriber.stop())

    async def _take(self, message: IncomingMessage) -> None:
        # A task of ours behind a shield: aiormq cancels its own, and so the handler, when the channel or the
        # connection closes (20 of 20 without the shield).
        task = asyncio.create_task(self._handle(message, self._over), name=f"event of {self._queue.name}")
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)
        await asyncio.shield(task)

    async def _handle(self, message: IncomingMessage, over: asyncio.Event) -> None:
        """Handle one event, and ack it once it is handled or put aside. Without an ack it is delivered again."""
        sent = topology.envelope_of(message, self._handling.queue)
        with caused_by(sent):
            while not await self._handled(message, sent, over):
                # Not nacked: on a quorum queue each nack is one more delivery before the limit.
                await wait_until_set(over, _REFUSED.pause_s(1))
                if over.is_set():
                    return
            try:
                await self._acks.call((cast("WireChannel", message.channel), cast("int", message.delivery_tag)))
            except (Unavailable, ChannelInvalidStateError) as away:
                log.warning("event will come again", extra=self._handling.about(sent) | {"reason": str(away)})

    async def _ack(self, acks: Sequence[_Ack]) -> Sequence[Exception | None]:
        """Ack what was handled in the same moment, for each channel in one write."""
        errors: dict[WireChannel, Exception] = {}
        for channel in {channel for channel, _ in acks}:
            try:
                async with self._link.until(soon(CONFIRM_S)):
                    await ack_all(channel, [tag for each, tag in acks if each is channel])
            except Unavailable as away:
                errors[channel] = away
        return [errors.get(channel) for channel, _ in acks]

    async def _handled(self, message: IncomingMessage, sent: Envelope, over: asyncio.Event) -> bool:
        """Return whether the event can be acked."""
        try:
            if (deliveries := topology.deliveries_of(message)) >= MOST_DELIVERIES:
                # A copy is counted anew; the message itself would be dropped at the limit, with nobody told.
                log.warning("event sent afresh", extra=self._handling.about(sent) | {"deliveries": deliveries})
                await self._put(
                    topology.again(message), topology.retry_queue(self._queue.name, topology.PAUSES_S[0])
                )
            elif error := await self._handling.attempt_while_away(
                sent, over, again=message.redelivered or headers.ATTEMPT in message.headers
            ):
                if isinstance(error, Unavailable):
                    return False
                await self._put_aside(message, sent, error)
                failpoint("consumer.put_aside")
        except (Unavailable, Refused, StartupError) as refusal:
            log.warning("event cannot be put aside", extra=self._handling.about(sent) | {"reason": str(refusal)})
            return False
        return True

    async def _put_aside(self, message: IncomingMessage, sent: Envelope, error: Exception) -> None:
        """Into the next retry queue or the dead letters, confirmed."""
        failure = self._handling.failure(sent, headers.attempts_of(message.headers), error)
        name = self._queue.name
        target = (
            topology.dead_queue(name) if failure.pause_s is None else topology.retry_queue(name, failure.pause_s)
        )
        await self._put(topology.again(message, headers.notes_on(failure, sent)), target)

    async def _put(self, copy: Message, queue: str) -> None:
        await self._send(copy, queue, topology.DEFAULT, soon(CONFIRM_S))


async def _raw(message: RabbitMessage) -> IncomingMessage:
    """A decoder: the handler gets the message itself, its body still bytes."""
    return message.raw_message
