"""Consumers: FastStream subscribers that lose nothing with the connection, their consumer or the server.

FastStream 0.7.8 and nats-py 2.16 fall silent or hold events up at several places. A comment at each correction
says what was measured without it. Beside that, nobody calls ``NatsBroker.start``: it starts all subscribers. And
the broker has no middleware: an exception in one leaves the message unacknowledged, with nothing in the log.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from faststream import AckPolicy
from faststream.nats import NatsBroker, NatsMessage, PullSub
from nats.aio.msg import Msg
from nats.js.errors import APIError, NotFoundError

from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.failpoints import failpoint
from purveyor.transports import headers
from purveyor.transports.handling import Handling, caused_by
from purveyor.transports.nats import streams
from purveyor.transports.nats.link import ANSWER_S, CONFIRM_S, Link, Refused, soon

log = logging.getLogger(__name__)

Send = Callable[[bytes, str, str, dict[str, str], float], Awaitable[object]]
"""Publishes a body on a subject into a stream, with headers, until a deadline."""

_WATCH_S = 2.0
_LOOK_S = 5.0
_PULL_S = 5.0
_BEAT_S = streams.ACK_WAIT_S / 4
_REFUSED_S = 5.0
_FINISH_S = 15.0


class Consumer:
    """Keeps one queue's durable consumer subscribed, and settles what is delivered."""

    def __init__(
        self, link: Link, name: str, *, declare: Callable[[], Awaitable[None]], send: Send, prefetch: int
    ) -> None:
        self._link, self._name, self._declare, self._send, self._prefetch = link, name, declare, send, prefetch
        self._in_hand: dict[asyncio.Task[None], Msg] = {}
        self._over = asyncio.Event()
        self._broker: NatsBroker | None = None
        self._subscriber: Any = None

    async def run(self, handling: Handling) -> None:
        """Consume until cancelled; then take nothing new, and wait 15 s at most for the handlers in hand."""
        self._handling, self._over = handling, asyncio.Event()
        beating = asyncio.create_task(self._beat(), name=f"beat of {self._name}")
        try:
            while True:
                try:
                    if not await self._subscribed():
                        await self._subscribe()
                except (Unavailable, StartupError, APIError) as error:
                    log.warning("not subscribed", extra={"queue": self._name, "reason": str(error)})
                # Spread, so that the processes do not come back as one.
                await asyncio.sleep(_WATCH_S * random.uniform(0.4, 1.0))  # noqa: S311
        finally:
            await self._finish()
            beating.cancel()

    async def _subscribed(self) -> bool:
        """Return whether events are pulled, and the server still has the consumer.

        Without it the pulls end in silence or in an error that FastStream suppresses: ``running`` and ``ping``
        stayed true for as long as we looked.
        """
        if self._subscriber is None or self._broker is not self._link.broker:
            return False
        if all(task.done() for task in self._subscriber.tasks):
            log.warning("subscriber ended, it is started again", extra={"queue": self._name})
            return False
        try:
            async with self._link.until(soon(_LOOK_S)):
                jetstream = await self._link.jetstream()
                await jetstream.consumer_info(streams.EVENTS_STREAM, streams.consumer_name(self._name))
        except NotFoundError:
            log.warning("consumer was deleted on the server, it is made again", extra={"queue": self._name})
            return False
        return True

    async def _subscribe(self) -> None:
        await self._declare()
        async with self._link.until(soon(ANSWER_S)):
            jetstream = await self._link.jetstream()
            await streams.declare_consumer(jetstream, self._name)
        await self._unsubscribe()
        self._broker = self._link.broker
        # A new one each time: one whose ``stop`` failed keeps its subscription, and never pulls again.
        self._subscriber = self._broker.subscriber(
            streams.subject(self._name),
            durable=streams.consumer_name(self._name),
            stream=streams.EVENTS_STREAM,
            config=streams.consumer_config(self._name),
            # One at a time: with more, nats-py holds what it has back until the batch is full or the time is up.
            pull_sub=PullSub(batch_size=1, timeout=_PULL_S),
            ack_policy=AckPolicy.MANUAL,
            decoder=_raw,
            no_reply=True,
        )
        self._subscriber(self._take)
        async with self._link.until(soon(ANSWER_S)):
            await self._subscriber.start()

    async def _unsubscribe(self) -> None:
        if self._subscriber is not None:
            subscriber, self._subscriber = self._subscriber, None
            await self._link.let_go(subscriber.stop())

    async def _finish(self) -> None:
        await self._unsubscribe()
        self._over.set()
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=_FINISH_S)
        for task in self._in_hand:
            task.cancel()
        await asyncio.gather(*self._in_hand, return_exceptions=True)

    async def _take(self, message: Msg) -> None:
        """Start to handle an event, and return as soon as there is room for another one.

        FastStream pulls again only when this has returned: with the handler inside, one slow event held up all.
        """
        task = asyncio.create_task(self._handle(message, self._over), name=f"event of {self._name}")
        self._in_hand[task] = message
        task.add_done_callback(self._in_hand.pop)
        while len(self._in_hand) >= self._prefetch:
            await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)

    async def _beat(self) -> None:
        """Tell the server that the events in hand are still being handled."""
        while True:
            await asyncio.sleep(_BEAT_S)
            for message in list(self._in_hand.values()):
                try:
                    async with self._link.until(soon(_BEAT_S)):
                        if not message.is_acked:
                            await message.in_progress()
                except (Unavailable, StartupError) as away:
                    log.warning("events may come again", extra={"queue": self._name, "reason": str(away)})
                    break

    async def _handle(self, message: Msg, over: asyncio.Event) -> None:
        """Handle one event, and settle it. What is not settled is delivered again."""
        sent = streams.envelope_of(message.headers or {}, self._handling.queue, message.data)
        with caused_by(sent):
            error = await self._handling.attempt_while_away(sent, over)
            try:
                await self._settle(message, sent, error)
            except (Unavailable, StartupError) as away:
                log.warning("event will come again", extra=self._handling.about(sent) | {"reason": str(away)})

    async def _settle(self, message: Msg, sent: Envelope, error: Exception | None) -> None:
        """Acknowledge it, have it delivered again after a pause, or put it into the dead letters."""
        if error is None:
            return await self._tell(message.ack())
        if isinstance(error, Unavailable):  # we are about to stop
            return await self._tell(message.nak())
        delivered = message.metadata
        failure = self._handling.failure(sent, delivered.num_delivered - 1, error)
        if failure.pause_s is not None:
            await self._tell(message.nak(delay=failure.pause_s))
            return failpoint("consumer.put_aside")
        notes = streams.again(
            message.headers or {}, f"{self._name}.{delivered.sequence.stream}", headers.notes_on(failure, sent)
        )
        try:
            subject = streams.dead_subject(self._name)
            await self._send(message.data, subject, streams.DEAD_STREAM, notes, soon(CONFIRM_S))
        except Refused as refusal:
            reason = {"reason": str(refusal)}
            log.warning("event cannot be put aside", extra=self._handling.about(sent) | reason)
            return await self._tell(message.nak(delay=_REFUSED_S))
        failpoint("consumer.put_aside")
        await self._tell(message.ack())
        return None

    async def _tell(self, answer: Awaitable[None]) -> None:
        async with self._link.until(soon(CONFIRM_S)):
            await answer


async def _raw(message: NatsMessage) -> Msg:
    """A decoder: the handler gets the message itself, its body still bytes."""
    return message.raw_message
