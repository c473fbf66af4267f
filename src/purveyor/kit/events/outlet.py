"""The outlet: publishes every event once more, to a server from which no role consumes.

It has its own record of what it must still publish, so it and the relay never wait for each other. A role that
emits declares an ``OutletQueue`` in its ``Actor``. One outlet at a time works on a queue, in order of emission, so
the events of one type about one subject stay in order.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Connection, Database, NotAllowed
from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import COLUMNS, envelope
from purveyor.kit.failpoints import failpoint
from purveyor.kit.metrics import OUTLET_PUBLISHED
from purveyor.kit.poll import MORE, Poll
from purveyor.kit.retry import RetrySchedule, retry

BATCH = 500
POLL_S = 1.0
_RETRY = RetrySchedule(first_s=1.0, longest_s=10.0)
"""Retries while the server is down."""
_RETRY_TYPE = RetrySchedule(first_s=1.0, longest_s=60.0)
"""Retries of a type that the server refuses. Other types are published meanwhile."""
_UNDO_S = 20.0
"""An undo that takes an event back has committed by then: PostgreSQL ends idle transactions after 15 s."""
_TIDY_EVERY_S = 60.0
_SWITCH_ON = RetrySchedule(first_s=0.5, longest_s=2.0)
_SWITCH_ON_WITHIN_S = 30.0


class OutletServer(Protocol):
    """The server that the outlet publishes to."""

    async def connect(self) -> None:
        """Connect unless it is connected. Raises ``Unavailable``."""
        ...

    async def publish(self, source: str, events: Sequence[Envelope]) -> Sequence[Exception | None]:
        """Publish events of the role ``source``. Returns ``None`` for a confirmed event, else why it is not.

        ``Unavailable`` means that the server is down, any other error that it refuses the event's type. An event
        does not count as confirmed after an earlier one with its type and subject that is not.
        """
        ...

    async def check(self) -> str: ...

    async def close(self) -> None: ...


@dataclass
class Taken:
    """Events that were taken from a queue. Those in ``done`` at the end are removed from it."""

    events: Sequence[Envelope] = ()
    done: list[UUID] = field(default_factory=list)


class OutletQueue(Protocol):
    """The events that a role has emitted and the outlet has not published."""

    async def switch_on(self) -> None:
        """Keep events from now on. Raises ``Unavailable``, or ``StartupError`` if the server does not allow it."""
        ...

    async def switch_off(self) -> None:
        """Keep no more events, and forget those that wait."""
        ...

    async def is_on(self) -> bool: ...

    def take(self, limit: int, refused: Collection[str]) -> AbstractAsyncContextManager[Taken]:
        """Take the first events, except of the types ``refused``. Takes none while another outlet works here."""
        ...

    async def waiting(self) -> tuple[int, float]:
        """Return the number of events that wait and the age of the oldest in seconds."""
        ...

    async def tidy(self) -> None:
        """Remove events that were undone or erased."""
        ...


class PostgresOutletQueue:
    """The table ``<schema>.outlet``, which a trigger of ``<schema>.outbox`` fills in the emitting transaction.

    It has the ids only. The relay deletes no row of the outbox that is named there.
    """

    def __init__(self, database: Database, schema: str) -> None:
        self._database = database
        self._schema = schema

    async def switch_on(self) -> None:
        async def enable() -> None:
            if not await self.is_on():
                await self._database.execute(f"alter table {self._schema}.outbox enable trigger outlet")

        try:
            await retry(enable, _SWITCH_ON, on=Unavailable, within_s=_SWITCH_ON_WITHIN_S)
        except NotAllowed as error:
            raise StartupError(f"The outlet cannot enable a trigger of {self._schema}.outbox: {error}.") from error

    async def switch_off(self) -> None:
        await self._database.execute(f"alter table {self._schema}.outbox disable trigger outlet")
        await self._database.purge(f"{self._schema}.outlet", "true")

    async def is_on(self) -> bool:
        on: bool = await self._database.fetchval(
            "select tgenabled <> 'D' from pg_trigger where tgrelid = $1::text::regclass and tgname = 'outlet'",
            f"{self._schema}.outbox",
        )
        return on

    @asynccontextmanager
    async def take(self, limit: int, refused: Collection[str]) -> AsyncIterator[Taken]:
        async with self._database.transaction() as connection:
            taken = Taken(await self._first(connection, limit, refused))
            yield taken
            if taken.done:
                await connection.execute(f"delete from {self._schema}.outlet where event_id = any($1)", taken.done)  # noqa: S608

    async def _first(self, connection: Connection, limit: int, refused: Collection[str]) -> Sequence[Envelope]:
        if not await connection.fetchval(
            "select pg_try_advisory_xact_lock(hashtextextended('purveyor outlet ' || $1, 0))", self._schema
        ):
            return ()
        rows = await connection.fetch(
            f"""
            select {COLUMNS} from {self._schema}.outlet join {self._schema}.outbox on id = event_id
            where type <> all($1::text[]) and (
                published_at is not null or attempts > 0
                or next_attempt_at <= now() - case when held then interval '{_UNDO_S} s' else interval '0' end
            ) order by position limit $2""",  # noqa: S608 - our own names and numbers
            list(refused),
            limit,
        )
        return [envelope(row) for row in rows]

    async def waiting(self) -> tuple[int, float]:
        row = await self._database.fetchrow(
            f"""
            select (select count(*) from {self._schema}.outlet) as waiting, (
                select occurred_at from {self._schema}.outlet join {self._schema}.outbox on id = event_id
                order by position limit 1
            ) as oldest"""  # noqa: S608 - our own name
        )
        if row is None or row["oldest"] is None:
            return 0, 0.0
        return row["waiting"], max(0.0, (now() - row["oldest"]).total_seconds())

    async def tidy(self) -> None:
        await self._database.execute(
            f"""
            delete from {self._schema}.outlet where not exists (
                select from {self._schema}.outbox where id = event_id
            )"""  # noqa: S608 - our own name
        )


class Outlet:
    """Publishes one role's queue to the server. Any number may run, in any number of processes."""

    def __init__(self, role: str, queue: OutletQueue, server: OutletServer) -> None:
        self._role = role
        self._queue = queue
        self._server = server
        self._failures = 0
        self._tidy_at = 0.0
        self._refused: dict[str, tuple[float, int]] = {}
        """By type: the time of the next attempt, in seconds of the loop, and the failures so far."""

    async def run(self) -> None:
        """Publish until cancelled. Raises ``Unavailable`` if the database is down."""
        await Poll(POLL_S).run(self.publish)

    async def publish(self) -> float | None:
        """Publish a batch; returns the pause before the next one, as work of ``Poll`` does."""
        if (time := asyncio.get_running_loop().time()) >= self._tidy_at:
            await self._queue.tidy()
            self._tidy_at = time + _TIDY_EVERY_S
        try:
            await self._server.connect()
        except Unavailable:
            return self._pause()
        return await self._batch(time)

    async def _batch(self, time: float) -> float | None:
        refused = [name for name, (until, _) in self._refused.items() if until > time]
        async with self._queue.take(BATCH, refused) as taken:
            if not taken.events:
                return None
            outcomes = await self._server.publish(self._role, taken.events)
            failpoint("outlet.published")
            results = list(zip(taken.events, outcomes, strict=True))
            taken.done += [event.id for event, error in results if error is None]
        for event, error in results:
            OUTLET_PUBLISHED.labels(event.type, "failed" if error else "confirmed").inc()
        self._note_refusals(results, time)
        if any(isinstance(error, Unavailable) for error in outcomes):
            return self._pause()
        self._failures = 0
        return MORE if len(taken.events) == BATCH else None

    def _note_refusals(self, results: Sequence[tuple[Envelope, Exception | None]], time: float) -> None:
        failed = {event.type for event, error in results if error and not isinstance(error, Unavailable)}
        for name in {event.type for event, error in results if error is None} - failed:
            self._refused.pop(name, None)
        for name in failed:
            failures = self._refused.get(name, (0.0, 0))[1] + 1
            self._refused[name] = time + _RETRY_TYPE.pause_s(failures), failures

    def _pause(self) -> float:
        self._failures += 1
        return _RETRY.pause_s(self._failures)

    async def waiting(self) -> tuple[int, float]:
        """Return the number of events that wait and the age of the oldest in seconds."""
        return await self._queue.waiting()

    async def check(self) -> str:
        """Return the server's state and what waits for it. Raises ``Unavailable`` with both if it is down."""
        count, oldest_s = await self.waiting()
        line = f"events waiting: {count}, oldest: {oldest_s:.0f} s"
        try:
            server = await self._server.check()
        except Unavailable as away:
            raise Unavailable(f"{away} ({line})") from away
        if self._refused:
            raise Unavailable(f"The server refuses {', '.join(sorted(self._refused))} ({line}).")
        return f"{server}; {line}"
