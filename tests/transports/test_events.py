"""One suite over every event transport: at least once, again later, dead letters, replay, death of a consumer."""

import asyncio
import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity

from purveyor.kit import log, tracing
from purveyor.kit.clock import now
from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import Unavailable
from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.events.signing import EventSigner, SignedEvents
from purveyor.kit.events.transport import (
    MAX_BODY_BYTES,
    DeadLetter,
    EventHandler,
    EventTransport,
    Queue,
    Undeliverable,
)
from purveyor.kit.ids import new_id
from purveyor.kit.metrics import REGISTRY
from purveyor.transports import handling
from purveyor.transports.nats.events import NatsEvents
from purveyor.transports.postgres import MIGRATIONS
from purveyor.transports.postgres.events import PostgresEvents
from purveyor.transports.rabbitmq.events import RabbitEvents
from purveyor_drill.servers.nats import NatsServer
from purveyor_drill.servers.rabbitmq import RabbitServer
from waiting import PATIENCE_S, until


class Case(ABC):
    """One transport on one real server."""

    name: ClassVar[str]
    make_in_process: str
    """Python that makes the transport in another process: imports, then an expression after a line break."""

    @abstractmethod
    def transport(self) -> EventTransport:
        """A transport as a process of its own would have it."""

    @abstractmethod
    async def prepare(self) -> None:
        """Make what must be there before the first one is opened."""


class PostgresCase(Case):
    name = "PostgreSQL"

    def __init__(self, url: str) -> None:
        self._url = url
        self.make_in_process = (
            "from purveyor.kit.db.postgres import open_database\n"
            "from purveyor.transports.postgres.events import PostgresEvents\n"
            f"made = PostgresEvents(open_database({url!r}, application='killed', max_size=2))"
        )

    def transport(self) -> PostgresEvents:
        return PostgresEvents(open_database(self._url, application="events", max_size=4))

    async def prepare(self) -> None:
        await migrate(self._url, "events", MIGRATIONS)


class RabbitCase(Case):
    name = "RabbitMQ"

    def __init__(self, url: str) -> None:
        self._url = url
        self.make_in_process = (
            "from purveyor.transports.rabbitmq.events import RabbitEvents\n"
            f"made = RabbitEvents({url!r}, startup_wait_s=10)"
        )

    def transport(self) -> RabbitEvents:
        return RabbitEvents(self._url, startup_wait_s=20)

    async def prepare(self) -> None:
        """Nothing: to open one declares its queues."""


class NatsCase(Case):
    name = "NATS"

    def __init__(self, url: str) -> None:
        self._url = url
        self.make_in_process = (
            "from purveyor.transports.nats.events import NatsEvents\n"
            f"made = NatsEvents({url!r}, startup_wait_s=10)"
        )

    def transport(self) -> NatsEvents:
        return NatsEvents(self._url, startup_wait_s=20)

    async def prepare(self) -> None:
        """Nothing: to open one declares its streams."""


@pytest.fixture(scope="module")
def rabbitmq_url() -> Iterator[str]:
    if reason := RabbitServer.available():
        pytest.skip(f"no RabbitMQ: {reason}")
    with RabbitServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def nats_url() -> Iterator[str]:
    if reason := NatsServer.available():
        pytest.skip(f"no NATS: {reason}")
    with NatsServer() as server:
        yield server.url


@pytest.fixture(scope="module", params=["postgres", "rabbitmq", "nats"])
async def case(request: pytest.FixtureRequest) -> Case:
    made: Case
    if request.param == "postgres":
        made = PostgresCase(request.getfixturevalue("database_url"))
    elif request.param == "rabbitmq":
        made = RabbitCase(request.getfixturevalue("rabbitmq_url"))
    else:
        made = NatsCase(request.getfixturevalue("nats_url"))
    await made.prepare()
    return made


numbers = count(1)


@dataclass
class Line:
    """An event type and a queue of the test's own, and as many transports on it as it likes."""

    case: Case
    stack: contextlib.AsyncExitStack
    queue: Queue

    async def transport(self) -> EventTransport:
        opened = self.case.transport()
        await opened.open([self.queue])
        self.stack.push_async_callback(opened.close)
        return opened

    async def consume(self, transport: EventTransport, handler: EventHandler) -> "asyncio.Task[None]":
        task = asyncio.create_task(transport.consume(self.queue, handler))

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.stack.push_async_callback(stop)
        return task

    def sent(self, number: int = 1, body: bytes | None = None) -> Envelope:
        return Envelope(
            id=new_id(),
            type=self.queue.event.type,
            body=f'{{"number": {number}, "added_later": true}}'.encode() if body is None else body,
            occurred_at=now(),
            subject=f"order {number}",
            sequence=number,
            correlation_id=f"request-{number}",
            currency="EUR",
            language="de",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )

    async def publish(self, transport: EventTransport, *sent: Envelope) -> None:
        assert list(await transport.publish(sent)) == [None] * len(sent)


