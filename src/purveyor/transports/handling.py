"""Handling of delivered events, the same for all transports: calls, retries and dead letters."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from purveyor.kit import log as logs
from purveyor.kit import tracing
from purveyor.kit.errors import Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import EventHandler, Queue, Undeliverable, decoded
from purveyor.kit.failpoints import failpoint
from purveyor.kit.metrics import EVENTS_HANDLED, HANDLER_SECONDS
from purveyor.kit.poll import wait_until_set
from purveyor.kit.retry import RetrySchedule

log = logging.getLogger(__name__)

HANDLER_S = 10.0
AWAY_PAUSE_S = 2.0
PAUSES_S = tuple(min(300.0, 2.0**failures) for failures in range(11))
"""Seconds before each further attempt, where any pause is possible: 12 attempts in all, over about 20 minutes."""
_AWAY = RetrySchedule(first_s=0.5, longest_s=AWAY_PAUSE_S, jitter=0.2)
_REASON_CHARACTERS = 1000


class Failure(msgspec.Struct, frozen=True):
    """The outcome for an event that was not handled; ``pause_s`` is ``None`` for a dead letter."""

    attempts: int
    reason: str
    pause_s: float | None

    @property
    def dead(self) -> bool:
        """True if the event is given up."""
        return self.pause_s is None


class Handling:
    """Calls the handler of one queue, and decides what becomes of an event that it did not handle.

    ``pauses_s`` are the seconds before each further attempt; when they are used up, the event is a dead letter.
    """

    def __init__(self, queue: Queue, handler: EventHandler, pauses_s: tuple[float, ...]) -> None:
        self.queue = queue
        self._handler = handler
        self._pauses_s = pauses_s

    async def attempt(self, sent: Envelope, *, again: bool) -> Exception | None:
        """Call the handler, for 10 s at most. ``again`` says that the event was handled before, in vain.

        Returns what it raised, ``TimeoutError``, or ``Undeliverable`` for a body that cannot be read.
        """
        error: Exception | None = None
        began = time.perf_counter()
        with caused_by(sent), self._span_of(sent, again=again) as span:
            try:
                event = decoded(sent.body, self.queue.event)
                async with asyncio.timeout(HANDLER_S):
                    failpoint("consumer.delivered")
                    await self._handler(event, sent.below(span))
                    failpoint("consumer.handled")
            except TimeoutError as late:
                error = TimeoutError(str(late) or f"not handled within {HANDLER_S:g} s")
            except Exception as raised:
                error = raised
            if error is not None:
                span.fail(error)
        HANDLER_SECONDS.labels(self.queue.name).observe(time.perf_counter() - began)
        EVENTS_HANDLED.labels(self.queue.name, "failed" if error else "handled").inc()
        return error

    async def attempt_while_away(self, sent: Envelope, over: asyncio.Event, *, again: bool) -> Exception | None:
        """Attempt again as long as the handler raises ``Unavailable``; that is returned once ``over`` is set."""
        failures = 0
        while isinstance(error := await self.attempt(sent, again=again or failures > 0), Unavailable):
            failures += 1
            log.warning("event waits", extra=self.about(sent) | {"reason": str(error)})
            await wait_until_set(over, _AWAY.pause_s(failures))
            if over.is_set():
                break
        return error

    def failure(self, sent: Envelope, attempts: int, error: Exception) -> Failure:
        """Decide between a retry and a dead letter, and log the failure. ``attempts`` counts earlier ones.

        ``Unavailable`` counts as no attempt: what the handler needs is away, which is no fault of the event.
        """
        away = isinstance(error, Unavailable)
        attempts += not away
        pause_s: float | None = AWAY_PAUSE_S
        if not away:
            last = isinstance(error, Undeliverable) or attempts > len(self._pauses_s)
            pause_s = None if last else self._pauses_s[attempts - 1]
        reason = f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS].encode("utf-8", "replace").decode()
        extra = self.about(sent) | {"attempts": attempts, "reason": reason}
        with caused_by(sent):
            log.log(logging.ERROR if pause_s is None else logging.WARNING, "event not handled", extra=extra)
        return Failure(attempts, reason, pause_s)

    def _span_of(self, sent: Envelope, *, again: bool) -> tracing.Span:
        about = {
            "messaging.operation.type": "process",
            "messaging.destination.name": self.queue.name,
            "messaging.message.id": str(sent.id),
        }
        return tracing.span(f"process {sent.type}", "consumer", about, again=again, since=sent.occurred_at)

    def about(self, sent: Envelope) -> dict[str, Any]:
        """Return the log fields that identify the event."""
        return {"queue": self.queue.name, "event_id": str(sent.id)}


@contextmanager
def caused_by(sent: Envelope) -> Iterator[None]:
    """Log lines and asks inside carry the request id and the trace of the event."""
    tokens = logs.request_id.set(sent.correlation_id), tracing.traceparent.set(sent.traceparent)
    try:
        yield
    finally:
        logs.request_id.reset(tokens[0])
        tracing.traceparent.reset(tokens[1])
