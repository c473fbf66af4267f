"""The transactional outbox: a role writes events beside its rows, a relay hands them to the transport.

A role that emits has a table ``<schema>.outbox`` (its columns are in ``COLUMNS``). The relay polls for rows
without ``published_at`` and never remembers a position: a transaction that commits late must not be skipped.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from purveyor.kit import tracing
from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Connection, Database, Record, columns, storable, unnest
from purveyor.kit.errors import EventBacklog, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import EventTransport
from purveyor.kit.failpoints import failpoint
from purveyor.kit.ids import first_id_of, parse_id
from purveyor.kit.metrics import EVENTS_PUBLISHED, OUTBOX_FULL, OUTBOX_OLDEST_SECONDS, OUTBOX_UNPUBLISHED
from purveyor.kit.poll import MORE, Poll, regularly
from purveyor.kit.retry import RetrySchedule

_RETRY_AFTER_S = 30


class Backlog:
    """The events of one schema's outbox that wait, as the relay last measured them.

    It is full with ``max_events`` events, or when the oldest is older than ``max_age_s`` seconds at two
    measurements in a row: an old event that an operator sends again is gone by the second.
    """

    def __init__(self, schema: str, *, max_events: int = 100_000, max_age_s: float = 86_400.0) -> None:
        self._schema = schema
        self._max_events = max_events
        self._max_age_s = max_age_s
        self._waiting = 0
        self._oldest_s = 0.0
        self._late = False
        self.full = False
        """True if nothing more is to be taken on."""

    def measured(self, waiting: int, oldest_s: float) -> None:
        """Take note of how many events wait and how old the oldest is."""
        self._waiting, self._oldest_s = waiting, max(0.0, oldest_s)
        late, self._late = self._late, self._oldest_s >= self._max_age_s
        self.full = waiting >= self._max_events or (late and self._late)
        OUTBOX_UNPUBLISHED.labels(self._schema).set(waiting)
        OUTBOX_OLDEST_SECONDS.labels(self._schema).set(self._oldest_s)
        OUTBOX_FULL.labels(self._schema).set(self.full)

    def require_room(self) -> None:
        """Raise ``EventBacklog`` when it is full. Costs no query."""
        if self.full:
            raise EventBacklog(retry_after_s=_RETRY_AFTER_S)

    async def check(self) -> str:
        """Return the number of waiting events, for readiness. Raises ``Unavailable`` if the outbox is full."""
        line = f"events waiting: {self._waiting}, oldest: {self._oldest_s:.0f} s"
        if self.full:
            raise Unavailable(f"The event backlog is full ({line}).")
        return line


log = logging.getLogger(__name__)
COLUMNS = "id, type, body, occurred_at, subject, sequence, correlation_id, currency, language, traceparent"
_NAMES = COLUMNS.split(", ")
TYPES = dict.fromkeys(_NAMES, "text") | {
    "id": "uuid",
    "body": "bytea",
    "occurred_at": "timestamptz",
    "sequence": "int",
}
"""The types of ``COLUMNS``, in their order."""
Known = Literal["refused", "skipped", "sent again"]
_KNOWN: dict[Known, str] = {
    "refused": "",
    "skipped": "on conflict do nothing",
    "sent again": (
        "on conflict (subject, type, sequence) do update set published_at = null, next_attempt_at = now()"
    ),
}
NO_ID = UUID(int=0)
BATCH = 100
BACKLOG_BATCH = 500
"""Size of the batches after a full one. A relay that dies sends all events of its batch again."""
POLL_S = 1.0
_GAP_S = 0.05
"""Minimum time between two batches that are not full, so that events of the same moment share one."""
_MEASURE_EVERY_S = 5.0
KEEP = timedelta(days=30)
"""Retention of published events."""
_RETRY = RetrySchedule(first_s=1.0, longest_s=60.0, jitter=0.0)
"""Retries of an unconfirmed event. While the transport is down, each poll retries instead."""
_WAITS = "published_at is null and (attempts > 0 or next_attempt_at <= now())"
"""Condition for events that the relay should publish. An event on hold counts once its hold ends."""
_CANCEL_AGAIN_S = 0.5
_MARK = "update {0}.outbox set published_at = now(), attempts = attempts + 1 where id = any($1)"
_FORGET = "delete from {0}.outbox where id = any($1)"
_NOT_IN_OUTLET = "not exists (select from {0}.outlet where event_id = outbox.id)"
_FORGET_OR_MARK = f"""
with forgotten as ({_FORGET} and {_NOT_IN_OUTLET} returning id)
{_MARK} and id not in (select id from forgotten)"""  # noqa: S608 - constants


def envelope(row: Record) -> Envelope:
    """An outbox row as the envelope that travels."""
    return Envelope(**{name: row[name] for name in _NAMES})


def values(event: Envelope | None) -> tuple[object, ...]:
    """An event as the values of an outbox row, in the order of ``COLUMNS``; all ``None`` without one."""
    return tuple(getattr(event, name, None) for name in _NAMES)


def insert_into(schema: str, *, first: int, source: str, hold_s: str) -> str:
    """SQL that stores an event as a part of a larger statement.

    ``first`` is the number of the first of the ten parameters that take ``values``. An event is stored for each
    row of ``source``, such as the name of a common table expression, and none where the values are all ``None``.
    ``hold_s`` is an expression for the seconds before which the relay does not publish the event.
    """
    places = {name: f"${first + place}::{TYPES[name]}" for place, name in enumerate(_NAMES)}
    rows = f"from {source} where {places['id']} is not null"
    places["next_attempt_at"] = f"now() + make_interval(secs => {hold_s})"
    return f"insert into {schema}.outbox ({', '.join(places)}) select {', '.join(places.values())} {rows}"


async def emit(connection: Connection | Database, schema: str, *events: Envelope, known: Known = "refused") -> int:
    """Store events in one statement; how many were stored. They go out once the transaction is committed.

    ``known`` says what becomes of an event that the outbox has already: ``refused`` raises the driver's error,
    ``skipped`` leaves it as it is, ``sent again`` has it published again under its first id.
    """
    if not events:
        return 0
    rows = f"select * from {unnest(*TYPES.values())} {_KNOWN[known]}"  # noqa: S608 - constants
    stored = await connection.fetch(
        f"insert into {schema}.outbox ({COLUMNS}) {rows} returning 1",
        *columns(map(values, events)),
    )
    return len(stored)


class OutboxEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the outbox, as an operator sees it."""

    event_id: str
    type: str
    subject: str
    occurred_at: datetime
    published_at: datetime | None
    attempts: int
    last_error: str
    body: str


