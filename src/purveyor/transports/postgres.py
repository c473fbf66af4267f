"""Events through PostgreSQL: a queue table, claimed with ``for update skip locked``.

The claim is the row lock of an open transaction, not a lease: when a process dies the server frees it at once,
and the event is delivered elsewhere.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from purveyor.kit import log as logs
from purveyor.kit import tracing
from purveyor.kit.db.databases import Schema
from purveyor.kit.db.postgres import Connection, Database, Record, storable
from purveyor.kit.errors import Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import COLUMNS, envelope, values
from purveyor.kit.events.transport import DeadLetter, EventHandler, Queue, Undeliverable, decoded
from purveyor.kit.failpoints import failpoint
from purveyor.kit.ids import parse_id
from purveyor.kit.metrics import EVENTS_HANDLED

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")
SCHEMA = Schema("events", MIGRATIONS, role=None)

_BATCH = 50
_POLL_S = 1.0
_HANDLER_TIMEOUT_S = 10.0
_MAX_ATTEMPTS = 12
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0
_AWAY_PAUSE_S = 2.0


class PostgresEvents:
    """The event transport of a process with nothing else installed. ``database`` opens schema ``events``."""

    def __init__(self, database: AbstractAsyncContextManager[Database]) -> None:
        self._opening = database
        self._stack = AsyncExitStack()
        self._queues: dict[str, list[Queue]] = {}
        self._woken: dict[str, asyncio.Event] = {}

    async def open(self, queues: Sequence[Queue]) -> None:
        """See ``EventTransport``. A queue is its name in the table: there is nothing to declare."""
        self._database = await self._stack.enter_async_context(self._opening)
        for queue in queues:
            self._queues.setdefault(queue.event.type, []).append(queue)
            self._woken[queue.name] = asyncio.Event()

    async def close(self) -> None:
        """See ``EventTransport``."""
        await self._stack.aclose()

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        """See ``EventTransport``. One statement: all are confirmed, or the error is raised.

        What waits already goes on waiting; a dead letter that is published again lives again.
        """
        once = {sent.id: sent for sent in envelopes}  # one statement cannot touch a row twice
        pairs = [(queue.name, sent) for sent in once.values() for queue in self._queues.get(sent.type, ())]
        if not pairs:
            return [None] * len(envelopes)
        await self._database.execute(
            f"""
            insert into events.deliveries (queue, {COLUMNS})
            select * from unnest($1::text[], $2::uuid[], $3::text[], $4::bytea[], $5::timestamptz[], $6::text[],
                                 $7::int[], $8::text[], $9::text[], $10::text[], $11::text[])
            on conflict (queue, id) do update set died_at = null, attempts = 0, next_attempt_at = now()
                where deliveries.died_at is not null""",  # noqa: S608 - our own column names
            *zip(*((queue, *values(sent)) for queue, sent in pairs), strict=True),
        )
        for queue, _ in pairs:
            self._woken[queue].set()
        return [None] * len(envelopes)

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        """See ``EventTransport``. A handler that fails is called again later, 12 times at most.

        While it raises ``Unavailable`` it is called again every 2 s, and that counts as no attempt.
        """
        decoder = msgspec.json.Decoder(queue.event)
        woken = self._woken[queue.name]
        while True:
            woken.clear()
            if await self._batch(queue, handler, decoder) < _BATCH:
                try:
                    async with asyncio.timeout(_POLL_S * random.uniform(0.7, 1.0)):  # noqa: S311 - spreads the polls
                        await woken.wait()
                except TimeoutError:
                    continue

    async def _batch(self, queue: Queue, handler: EventHandler, decoder: "msgspec.json.Decoder[Any]") -> int:
        async with self._database.connection() as connection, connection.transaction():
            rows = await connection.fetch(
                f"""
                select {COLUMNS}, attempts from events.deliveries
                where queue = $1 and died_at is null and next_attempt_at <= now()
                order by next_attempt_at limit {_BATCH} for update skip locked""",  # noqa: S608 - our own names
                queue.name,
            )
            if not rows:
                return 0
            outcomes = await asyncio.gather(*(_handle(row, handler, decoder) for row in rows))
            handled = [row["id"] for row, error in zip(rows, outcomes, strict=True) if error is None]
            await connection.execute(
                "delete from events.deliveries where queue = $1 and id = any($2)", queue.name, handled
            )
            for row, error in zip(rows, outcomes, strict=True):
                EVENTS_HANDLED.labels(queue.name, "failed" if error else "handled").inc()
                if error is not None:
                    await self._postpone(connection, queue, row, error)
                    failpoint("consumer.put_aside")
        return len(rows)

    async def _postpone(self, connection: Connection, queue: Queue, row: Record, error: Exception) -> None:
        away = isinstance(error, Unavailable)  # what the handler needs is down: no fault of the event
        attempts = row["attempts"] + (not away)
        dead = isinstance(error, Undeliverable) or attempts >= _MAX_ATTEMPTS
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (attempts - 1))
        reason = storable(f"{type(error).__name__}: {error}", 1000)
        extra = {"queue": queue.name, "event_id": str(row["id"]), "attempts": attempts, "reason": reason}
        log.log(logging.ERROR if dead else logging.WARNING, "event not handled", extra=extra)
        await connection.execute(
            """
            update events.deliveries set attempts = $3, reason = $4,
                died_at = case when $5 then now() end,
                next_attempt_at = now() + make_interval(secs => $6)
            where queue = $1 and id = $2""",
            queue.name,
            row["id"],
            attempts,
            reason,
            dead,
            _AWAY_PAUSE_S if away else pause_s,
        )

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """See ``EventTransport``."""
        rows = await self._database.fetch(
            "select queue, id, type, subject, attempts, reason, died_at, body from events.deliveries "
            "where died_at is not null order by died_at, id limit 1000"
        )
        return [
            DeadLetter(
                queue=row["queue"],
                event_id=str(row["id"]),
                type=row["type"],
                subject=row["subject"],
                attempts=row["attempts"],
                reason=row["reason"] or "",
                died_at=row["died_at"],
                body=row["body"].decode("utf-8", "replace"),
            )
            for row in rows
        ]

    async def replay(self, queue: str, event_id: str) -> bool:
        """See ``EventTransport``."""
        touched = await self._database.execute(
            "update events.deliveries set died_at = null, attempts = 0, next_attempt_at = now() "
            "where queue = $1 and id = $2 and died_at is not null",
            queue,
            parse_id(event_id),
        )
        return touched == 1

    async def drop(self, queue: str, event_id: str) -> bool:
        """See ``EventTransport``."""
        touched = await self._database.execute(
            "delete from events.deliveries where queue = $1 and id = $2 and died_at is not null",
            queue,
            parse_id(event_id),
        )
        return touched == 1

    async def check(self) -> str:
        """See ``EventTransport``."""
        return await self._database.check()


async def _handle(row: Record, handler: EventHandler, decoder: "msgspec.json.Decoder[Any]") -> Exception | None:
    token = logs.request_id.set(row["correlation_id"])
    trace = tracing.traceparent.set(row["traceparent"])
    try:
        event = decoded(row["body"], decoder)
        async with asyncio.timeout(_HANDLER_TIMEOUT_S):
            failpoint("consumer.delivered")
            await handler(event, envelope(row))
            failpoint("consumer.handled")
    except Exception as error:
        return error
    else:
        return None
    finally:
        logs.request_id.reset(token)
        tracing.traceparent.reset(trace)