@contextlib.asynccontextmanager
async def line_of(case: Case, name: str) -> AsyncIterator[Line]:
    class Happened(Event, frozen=True):
        type: ClassVar = f"{name}{next(numbers)}"

        number: int
        text: str = ""

    async with contextlib.AsyncExitStack() as stack:
        yield Line(case, stack, Queue(name=f"queue.of.{Happened.type}", event=Happened, role="test"))


@pytest.fixture
async def line(case: Case) -> AsyncIterator[Line]:
    async with line_of(case, "test.happened") as made:
        yield made


@pytest.fixture(params=["user.happened", "test_data.happened"])
async def personal(case: Case, request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    """A line of events about people."""
    async with line_of(case, request.param) as made:
        yield made


class Handler:
    """Remembers what it was given; ``act`` decides what becomes of it."""

    def __init__(self, act: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.seen: list[tuple[Any, Envelope]] = []
        self.during: list[tuple[str, str]] = []
        self.done: list[UUID] = []
        self._act = act

    async def __call__(self, event: Any, envelope: Envelope) -> None:
        self.seen.append((event, envelope))
        self.during.append((log.request_id.get(), tracing.traceparent.get()))
        if self._act is not None:
            await self._act(len(self.seen))
        self.done.append(envelope.id)

    async def until(self, done: int) -> None:
        await until(lambda: len(self.done) >= done)


def alike(arrived: Envelope, sent: Envelope) -> bool:
    """Equal, but for the fraction of a second that AMQP's timestamp lacks."""
    late = (sent.occurred_at - arrived.occurred_at).total_seconds()
    return 0 <= late < 1 and msgspec.structs.replace(arrived, occurred_at=sent.occurred_at) == sent


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """True for each attempt whose trace was told that it is a repetition."""
    noted: list[bool] = []

    def start(name: str, kind: str, attributes: Any, *, again: bool, **_: Any) -> tracing.Span:
        noted.append(again)
        return tracing.NO_SPAN

    monkeypatch.setattr(tracing, "_start", start)
    return noted


async def dead_letters(line: Line, transport: EventTransport, expected: int) -> list[DeadLetter]:
    """The queue's dead letters, once there are as many."""

    found: list[DeadLetter] = []

    async def enough() -> bool:
        found[:] = [letter for letter in await transport.dead_letters() if letter.queue == line.queue.name]
        return len(found) >= expected

    await until(enough)
    return found


# --- every transport


async def test_an_event_arrives_whole_once_and_is_gone(line: Line) -> None:
    transport, handler, sent = await line.transport(), Handler(), line.sent(7)
    await line.consume(transport, handler)
    await line.publish(transport, sent)
    await handler.until(1)
    later = Handler()
    await line.consume(await line.transport(), later)
    await asyncio.sleep(0.3)

    ((event, envelope),) = handler.seen
    assert event == line.queue.event(number=7)
    assert alike(envelope, sent)
    assert handler.during == [("request-7", sent.traceparent)]
    assert later.seen == []
    assert await dead_letters(line, transport, 0) == []


def signed(transport: EventTransport, secret: str) -> SignedEvents:
    return SignedEvents(transport, EventSigner(secret) if secret else None, exposed=True)


async def test_events_about_people_count_only_with_the_signature_of_a_role(personal: Line) -> None:
    transport, handler = await personal.transport(), Handler()
    ours, theirs = signed(transport, "s" * 32), signed(transport, "t" * 32)
    good, forged, bare = personal.sent(1), personal.sent(2), personal.sent(3)
    stolen = msgspec.structs.replace(EventSigner("s" * 32).sign(good), id=new_id(), body=b'{"number": 4}')
    await personal.publish(ours, good)
    await personal.publish(theirs, forged)
    await personal.publish(transport, bare, stolen)
    await personal.consume(ours, handler)
    found = {letter.event_id: letter.reason for letter in await dead_letters(personal, ours, 3)}
    await handler.until(1)

    assert handler.done == [good.id]
    kind = personal.queue.event.type
    assert found == {
        str(forged.id): f"Undeliverable: the signature of {kind} does not match SERVICE_SECRET",
        str(stolen.id): f"Undeliverable: the signature of {kind} does not match SERVICE_SECRET",
        str(bare.id): f"Undeliverable: the signature of {kind} is missing",
    }


async def test_without_a_secret_events_about_people_are_taken_with_one_warning(
    personal: Line, caplog: pytest.LogCaptureFixture
) -> None:
    transport, handler = signed(await personal.transport(), ""), Handler()
    await personal.consume(transport, handler)
    await personal.publish(transport, personal.sent(1), personal.sent(2))
    await handler.until(2)

    assert [record.message for record in caplog.records if "without a signature" in record.message][1:] == []
    assert "SERVICE_SECRET" in caplog.text


async def test_other_events_are_open_to_foreign_publishers(line: Line) -> None:
    transport, handler = await line.transport(), Handler()
    await line.consume(signed(transport, "s" * 32), handler)
    await line.publish(transport, line.sent())
    await handler.until(1)


async def test_what_was_published_before_anybody_consumed_is_waiting(line: Line) -> None:
    publishing = await line.transport()
    sent = [line.sent(number) for number in range(5)]
    await line.publish(publishing, *sent)
    await publishing.close()
    handler = Handler()
    await line.consume(await line.transport(), handler)
    await handler.until(5)

    assert sorted(handler.done) == [envelope.id for envelope in sent]


async def test_a_consumer_that_waits_is_told_by_its_own_process_and_by_another(line: Line) -> None:
    transport, handler = await line.transport(), Handler()
    await line.consume(transport, handler)
    await asyncio.sleep(0.3)
    await line.publish(transport, line.sent())
    await handler.until(1)
    await line.publish(await line.transport(), line.sent())
    await handler.until(2)


async def test_events_that_wait_are_counted_until_they_are_handled_or_dead(line: Line) -> None:
    transport, nobody = await line.transport(), Queue(name="no.such", event=line.queue.event, role="test")
    first, second, third = line.sent(1), line.sent(2), line.sent(3)
    calls: list[UUID] = []

    async def act(_: Any, envelope: Envelope) -> None:
        calls.append(envelope.id)
        if envelope.id == second.id:
            raise ValueError("later")
        if envelope.id == third.id:
            raise Undeliverable("never")

    async def waiting() -> int:
        counts = await transport.waiting([line.queue])
        assert set(counts) == {line.queue.name}
        return counts[line.queue.name]

    async def waits(count: int) -> bool:
        return await waiting() == count

    assert await waiting() == 0
    await line.publish(transport, first, second, third)
    await until(lambda: waits(3))
    await line.consume(transport, act)
    await until(lambda: len(set(calls)) == 3)
    await until(lambda: waits(1))  # the one that is tried again later
    handled = REGISTRY.get_sample_value("purveyor_event_handler_seconds_count", {"queue": line.queue.name})
    assert handled == len(calls)
    if isinstance(line.case, RabbitCase):  # it cannot count what is not there
        with pytest.raises(ChannelNotFoundEntity):
            await transport.waiting([nobody])
        assert await waiting() in (0, 1), "the next time is right again"
    else:
        assert await transport.waiting([nobody]) == {"no.such": 0}


async def test_publishing_nothing_is_nothing(line: Line) -> None:
    assert list(await (await line.transport()).publish([])) == []


async def test_a_handler_that_fails_is_called_again_later_and_holds_up_nobody(
    line: Line, tries: list[bool]
) -> None:
    """Its error is one that the transport itself knows from reading bodies: that must not be mixed up."""
    transport = await line.transport()
    first, second = line.sent(1), line.sent(2)
    failed = False

    async def fail_once(event: Any, envelope: Envelope) -> None:
        nonlocal failed
        if envelope.id == first.id and not failed:
            failed = True
            raise msgspec.ValidationError("a template \x00 \ud800 of mine")
        await handler(event, envelope)

    handler = Handler()
    await line.consume(transport, fail_once)
    await line.publish(transport, first, second)
    await handler.until(2)

    assert handler.done == [second.id, first.id]
    assert tries == [False, False, True]
    assert await dead_letters(line, transport, 0) == []


async def test_a_server_that_a_handler_needs_is_waited_for_and_counts_as_no_attempt(
    line: Line, monkeypatch: pytest.MonkeyPatch, tries: list[bool]
) -> None:
    monkeypatch.setattr(handling, "AWAY_PAUSE_S", 0.1)
    transport = await line.transport()

    async def away(call: int) -> None:
        if call < 3:
            raise Unavailable("The ledger is away.")
        raise Undeliverable("enough")

    handler = Handler(away)
    await line.consume(transport, handler)
    await line.publish(transport, line.sent())
    (letter,) = await dead_letters(line, transport, 1)

    assert len(handler.seen) == 3
    assert tries == [False, True, True]
    assert letter.attempts == 1


async def test_what_can_never_be_handled_is_a_dead_letter_at_once(line: Line) -> None:
    transport = await line.transport()

    async def refuse(_: int) -> None:
        raise Undeliverable("no such recipient")

    handler, sent = Handler(refuse), line.sent(3)
    await line.consume(transport, handler)
    before = now()
    await line.publish(transport, sent)
    (letter,) = await dead_letters(line, transport, 1)
    await asyncio.sleep(0.2)

    assert len(handler.seen) == 1
    assert (letter.event_id, letter.type, letter.subject) == (str(sent.id), sent.type, sent.subject)
    assert letter.attempts == 1
    assert "no such recipient" in letter.reason
    assert letter.body == sent.body.decode()
    assert before.replace(microsecond=0) <= letter.died_at <= now()


UNREADABLE = {
    "not JSON": b"hello",
    "not UTF-8": b'{"number": 1, "text": "\xff"}',
    "invalid UTF-8 in a name": b'{"\xff": 1}',
    "empty": b"",
    "another shape": b'{"number": "one"}',
    "too deep": b'{"number": 1, "more": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "too large": b'{"number": 1, "more": "' + b"x" * MAX_BODY_BYTES + b'"}',
}


async def test_a_body_that_cannot_be_read_is_a_dead_letter_at_once_and_holds_up_nobody(line: Line) -> None:
    transport, handler = await line.transport(), Handler()
    bad = [line.sent(body=body) for body in UNREADABLE.values()]
    good = line.sent(5)
    await line.consume(transport, handler)
    await line.publish(transport, *bad, good)
    letters = await dead_letters(line, transport, len(bad))

    await handler.until(1)
    assert handler.done == [good.id]
    assert {letter.event_id for letter in letters} == {str(sent.id) for sent in bad}
    assert all(letter.reason.startswith("Undeliverable: the body ") for letter in letters)


async def test_a_dead_letter_is_sent_again_once(line: Line, tries: list[bool]) -> None:
    transport = await line.transport()
    dead = True

    async def refuse(_: int) -> None:
        if dead:
            raise Undeliverable("not now")

    handler, sent = Handler(refuse), line.sent(4)
    await line.consume(transport, handler)
    await line.publish(transport, sent, line.sent(5))
    await dead_letters(line, transport, 2)
    console = await line.transport()
    dead = False

    assert await console.replay(line.queue.name, str(sent.id))
    await handler.until(1)
    assert handler.done == [sent.id]
    assert tries == [False, False, True]
    assert alike(handler.seen[-1][1], sent)
    assert not await console.replay(line.queue.name, str(sent.id)), "it is no dead letter any more"
    assert len(await dead_letters(line, console, 1)) == 1, "the other one stays"


@pytest.mark.parametrize("event_id", ["nonsense", "", "01234567-89ab-7def-8123-456789abcdef", "' or 1=1"])
async def test_there_is_no_such_dead_letter(line: Line, event_id: str) -> None:
    transport = await line.transport()

    assert not await transport.replay(line.queue.name, event_id)
    assert not await transport.replay("no.such.queue", event_id)


async def test_what_still_waits_is_no_dead_letter(line: Line) -> None:
    transport, sent = await line.transport(), line.sent()
    await line.publish(transport, sent)

    assert not await transport.replay(line.queue.name, str(sent.id))
    assert await dead_letters(line, transport, 0) == []


async def test_two_consumers_share_the_work_and_do_none_of_it_twice(line: Line) -> None:
    gate = asyncio.Event()
    here, there = await line.transport(), await line.transport()

    async def wait(_: int) -> None:
        await gate.wait()

    one, two = Handler(wait), Handler(wait)
    await line.consume(here, one)
    await line.consume(there, two)
    sent = [line.sent(n) for n in range(70)]
    await line.publish(here, *sent)
    await until(lambda: bool(one.seen) and bool(two.seen))
    gate.set()
    await until(lambda: len(one.done) + len(two.done) >= len(sent))
    await asyncio.sleep(0.2)

    assert sorted(one.done + two.done) == sorted(envelope.id for envelope in sent)


CONSUMER = """
import asyncio, sys
from typing import ClassVar
from purveyor.kit.events.message import Event
from purveyor.kit.events.transport import Queue
{make}

class Happened(Event, frozen=True):
    type: ClassVar[str] = sys.argv[1]
    number: int

async def handle(event, envelope):
    print(event.number, flush=True)
    await asyncio.Event().wait()

async def main():
    queue = Queue(name=sys.argv[2], event=Happened, role="test")
    await made.open([queue])
    await made.consume(queue, handle)

asyncio.run(main())
"""


async def test_a_consumer_that_is_killed_while_handling_loses_nothing(line: Line) -> None:
    transport = await line.transport()
    script = CONSUMER.format(make=line.case.make_in_process)
    arguments = ["-c", script, line.queue.event.type, line.queue.name]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        sent = line.sent(9)
        await line.publish(transport, sent)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.stdout.readline() == b"9\n"
        handler = Handler()
        await line.consume(transport, handler)
        await asyncio.sleep(0.3)
        assert handler.seen == [], "it is in the other one's hands"
    finally:
        process.kill()
        await process.wait()
    await handler.until(1)

    assert handler.done == [sent.id]


async def test_a_sign_of_life_names_the_server(line: Line) -> None:
    assert line.case.name in await (await line.transport()).check()


# --- PostgreSQL alone: its queue is a table


@pytest.fixture
async def table(database_url: str, database: Database) -> AsyncIterator[tuple[Line, Database]]:
    class Happened(Event, frozen=True):
        type: ClassVar = f"test.happened{next(numbers)}"

        number: int
        text: str = ""

    case = PostgresCase(database_url)
    await case.prepare()
    async with contextlib.AsyncExitStack() as stack:
        yield Line(case, stack, Queue(name=f"queue.of.{Happened.type}", event=Happened, role="test")), database


async def test_an_event_that_is_published_twice_waits_once(table: tuple[Line, Database]) -> None:
    line, database = table
    transport, sent = await line.transport(), line.sent()
    await line.publish(transport, sent, sent)
    await line.publish(await line.transport(), sent)

    assert await database.fetchval("select count(*) from events.deliveries where queue = $1", line.queue.name) == 1


async def test_the_twelfth_failure_is_the_last(table: tuple[Line, Database]) -> None:
    line, database = table
    transport = await line.transport()

    async def fail(_: int) -> None:
        raise ValueError("always")

    await line.publish(transport, line.sent())
    await database.execute("update events.deliveries set attempts = 10 where queue = $1", line.queue.name)
    handler, before = Handler(fail), now()
    await line.consume(transport, handler)
    await until(lambda: len(handler.seen) == 1)

    async def counted() -> asyncpg.Record | None:
        return await database.fetchrow(
            "select * from events.deliveries where queue = $1 and attempts > 10", line.queue.name
        )

    row = await until(counted)
    assert row is not None
    assert row["died_at"] is None
    assert before <= row["next_attempt_at"] - timedelta(seconds=300) <= now()

    await database.execute(
        "update events.deliveries set next_attempt_at = now() where queue = $1", line.queue.name
    )
    (letter,) = await dead_letters(line, transport, 1)
    assert letter.attempts == 12
    assert letter.reason == "ValueError: always"


async def test_a_handler_that_hangs_is_ended(
    table: tuple[Line, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "HANDLER_S", 0.1)
    line, database = table
    transport = await line.transport()

    async def hang(_: int) -> None:
        await asyncio.Event().wait()

    await line.publish(transport, line.sent())
    await line.consume(transport, Handler(hang))
    await until(
        lambda: database.fetchval(
            "select reason like 'TimeoutError%' from events.deliveries where queue = $1", line.queue.name
        )
    )


async def test_a_consumer_that_is_cancelled_gives_the_event_back(table: tuple[Line, Database]) -> None:
    line, _ = table
    transport = await line.transport()

    async def hang(_: int) -> None:
        await asyncio.Event().wait()

    first, second, sent = Handler(hang), Handler(), line.sent()
    task = await line.consume(transport, first)
    await line.publish(transport, sent)
    await until(lambda: bool(first.seen))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await line.consume(await line.transport(), second)
    await second.until(1)

    assert second.done == [sent.id]