class Outbox:
    """One schema's outbox, for the console."""

    def __init__(self, database: Database, schema: str) -> None:
        self._database = database
        self._schema = schema

    async def entries(self, *, waiting: bool, limit: int) -> Sequence[OutboxEntry]:
        """The newest events, or those that wait for the relay."""
        return await self._select("where published_at is null" if waiting else "", limit)

    async def find(self, event_id: str) -> OutboxEntry | None:
        """One event, or ``None``."""
        found = await self._select("where id = $1", 1, parse_id(event_id))
        return found[0] if found else None

    async def waiting(self) -> int:
        """Count the events that wait for the relay."""
        count: int = await self._database.fetchval(
            f"select count(*) from {self._schema}.outbox where published_at is null"  # noqa: S608 - our own name
        )
        return count

    async def recent(self, period: timedelta) -> Mapping[str, int]:
        """Count recently emitted events by type. Works for outboxes whose ids sort by time."""
        since = now() - period
        rows = await self._database.fetch(
            f"select type, count(*) as events from {self._schema}.outbox "  # noqa: S608 - our own name
            "where id >= $1 and occurred_at >= $2 group by type order by type",
            first_id_of(since),
            since,
        )
        return {row["type"]: row["events"] for row in rows}

    async def published(self, types: Sequence[str], before: datetime, after_id: str, limit: int) -> Sequence[str]:
        """The ids of events of these types that were published before a moment, in order, after the one given."""
        rows = await self._database.fetch(
            f"""
            select id::text as id from {self._schema}.outbox
            where type = any($1) and published_at < $2 and id > $3 order by id limit $4""",  # noqa: S608
            list(types),
            before,
            parse_id(after_id) or NO_ID,
            limit,
        )
        return [row["id"] for row in rows]

    async def replay(self, event_id: str) -> bool:
        """Have an event published again under the same id; ``False`` when there is none with it."""
        touched = await self._database.execute(
            f"update {self._schema}.outbox set published_at = null, next_attempt_at = now() "  # noqa: S608
            "where id = $1",
            parse_id(event_id),
        )
        return touched == 1

    async def _select(self, condition: str, limit: int, *arguments: object) -> Sequence[OutboxEntry]:
        rows = await self._database.fetch(
            f"select {COLUMNS}, published_at, attempts, last_error from {self._schema}.outbox "  # noqa: S608
            f"{condition} order by id desc limit {int(limit)}",
            *arguments,
        )
        return [
            OutboxEntry(
                event_id=str(row["id"]),
                type=row["type"],
                subject=row["subject"],
                occurred_at=row["occurred_at"],
                published_at=row["published_at"],
                attempts=row["attempts"],
                last_error=row["last_error"] or "",
                body=row["body"].decode(),
            )
            for row in rows
        ]


