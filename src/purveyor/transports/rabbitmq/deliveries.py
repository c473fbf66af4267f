"""What becomes of one delivered event: handled and acked, set aside for later, or a dead letter."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from faststream.rabbit import RabbitExchange

from purveyor.kit import log as logs
from purveyor.kit import tracing
from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.transport import EventHandler, Queue, Undeliverable, decoded
from purveyor.kit.failpoints import failpoint
from purveyor.kit.metrics import EVENTS_HANDLED
from purveyor.transports.rabbitmq import topology
from purveyor.transports.rabbitmq.link import CONFIRM_S, Link, Refused, soon

log = logging.getLogger(__name__)

_Send = Callable[[Message, str, RabbitExchange, float], Awaitable[None]]

_HANDLER_S = 10.0
_LONGEST_WAIT_S = 2.0
_REFUSED_PAUSE_S = 5.0


class Deliveries:
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
        tracing.traceparent.set(topology.traceparent_of(message))
        pause_s = 0.5
        while isinstance(error := await self._attempt(message), Unavailable):
            log.warning("event waits", extra=self._about(message) | {"reason": str(error)})
            if await self._over_within(pause_s):
                return
            pause_s = min(_LONGEST_WAIT_S, pause_s * 2)
        try:
            if error is not None:
                await self._put_aside(message, error)
                failpoint("consumer.put_aside")
            settle = message.ack
        except (Unavailable, Refused, StartupError) as refusal:
            log.warning("event cannot be put aside", extra=self._about(message) | {"reason": str(refusal)})
            if await self._over_within(_REFUSED_PAUSE_S):
                return
            settle = message.nack
        try:
            async with self._link.until(soon(CONFIRM_S)):
                await settle()
        except Unavailable as away:
            log.warning("event will come again", extra=self._about(message) | {"reason": away.detail})

    async def _attempt(self, message: AbstractIncomingMessage) -> Exception | None:
        error: Exception | None = None
        try:
            event = decoded(message.body, self._decoder)
            async with asyncio.timeout(_HANDLER_S):
                failpoint("consumer.delivered")
                await self._handler(event, topology.envelope_of(message, self._queue))
                failpoint("consumer.handled")
        except TimeoutError as late:
            error = TimeoutError(str(late) or f"not handled within {_HANDLER_S:g} s")
        except Exception as raised:
            error = raised
        EVENTS_HANDLED.labels(self._queue.name, "failed" if error else "handled").inc()
        return error

    async def _put_aside(self, message: AbstractIncomingMessage, error: Exception) -> None:
        """Confirmed into the next retry queue or the dead letters; the caller then acks."""
        attempts = topology.attempts_of(message) + 1
        dead = topology.dead_queue(self._queue.name)
        target = dead if isinstance(error, Undeliverable) else topology.next_queue(self._queue.name, attempts)
        extra = self._about(message) | {"attempts": attempts, "reason": f"{type(error).__name__}: {error}"}
        log.log(logging.ERROR if target == dead else logging.WARNING, "event not handled", extra=extra)
        copy = topology.failed(message, error, dead=target == dead)
        await self._send(copy, target, topology.DEFAULT, soon(CONFIRM_S))

    async def _over_within(self, pause_s: float) -> bool:
        try:
            async with asyncio.timeout(pause_s * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads the attempts
                return await self._over.wait()
        except TimeoutError:
            return False

    def _about(self, message: AbstractIncomingMessage) -> dict[str, Any]:
        return {"queue": self._queue.name, "event_id": str(topology.id_of(message))}
