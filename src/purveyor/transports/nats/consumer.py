"""FastStream subscribers that survive the loss of the connection, of their durable consumer and of the server.

FastStream 0.7.8 and nats-py 2.16 stop without an error or delay events in several cases. A comment at each
workaround says what happened without it. ``NatsBroker.start`` is not called, because it starts all subscribers.
The broker has no middleware, because an exception in one leaves the message unacknowledged and unlogged.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from faststream import AckPolicy
from faststream.nats import NatsBroker, NatsMessage, PullSub
from nats.aio.client import Client
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
"""Publishes a body: subject, stream, headers, deadline in event loop time."""

_WATCH_S = 2.0
_LOOK_S = 5.0
_PULL_S = 5.0
_BEAT_S = streams.ACK_WAIT_S / 4
_AT_ONCE_S = 0.05
_MOST_IN_VAIN = 5
_REFUSED_S = 5.0
_FINISH_S = 15.0


class _Pulls(PullSub[Literal[False]]):
    """Ends FastStream's pull loop when it would spin.

    The loop suppresses the errors of a closed client without yielding, which blocked the whole process. It also
    suppresses the error for a missing consumer. FastStream reads ``batch_size`` before each pull.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(timeout=_PULL_S)
        self._client = client
        self._began_at, self._in_vain = 0.0, 0

    @property
    def batch_size(self) -> int:
        """Always 1. nats-py delays a larger batch until it is full or the pull times out."""
        at = asyncio.get_running_loop().time()
        self._in_vain = self._in_vain + 1 if at - self._began_at < _AT_ONCE_S else 0
        self._began_at = at
        if self._client.is_closed or self._in_vain == _MOST_IN_VAIN:
            raise asyncio.CancelledError
        return 1

    @batch_size.setter
    def batch_size(self, _: int) -> None: ...

    def taken(self) -> None:
        """Record that the pull returned a message."""
        self._began_at = 0.0


class Consumer:
    """Keeps one queue's durable consumer subscribed and settles the delivered events."""

    def __init__(
        self, link: Link, name: str, *, declare: Callable[[], Awaitable[None]], send: Send, prefetch: int
    ) -> None:
        self._link, self._name, self._declare, self._send, self._prefetch = link, name, declare, send, prefetch
        self._in_hand: dict[asyncio.Task[None], Msg] = {}
        self._over = asyncio.Event()
        self._broker: NatsBroker | None = None
        self._subscriber: Any = None
        self._pulls: _Pulls

    async def run(self, handling: Handling) -> None:
        """Consume until cancelled, then wait up to 15 s for the running handlers."""
        self._handling, self._over = handling, asyncio.Event()
        beating = asyncio.create_task(self._beat(), name=f"beat of {self._name}")
        try:
            while True:
                try:
                    if not await self._subscribed():
                        await self._subscribe()
                except (Unavailable, StartupError, APIError) as error:
                    log.warning("not subscribed", extra={"queue": self._name, "reason": str(error)})
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    break  # nats-py's ``wait_for`` swallowed it (python/cpython#86296)
                # Spread, so that the processes do not come back as one.
                await asyncio.sleep(_WATCH_S * random.uniform(0.4, 1.0))  # noqa: S311
        finally:
            await self._finish()
            beating.cancel()
        raise asyncio.CancelledError

    async def _subscribed(self) -> bool:
        """Return whether the pull loop runs and the server still has the consumer.

        When a consumer is deleted, the pull loop ends without an error, and the subscriber still reports that it
        is running.
        """
        if self._subscriber is None or self._broker is not self._link.broker:
            return False
        try:
            async with self._link.until(soon(_LOOK_S)):
                jetstream = await self._link.jetstream()
                await jetstream.consumer_info(streams.EVENTS_STREAM, streams.consumer_name(self._name))
        except NotFoundError:
            log.warning("consumer was deleted on the server and is created again", extra={"queue": self._name})
            return False
        except Unavailable:
            return True  # pulling resumes with the connection
        return not all(task.done() for task in self._subscriber.tasks)

    async def _subscribe(self) -> None:
        await self._declare()
        async with self._link.until(soon(ANSWER_S)):
            client = await self._link.client()
            await streams.declare_consumer(client.jetstream(), self._name)
        await self._unsubscribe()
        self._broker, self._pulls = self._link.broker, _Pulls(client)
        # New each time: a subscriber whose ``stop`` failed keeps its subscription and never pulls again.
        self._subscriber = self._broker.subscriber(
            streams.subject(self._name),
            durable=streams.consumer_name(self._name),
            stream=streams.EVENTS_STREAM,
            config=streams.consumer_config(self._name),
            pull_sub=self._pulls,
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
        """Start handling an event, and return when another one may be pulled.

        FastStream waits for this call before the next pull, so one slow handler would delay all events.
        """
        self._pulls.taken()
        task = asyncio.create_task(self._handle(message, self._over), name=f"event of {self._name}")
        self._in_hand[task] = message
        task.add_done_callback(self._in_hand.pop)
        while len(self._in_hand) >= self._prefetch:
            await asyncio.wait(self._in_hand, return_when=asyncio.FIRST_COMPLETED)

    async def _beat(self) -> None:
        """Report regularly to the server that handlers are still running."""
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
        """Handle one event and settle it. The server delivers an unsettled event again."""
        sent = streams.envelope_of(message.headers or {}, self._handling.queue, message.data)
        with caused_by(sent):
            again = message.metadata.num_delivered > 1 or headers.ATTEMPT in (message.headers or {})
            error = await self._handling.attempt_while_away(sent, over, again=again)
            try:
                await self._settle(message, sent, error)
            except (Unavailable, StartupError) as away:
                log.warning("event will come again", extra=self._handling.about(sent) | {"reason": str(away)})

    async def _settle(self, message: Msg, sent: Envelope, error: Exception | None) -> None:
        """Acknowledge the event, request its redelivery after a pause, or move it to the dead letters."""
        if error is None:
            return await self._tell(message.ack())
        if isinstance(error, Unavailable):  # the process is stopping
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
    """Decoder that passes the raw message to the handler."""
    return message.raw_message