class Relay:
    """Publishes one schema's outbox. Any number may run, in any number of processes.

    ``backlog`` is told every 5 s what still waits. With ``forget`` an event's row goes as soon as the event is
    confirmed: for events that hold what must not be kept. Such an event cannot be looked at or replayed later.
    Events go out by their ids, which sort by time; where they do not, ``order_by`` names other columns. With
    ``outlet`` the schema has a table of that name, and rows stay while they are in it.
    """

    def __init__(
        self,
        database: Database,
        schema: str,
        transport: EventTransport,
        backlog: Backlog | None = None,
        *,
        forget: bool = False,
        order_by: str = "id",
        outlet: bool = False,
    ) -> None:
        self._database = database
        self._schema = schema
        self._transport = transport
        finish = (_FORGET_OR_MARK if outlet else _FORGET) if forget else _MARK
        self._finish = finish.format(schema)
        self._old = "published_at is not null"
        if outlet:
            self._old += f" and {_NOT_IN_OUTLET.format(schema)}"
        self._backlog = backlog or Backlog(schema)
        self._forget = forget
        self._order_by = order_by
        self._poll = Poll(POLL_S)
        self._stuck = False
        self._size = BATCH

    def wake(self) -> None:
        """Say that something was committed: a hint for speed, the poll is the guarantee."""
        self._poll.wake()

    async def run(self) -> None:
        """Relay until cancelled. A batch that fails is tried again; its events stay in the outbox."""
        watch = regularly(_MEASURE_EVERY_S, self.measure, self.purge)
        tasks = [asyncio.ensure_future(loop) for loop in (self._poll.run(self._relay), watch)]
        try:
            await asyncio.gather(*tasks)
        finally:  # when one dies, gather leaves the other running, and ``run`` is called again
            await _end(tasks)

    async def _relay(self) -> float | None:
        size = self._size
        published = await self.batch()
        if self._stuck:
            return POLL_S  # more events would not help
        if published == size:
            return MORE
        if published:
            await asyncio.sleep(_GAP_S)
        return None

    async def batch(self) -> int:
        """Publish what waits, ``BATCH`` events or ``BACKLOG_BATCH`` after a full batch; return their number."""
        size, self._size = self._size, BATCH
        self._stuck = False
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                f"""
                select {COLUMNS}, attempts from {self._schema}.outbox
                where published_at is null and next_attempt_at <= now()
                order by {self._order_by} limit {size} for update skip locked"""  # noqa: S608 - our own names and numbers
            )
            if not rows:
                return 0
            failpoint("relay.locked")
            spans = [_span_of(row) for row in rows]
            sent = [envelope(row).below(span) for row, span in zip(rows, spans, strict=True)]
            outcomes = await self._transport.publish(sent)
            failpoint("relay.published")
            done = [row["id"] for row, error in zip(rows, outcomes, strict=True) if error is None]
            if done:
                await connection.execute(self._finish, done)
            failpoint("relay.marked")
            failed = [(row, error) for row, error in zip(rows, outcomes, strict=True) if error is not None]
            full_of_failures = len(failed) == size
            self._stuck = full_of_failures or any(isinstance(error, Unavailable) for _, error in failed)
            if failed:
                await self._back_off(connection, failed)
        for row, error, span in zip(rows, outcomes, spans, strict=True):
            if error is not None:
                span.fail(error)
            span.end()
            EVENTS_PUBLISHED.labels(row["type"], "failed" if error else "confirmed").inc()
        if len(rows) == size and not self._stuck:
            self._size = BACKLOG_BATCH
        return len(rows)

    async def _back_off(self, connection: object, failed: Sequence[tuple[Record, Exception | None]]) -> None:
        log.warning(
            "events not confirmed, will try again",
            extra={"schema": self._schema, "events": len(failed), "reason": str(failed[0][1])},
        )
        await connection.executemany(  # type: ignore[attr-defined]  # asyncpg carries no types
            f"update {self._schema}.outbox set attempts = attempts + 1, last_error = $2, "  # noqa: S608
            "next_attempt_at = now() + make_interval(secs => $3) where id = $1",
            [(row["id"], storable(str(error), 500), _pause_s(row["attempts"], error)) for row, error in failed],
        )

    async def measure(self) -> None:
        """Tell the backlog what waits; ``run`` does so regularly. Raises ``Unavailable``."""
        row = await self._database.fetchrow(
            f"""
            select count(*) as waiting, (
                select occurred_at from {self._schema}.outbox where {_WAITS}
                order by {self._order_by} limit 1
            ) as oldest from {self._schema}.outbox where {_WAITS}"""  # noqa: S608 - our own name
        )
        if row is not None:
            age_s = (now() - row["oldest"]).total_seconds() if row["oldest"] else 0.0
            self._backlog.measured(row["waiting"], age_s)

    async def purge(self) -> None:
        """Delete what was published long ago, or is to be forgotten and has left the outlet."""
        if self._forget:
            await self._database.purge(f"{self._schema}.outbox", self._old)
        else:
            await self._database.purge(
                f"{self._schema}.outbox", f"id < $1 and {self._old}", first_id_of(now() - KEEP)
            )


def _span_of(row: Record) -> tracing.Span:
    about = {"messaging.operation.type": "send", "messaging.message.id": str(row["id"])}
    return tracing.span(
        f"publish {row['type']}",
        "producer",
        about,
        parent=row["traceparent"],
        again=row["attempts"] > 0,
        since=row["occurred_at"],
    )


async def _end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel until they have ended: a connection that is made at that very moment swallows a cancellation
    (asyncpg's ``wait_for``, as Python's own before 3.12: python/cpython#86296).
    """
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_S)


def _pause_s(attempts: int, error: Exception | None) -> float:
    return POLL_S if isinstance(error, Unavailable) else _RETRY.pause_s(attempts + 1)
