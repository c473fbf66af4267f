"""Events through PostgreSQL: a queue table, claimed with ``for update skip locked``.

The claim is the row lock of an open transaction, not a lease: when a process dies the server frees it at once,
and the event is delivered elsewhere.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial

import msgspec

from purveyor.kit.db.postgres import Connection, Database, columns, storable, unnest
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import COLUMNS, TYPES, envelope, values
from purveyor.kit.events.transport import DeadLetter, EventHandler, Queue
from purveyor.kit.failpoints import failpoint
from purveyor.kit.ids import parse_id
from purveyor.kit.poll import MORE, Poll
from purveyor.transports.handling import PAUSES_S, Failure, Handling

_BATCH = 50


def _poll_s() -> float:
    """Spread, so that processes which started as one do not ask as one."""
    return random.uniform(0.7, 1.0)  # noqa: S311 - no secret


class PostgresEvents:
    """The event transport of a process with nothing else installed. ``database`` opens schema ``events``."""

    def __init__(self, database: AbstractAsyncContextManager[Database]) -> None:
        self._opening = database
        self._stack = AsyncExitStack()
        self._queues: dict[str, list[Queue]] = {}
        self._polls: dict[str, Poll] = {}

    async def open(self, queues: Sequence[Queue]) -> None:
        """A queue is its name in the table: there is nothing to declare."""
        self._database = await self._stack.enter_async_context(self._opening)
        for queue in queues:
            self._queues.setdefault(queue.event.type, []).append(queue)
            self._polls[queue.name] = Poll(_poll_s)

    async def close(self) -> None:
        await self._stack.aclose()

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        """One statement: all are confirmed, or the error is raised.

        An event that already waits keeps waiting; a dead letter that is published again is delivered again.
        """
        once = {sent.id: sent for sent in envelopes}  # one statement cannot touch a row twice
        pairs = [(queue.name, sent) for sent in once.values() for queue in self._queues.get(sent.type, ())]
        if not pairs:
            return [None] * len(envelopes)
        await self._database.execute(
            f"""
            insert into events.deliveries (queue, {COLUMNS}, signature)
            select * from {unnest("text", *TYPES.values(), "text")}
            on conflict (queue, id) do update set died_at = null, attempts = 0, next_attempt_at = now(),
                signature = excluded.signature
                where deliveries.died_at is not null""",  # noqa: S608 - our own column names
            *columns((queue, *values(sent), sent.signature) for queue, sent in pairs),
        )
        for queue, _ in pairs:
            self._polls[queue].wake()
        return [None] * len(envelopes)

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        """A handler that fails is called again later, 12 times at most.

        While it raises ``Unavailable`` it is called again every 2 s, and that counts as no attempt.
        """
        handling = Handling(queue, handler, PAUSES_S)
        await self._polls[queue.name].run(partial(self._batch, handling))

    async def _batch(self, handling: Handling) -> float | None:
        async with self._database.connection() as connection, connection.transaction():
            rows = await connection.fetch(
                f"""
                select {COLUMNS}, signature, attempts, reason is not null as again from events.deliveries
                where queue = $1 and died_at is null and next_attempt_at <= now()
                order by next_attempt_at limit {_BATCH} for update skip locked""",  # noqa: S608 - our own names
                handling.queue.name,
            )
            if not rows:
                return None
            events = [msgspec.structs.replace(envelope(row), signature=row["signature"]) for row in rows]
            attempts = [handling.attempt(sent, again=row["again"]) for row, sent in zip(rows, events, strict=True)]
            outcomes = await asyncio.gather(*attempts)
            handled = [sent.id for sent, error in zip(events, outcomes, strict=True) if error is None]
            await connection.execute(
                "delete from events.deliveries where queue = $1 and id = any($2)", handling.queue.name, handled
            )
            for row, sent, error in zip(rows, events, outcomes, strict=True):
                if error is not None:
                    failure = handling.failure(sent, row["attempts"], error)
                    await self._put_aside(connection, handling.queue, sent, failure)
                    failpoint("consumer.put_aside")
        return MORE if len(rows) == _BATCH else None

    async def _put_aside(self, connection: Connection, queue: Queue, sent: Envelope, failure: Failure) -> None:
        await connection.execute(
            """
            update events.deliveries set attempts = $3, reason = $4,
                died_at = case when $5 then now() end,
                next_attempt_at = now() + make_interval(secs => $6)
            where queue = $1 and id = $2""",
            queue.name,
            sent.id,
            failure.attempts,
            storable(failure.reason, len(failure.reason)),
            failure.dead,
            failure.pause_s or 0.0,
        )

    async def waiting(self, queues: Sequence[Queue]) -> Mapping[str, int]:
        names = [queue.name for queue in queues]
        rows = await self._database.fetch(
            "select queue, count(*) as events from events.deliveries "
            "where queue = any($1) and died_at is null group by queue",
            names,
        )
        return dict.fromkeys(names, 0) | {row["queue"]: row["events"] for row in rows}

    async def dead_letters(self) -> Sequence[DeadLetter]:
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
        touched = await self._database.execute(
            "update events.deliveries set died_at = null, attempts = 0, next_attempt_at = now() "
            "where queue = $1 and id = $2 and died_at is not null",
            queue,
            parse_id(event_id),
        )
        return touched == 1

    async def drop(self, queue: str, event_id: str) -> bool:
        touched = await self._database.execute(
            "delete from events.deliveries where queue = $1 and id = $2 and died_at is not null",
            queue,
            parse_id(event_id),
        )
        return touched == 1

    async def check(self) -> str:
        return await self._database.check()
