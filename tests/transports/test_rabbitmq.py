"""Events over a real RabbitMQ: what travels, what comes back, and what a dead, frozen or full server does."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import aio_pika
import aiormq
import msgspec
import pytest
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from purveyor.kit import log, tracing
from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.events.transport import DeadLetter, EventHandler, Queue, Undeliverable
from purveyor.kit.ids import new_id
from purveyor.transports.rabbitmq import properties
from purveyor.transports.rabbitmq.events import RabbitEvents
from purveyor.transports.rabbitmq.link import Refused, Unroutable
from purveyor_drill.servers.rabbitmq import RabbitServer

MOMENT = datetime(2026, 11, 22, 12, 30, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    server = RabbitServer()
    if reason := server.available():
        pytest.skip(reason)
    if not server.ours:
        pytest.skip(f"{server.variable} is set: not ours to kill")
    with server:
        yield server


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Queue:
    """A queue and an event type for one test."""
    name = request.node.name.removeprefix("test_")
    return Queue(name=name, event=_event(name), role="email")


def _event(name: str) -> type[Event]:
    kind: Any = msgspec.defstruct(
        "Numbered", [("number", int)], bases=(Event,), namespace={"type": name}, frozen=True, kw_only=True
    )
    return cast("type[Event]", kind)


@pytest.fixture
async def events(server: RabbitServer, queue: Queue) -> AsyncIterator[RabbitEvents]:
    async with _opened(server, queue) as events:
        yield events


@asynccontextmanager
async def _opened(server: RabbitServer, *queues: Queue, prefetch: int = 20) -> AsyncIterator[RabbitEvents]:
    events = RabbitEvents(server.url, startup_wait_s=10, prefetch=prefetch)
    try:
        await events.open(queues)
        yield events
    finally:
        await events.close()


class Foreign:
    """Another service with a client of its own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def depth(self, name: str) -> int:
        async with self.connection.channel() as channel:
            try:
                queue = await channel.declare_queue(name, passive=True)
            except aio_pika.exceptions.ChannelNotFoundEntity:
                return 0
            return int(queue.declaration_result.message_count)

    async def consumers(self, name: str) -> int:
        async with self.connection.channel() as channel:
            queue = await channel.declare_queue(name, passive=True)
            return int(queue.declaration_result.consumer_count)

    async def delete(self, name: str) -> None:
        async with self.connection.channel() as channel:
            await channel.queue_delete(name)

    async def take(self, name: str) -> Any:
        async with self.connection.channel() as channel:
            return await (await channel.get_queue(name)).get(no_ack=True)

    async def put(self, name: str, body: bytes, **properties: Any) -> None:
        async with self.connection.channel() as channel:
            await channel.default_exchange.publish(aio_pika.Message(body, **properties), name)

    async def put_raw(self, name: str, body: bytes, flags: int = 0, properties: bytes = b"") -> None:
        """Below the client's own publish, which adds a message id and refuses to write odd properties."""
        async with self.connection.channel() as channel:
            wire: aiormq.Channel = await channel.get_underlay_channel()
            header = RawHeader(flags, properties, body_size=len(body))
            frames: list[Any] = [Basic.Publish(routing_key=name), header, ContentBody(body)]
            await wire.write_queue.put(ChannelFrame.marshall(channel_number=wire.number, frames=frames))


class RawHeader(ContentHeader):
    """A content header whose properties are written as they stand (AMQP 0-9-1 section 2.3.5.2)."""

    def __init__(self, flags: int, raw: bytes, body_size: int) -> None:
        super().__init__(body_size=body_size)
        self.flags, self.raw = flags, raw

    def marshal(self) -> bytes:
        return struct.pack(">HxxQH", 60, self.body_size, self.flags) + self.raw


@pytest.fixture
async def foreign(server: RabbitServer) -> AsyncIterator[Foreign]:
    async with await aio_pika.connect(server.url) as connection:
        yield Foreign(connection)


class Seen:
    """A handler that keeps what it got, and does what the test says."""

    def __init__(self, then: Callable[[int], Awaitable[None]] | None = None) -> None:
        self.got: list[tuple[Any, Envelope]] = []
        self.at: list[float] = []
        self._then = then

    async def __call__(self, event: Any, envelope: Envelope) -> None:
        self.got.append((event, envelope))
        self.at.append(time.monotonic())
        if self._then is not None:
            await self._then(len(self.got))

    @property
    def numbers(self) -> list[int]:
        return [event.number for event, _ in self.got]


@asynccontextmanager
async def _consuming(
    events: RabbitEvents, queue: Queue, handler: EventHandler
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(events.consume(queue, handler))
    try:
        yield task
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def _until(true: Callable[[], Any], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            result = true()
            if await result if isinstance(result, Awaitable) else result:
                return
            await asyncio.sleep(0.02)


def _raising(error: Exception) -> Callable[[int], Awaitable[None]]:
    async def then(_: int) -> None:
        raise error

    return then


def _sent(queue: Queue, number: int = 1, **more: Any) -> Envelope:
    body = b'{"number":%d}' % number
    return Envelope(id=new_id(), type=queue.event.type, body=body, occurred_at=MOMENT, **more)


async def test_an_event_arrives_with_all_its_properties(events: RabbitEvents, queue: Queue) -> None:
    sent = _sent(
        queue,
        subject="order-1",
        sequence=3,
        correlation_id="request-1",
        currency="EUR",
        language="de",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    during: list[tuple[str, str]] = []

    async def handler(event: Any, envelope: Envelope) -> None:
        during.append((log.request_id.get(), tracing.traceparent.get()))
        await seen(event, envelope)

    seen = Seen()
    async with _consuming(events, queue, handler):
        assert await events.publish([sent]) == [None]
        await _until(lambda: seen.got)

    assert seen.got == [(queue.event(number=1), sent)]
    assert during == [("request-1", sent.traceparent)]


async def test_a_foreign_consumer_of_the_plain_durable_queue_sees_the_contract(
    server: RabbitServer, foreign: Foreign
) -> None:
    queue = Queue(name="order.told", event=_event("order.told"), role="email")
    sent = _sent(queue, subject="order-1", sequence=3, correlation_id="request-1", currency="EUR")
    async with foreign.connection.channel() as channel, _opened(server, queue) as events:
        await channel.declare_queue(queue.name, durable=True)
        assert await events.publish([sent, _sent(queue, 2)]) == [None, None]
        got = await (await channel.get_queue(queue.name)).get(no_ack=True)
        bare = await (await channel.get_queue(queue.name)).get(no_ack=True)

    assert (got.body, got.type, got.content_type) == (sent.body, queue.event.type, "application/json")
    assert (got.message_id, got.correlation_id, got.timestamp) == (str(sent.id), "request-1", MOMENT)
    assert got.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert got.headers == {"order_id": "order-1", "sequence": 3, "currency": "EUR"}
    assert (got.exchange, got.routing_key) == ("purveyor.events", queue.event.type)
    assert (bare.correlation_id, bare.headers) == (None, {})


@pytest.mark.parametrize(
    ("kind", "header"), [("user.told", "subject"), ("order_data.told", "subject"), ("mail.settled", "order_id")]
)
async def test_only_what_is_about_an_order_has_its_id_among_the_headers(
    server: RabbitServer, foreign: Foreign, kind: str, header: str
) -> None:
    queue = Queue(name=kind, event=_event(kind), role="email")
    sent, seen = _sent(queue, subject="7"), Seen()
    async with _opened(server, queue) as events:
        await events.publish([sent, sent])
        assert (await foreign.take(queue.name)).headers == {header: "7"}
        async with _consuming(events, queue, seen):
            await _until(lambda: seen.got)
    assert seen.got[0][1] == sent


async def test_a_foreign_body_without_any_property_is_handled(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    async def then(_: int) -> None:
        raise Undeliverable("no")

    seen = Seen(then)
    before = datetime.now(UTC)
    async with _consuming(events, queue, seen):
        await foreign.put_raw(queue.name, b'{"number": 7, "more": "ignored"}')
        await _until(lambda: foreign.depth(f"{queue.name}.dead"))

    event, envelope = seen.got[0]
    assert event.number == 7
    assert (envelope.id, envelope.type, envelope.subject) == (UUID(int=0), queue.event.type, "")
    assert (envelope.sequence, envelope.correlation_id, envelope.traceparent) == (0, "", "")
    assert envelope.occurred_at >= before.replace(microsecond=0)


async def test_dead_letters_without_an_id_are_told_apart(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    async def then(count: int) -> None:
        if count <= 3:
            raise Undeliverable("no")

    seen = Seen(then)
    async with _consuming(events, queue, seen):
        for _ in range(3):  # not even their bodies differ
            await foreign.put_raw(queue.name, b'{"number":1}')
        await _until(lambda: _dead(foreign, queue, 3))
        letters = await events.dead_letters()
        first, second, third = (letter.event_id for letter in letters)
        assert len({first, second, third, str(UUID(int=0))}) == 4
        assert letters == await events.dead_letters()

        assert await events.drop(queue.name, second)
        assert not await events.drop(queue.name, second)
        assert await events.replay(queue.name, first)
        await _until(lambda: len(seen.got) == 4)
        assert [letter.event_id for letter in await events.dead_letters()] == [third]
    assert {envelope.id for _, envelope in seen.got} == {UUID(int=0)}


def _short(raw: bytes) -> bytes:
    return bytes([len(raw)]) + raw


def _headers(*fields: bytes) -> bytes:
    return struct.pack(">I", sum(map(len, fields))) + b"".join(fields)


def _nested(depth: int) -> bytes:
    table = _headers()
    for _ in range(depth):
        table = _headers(_short(b"k") + b"F" + table)
    return table


MICROSECONDS = struct.pack(">Q", 1_795_693_821_000_000)
ODD = {
    "timestamp.us": (1 << 6, MICROSECONDS),
    "timestamp.2_63": (1 << 6, struct.pack(">Q", 2**63 + 5)),
    "message_id": (1 << 7, _short(b"\xff\xfe\x00a")),
    "correlation_id": (1 << 10, _short(b"\xff" * 255)),
    "type": (1 << 5, _short(b"\xff")),
    "header.name": (1 << 13, _headers(_short(b"\xff\xfe") + b"V")),
    "header.timestamp": (1 << 13, _headers(_short(b"k") + b"T" + MICROSECONDS)),
    "header.text": (1 << 13, _headers(_short(b"k") + b"S" + struct.pack(">I", 2) + b"\xff\xfe")),
    "header.double": (1 << 13, _headers(_short(b"k") + b"d" + struct.pack(">d", 1e300))),
    "header.decimal": (1 << 13, _headers(_short(b"k") + b"D" + b"\x02" + b"\xff" * 4)),
    "header.nested": (1 << 13, _nested(5_000)),
    "header.large": (1 << 13, _headers(_short(b"k") + b"S" + struct.pack(">I", 130_900) + b"x" * 130_900)),
}


@pytest.mark.parametrize("kind", ODD)
async def test_a_message_with_an_odd_property_is_handled_dies_and_is_replayed_like_any_other(
    server: RabbitServer, foreign: Foreign, kind: str
) -> None:
    queue = Queue(name=f"odd.{kind}", event=_event(f"odd.{kind}"), role="email")

    async def then(count: int) -> None:
        if count == 1:
            raise Undeliverable("no luck")

    seen = Seen(then)
    async with _opened(server, queue) as events, _consuming(events, queue, seen):
        await foreign.put_raw(queue.name, b'{"number":1}', *ODD[kind])
        await _until(lambda: foreign.depth(f"{queue.name}.dead"))
        await events.publish([_sent(queue, 2)])
        await _until(lambda: seen.numbers == [1, 2])
        (letter,) = await events.dead_letters()
        assert (letter.reason, letter.attempts) == ("Undeliverable: no luck", 1)
        assert await events.replay(queue.name, letter.event_id)
        await _until(lambda: seen.numbers == [1, 2, 1])
        assert await foreign.consumers(queue.name) == 1
        await _until(lambda: _waiting(foreign, queue, 0))


async def test_odd_messages_among_the_dead_letters_are_listed_and_dropped(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    for flags, raw in ODD.values():
        await foreign.put_raw(f"{queue.name}.dead", b"{}", flags, raw)
    await _until(lambda: _dead(foreign, queue, len(ODD)))
    letters = await events.dead_letters()
    assert len(letters) == len(ODD)
    assert all([await events.drop(queue.name, letter.event_id) for letter in letters])
    assert await events.dead_letters() == []


def test_properties_cut_off_anywhere_are_read_as_far_as_they_go() -> None:
    headers: Any = {"one": 1, "two": [{"three": "3"}]}
    whole = Basic.Properties(content_type="text/plain", headers=headers, message_id="m", timestamp=MOMENT)
    flags, raw = struct.unpack(">H", whole.marshal()[:2])[0], whole.marshal()[2:]
    for end in range(len(raw) + 1):
        got = Basic.Properties()
        properties.read(got, flags, raw[:end])
        assert (got == whole) is (end == len(raw))


def test_the_client_reads_properties_where_we_replace_it() -> None:
    """After an upgrade of the client this says whether ``properties.install`` still does anything."""
    properties.install()
    header = ContentHeader()
    header.unmarshal(struct.pack(">HxxQH", 60, 0, 1 << 6) + MICROSECONDS)
    assert header.properties.timestamp is None
    header.unmarshal(struct.pack(">HxxQH", 60, 0, 1 << 12) + b"\x07")  # an older server refuses this one
    assert header.properties.delivery_mode is None
    assert aiormq.spec.Basic.Properties is Basic.Properties


async def test_a_message_id_that_is_no_uuid_gives_the_same_event_id_each_time(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    seen = Seen()
    async with _consuming(events, queue, seen):
        for message_id in ("order 12", "order 12", "order 13"):
            await foreign.put(queue.name, b'{"number":1}', message_id=message_id)
        await _until(lambda: len(seen.got) == 3)
    first, second, other = (envelope.id for _, envelope in seen.got)
    assert first == second != other
    assert first.version == 5


async def test_an_unroutable_event_is_reported_and_its_neighbours_arrive(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    lost = Envelope(id=new_id(), type="nobody.listens", body=b"{}", occurred_at=MOMENT)
    first, second, third = await events.publish([_sent(queue), lost, _sent(queue)])
    assert (first, third) == (None, None)
    assert isinstance(second, Unroutable)
    assert "nobody.listens" in str(second)
    assert await foreign.depth(queue.name) == 2


async def test_an_event_that_cannot_be_written_is_reported(events: RabbitEvents, queue: Queue) -> None:
    good, bad = await events.publish([_sent(queue), _sent(queue, correlation_id="x" * 300)])
    assert good is None
    assert "255 bytes" in str(bad)


async def test_a_failed_event_waits_5_s_and_counts_its_attempts(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    seen = Seen(_raising(ValueError("no luck \ud800")))
    sent = _sent(queue, subject="order-1")
    async with _consuming(events, queue, seen):
        await events.publish([sent])
        await _until(lambda: foreign.depth(f"{queue.name}.retry.5s"))
        await asyncio.sleep(0.5)
        assert len(seen.got) == 1
        await _until(lambda: foreign.depth(f"{queue.name}.retry.30s"), within_s=8)

    assert 4.9 < seen.at[1] - seen.at[0] < 6.5
    assert seen.got[1] == seen.got[0]
    waiting = await foreign.take(f"{queue.name}.retry.30s")
    assert waiting.headers == {"subject": "order-1", "x-attempt": 2, "x-reason": "ValueError: no luck ?"}
    assert waiting.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert waiting.message_id == str(sent.id)


@pytest.mark.parametrize(
    ("attempt", "target"),
    [(0, ".retry.5s"), (1, ".retry.30s"), (2, ".retry.5m"), (3, ".dead"), ("x", ".retry.5s")],
)
async def test_each_failure_goes_one_step_further(
    server: RabbitServer, foreign: Foreign, attempt: object, target: str
) -> None:
    queue = Queue(name=f"step.{attempt}", event=_event(f"step.{attempt}"), role="email")
    async with _opened(server, queue) as events, _consuming(events, queue, Seen(_raising(ValueError()))):
        await foreign.put(queue.name, b'{"number":1}', headers={"x-attempt": attempt})
        await _until(lambda: foreign.depth(queue.name + target))


async def test_a_dead_letter_is_listed_stays_and_is_replayed_once(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    async def then(count: int) -> None:
        if count <= 2:
            raise Undeliverable("this address does not exist")

    seen = Seen(then)
    sent, other = _sent(queue, 1, subject="order-1", correlation_id="request-1"), _sent(queue, 2)
    async with _consuming(events, queue, seen):
        await events.publish([sent, other])
        await _until(lambda: _dead(foreign, queue, 2))
        letters = await events.dead_letters()
        assert letters == await events.dead_letters()
        assert {letter.event_id for letter in letters} == {str(sent.id), str(other.id)}
        letter = next(letter for letter in letters if letter.event_id == str(sent.id))
        assert abs((datetime.now(UTC) - letter.died_at).total_seconds()) < 5
        assert msgspec.structs.replace(letter, died_at=MOMENT) == DeadLetter(
            queue=queue.name,
            event_id=str(sent.id),
            type=queue.event.type,
            subject="order-1",
            attempts=1,
            reason="Undeliverable: this address does not exist",
            died_at=MOMENT,
            body='{"number":1}',
        )

        assert await events.replay(queue.name, str(sent.id))
        await _until(lambda: len(seen.got) == 3)
        assert seen.got[2] == (queue.event(number=1), sent)
        assert not await events.replay(queue.name, str(sent.id))
        assert not await events.replay("no.such.queue", str(other.id))
    assert await foreign.depth(f"{queue.name}.dead") == 1
    assert await foreign.depth(queue.name) == 0


async def _dead(foreign: Foreign, queue: Queue, count: int) -> bool:
    return await foreign.depth(f"{queue.name}.dead") == count


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("syntax", b"{"),
        ("empty", b""),
        ("utf8", b"\xff\xfe"),
        ("type", b'{"number": "one"}'),
        ("deep", b'{"number":' + b"[" * 100_000),
        ("large", b'{"number":1,"name":"' + b"x" * 256 * 1024 + b'"}'),
    ],
)
async def test_a_body_that_cannot_be_read_is_a_dead_letter_at_once(
    server: RabbitServer, foreign: Foreign, kind: str, body: bytes
) -> None:
    queue = Queue(name=f"poison.{kind}", event=_event(f"poison.{kind}"), role="email")
    seen = Seen()
    async with _opened(server, queue) as events, _consuming(events, queue, seen):
        await foreign.put(queue.name, body)
        await foreign.put(queue.name, b'{"number":2}')
        await _until(lambda: foreign.depth(f"{queue.name}.dead"))
        (letter,) = await events.dead_letters()
        await _until(lambda: seen.numbers == [2])
    assert letter.reason.startswith("Undeliverable: the body ")
    assert letter.attempts == 1
    assert (await foreign.take(f"{queue.name}.dead")).body == body


async def test_while_what_the_handler_needs_is_away_events_wait_and_burn_no_attempt(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    away = True

    async def then(_: int) -> None:
        if away:
            raise Unavailable("the database is away")

    seen = Seen(then)
    async with _consuming(events, queue, seen):
        await events.publish([_sent(queue)])
        await _until(lambda: len(seen.got) == 2)
        away = False
        await _until(lambda: len(seen.got) == 3)
    assert seen.at[1] - seen.at[0] > 0.39
    assert seen.at[2] - seen.at[1] > 0.79
    assert await foreign.depth(queue.name) == 0
    assert await foreign.depth(f"{queue.name}.retry.5s") == 0
    assert await events.dead_letters() == []


async def test_an_event_that_waits_does_not_hold_up_the_end_and_is_not_lost(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    seen = Seen(_raising(Unavailable("the database is away")))
    async with _consuming(events, queue, seen):
        await events.publish([_sent(queue)])
        await _until(lambda: seen.got)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    await _until(lambda: foreign.depth(queue.name))


async def test_a_retry_queue_that_somebody_deleted_is_made_again(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    seen = Seen(_raising(ValueError()))
    async with _consuming(events, queue, seen):
        await events.publish([_sent(queue)])
        await _until(lambda: foreign.depth(f"{queue.name}.retry.5s"))
        await foreign.delete(f"{queue.name}.retry.5s")
        await events.publish([_sent(queue)])
        await _until(lambda: foreign.depth(f"{queue.name}.retry.5s"))


async def test_an_event_that_cannot_be_put_aside_comes_again_in_a_while(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    """The retry queue is there in another form: it can neither be made again nor take a message."""
    name = f"{queue.name}.retry.5s"
    seen = Seen(_raising(ValueError()))
    async with _consuming(events, queue, seen):
        await events.publish([_sent(queue)])
        await _until(lambda: foreign.depth(name))
        await foreign.delete(name)
        async with foreign.connection.channel() as channel:
            full = {"x-max-length": 0, "x-overflow": "reject-publish"}
            await channel.declare_queue(name, durable=True, arguments=full)
        await events.publish([_sent(queue)])
        await _until(lambda: len(seen.got) == 3, within_s=8)
        assert 3.9 < seen.at[2] - seen.at[1] < 7
    await foreign.delete(name)


async def test_a_queue_deleted_while_only_publishers_run_is_made_again(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    await foreign.delete(queue.name)
    assert await events.publish([_sent(queue), _sent(queue)]) == [None, None]
    assert await foreign.depth(queue.name) == 2


async def test_a_queue_deleted_under_its_consumer_is_made_and_consumed_again(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    seen = Seen()
    async with _consuming(events, queue, seen):
        await events.publish([_sent(queue, 1)])
        await _until(lambda: seen.numbers == [1])
        started = time.monotonic()
        await foreign.delete(queue.name)
        await events.publish([_sent(queue, 2)])
        await _until(lambda: seen.numbers == [1, 2])
        assert time.monotonic() - started < 2.5


async def _consumed_by(foreign: Foreign, queue: Queue, count: int) -> bool:
    return await foreign.consumers(queue.name) == count


async def test_two_consumers_share_a_queue(
    events: RabbitEvents, queue: Queue, server: RabbitServer, foreign: Foreign
) -> None:
    async def slow(_: int) -> None:
        await asyncio.sleep(0.05)

    one, other = Seen(slow), Seen(slow)
    async with (
        _opened(server, queue, prefetch=2) as first,
        _opened(server, queue, prefetch=2) as second,
        _consuming(first, queue, one),
        _consuming(second, queue, other),
    ):
        await _until(lambda: _consumed_by(foreign, queue, 2))
        await events.publish([_sent(queue, number) for number in range(40)])
        await _until(lambda: len(one.got) + len(other.got) == 40)
    assert sorted(one.numbers + other.numbers) == list(range(40))
    assert min(len(one.got), len(other.got)) > 5


async def test_no_more_than_prefetch_are_in_hand(server: RabbitServer, queue: Queue) -> None:
    busy = most = 0

    async def then(_: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.05)
        busy -= 1

    seen = Seen(then)
    async with _opened(server, queue, prefetch=3) as events, _consuming(events, queue, seen):
        await events.publish([_sent(queue, number) for number in range(12)])
        await _until(lambda: len(seen.got) == 12)
    assert most == 3


async def test_when_cancelled_the_handlers_in_hand_finish_and_the_rest_stays(
    server: RabbitServer, queue: Queue, foreign: Foreign
) -> None:
    finished: list[int] = []
    may_finish = asyncio.Event()

    async def then(count: int) -> None:
        await may_finish.wait()
        finished.append(count)

    seen = Seen(then)
    async with _opened(server, queue, prefetch=2) as events:
        async with _consuming(events, queue, seen) as consuming:
            await events.publish([_sent(queue, number) for number in range(5)])
            await _until(lambda: len(seen.got) == 2)
            consuming.cancel()
            asyncio.get_running_loop().call_later(0.1, may_finish.set)
        assert finished == [1, 2]
        assert len(seen.got) == 2
        await _until(lambda: _waiting(foreign, queue, 3))


async def _waiting(foreign: Foreign, queue: Queue, count: int) -> bool:
    return await foreign.depth(queue.name) == count


async def test_a_queue_of_another_type_ends_the_start_with_one_line_that_names_it(
    server: RabbitServer, queue: Queue, foreign: Foreign
) -> None:
    async with foreign.connection.channel() as channel:
        await channel.declare_queue(queue.name, durable=True, arguments={"x-queue-type": "quorum"})
    with pytest.raises(StartupError) as caught:
        async with _opened(server, queue):
            raise AssertionError("it opened")
    line = str(caught.value)
    assert f"queue {queue.name} exists with other properties" in line
    assert "RABBITMQ_QUEUE_TYPE" in line
    assert "Delete it" in line
    assert "\n" not in line


async def test_a_queue_with_an_argument_is_not_told_to_have_another_type(
    server: RabbitServer, queue: Queue, foreign: Foreign
) -> None:
    async with foreign.connection.channel() as channel:
        await channel.declare_queue(queue.name, durable=True, arguments={"x-message-ttl": 60_000})
    with pytest.raises(StartupError, match=r"x-message-ttl.*Delete it when it is empty.*policy") as caught:
        async with _opened(server, queue):
            raise AssertionError("it opened")
    assert "RABBITMQ_QUEUE_TYPE" not in str(caught.value)


async def test_quorum_queues_retry_and_die_too(server: RabbitServer, queue: Queue, foreign: Foreign) -> None:
    events = RabbitEvents(server.url, queue_type="quorum", startup_wait_s=10)
    await events.open([queue])
    try:
        with pytest.raises(StartupError, match="RABBITMQ_QUEUE_TYPE"):
            await RabbitEvents(server.url, startup_wait_s=1).open([queue])
        seen = Seen(_raising(Undeliverable("no")))
        async with _consuming(events, queue, seen):
            assert await events.publish([_sent(queue)]) == [None]
            await _until(lambda: foreign.depth(f"{queue.name}.dead"))
        for _ in range(25):  # more looks than the delivery limit that a server sets by default
            assert len(await events.dead_letters()) == 1
    finally:
        await events.close()


async def test_a_server_that_is_not_there_ends_the_start_without_its_password(queue: Queue) -> None:
    events = RabbitEvents("amqp://user:verysecret@127.0.0.1:9/", startup_wait_s=1)
    started = time.monotonic()
    with pytest.raises(
        StartupError, match=r"RabbitMQ at 127\.0\.0\.1:9: .*\w[')]*\. Start it.*RABBITMQ_URL"
    ) as caught:
        await events.open([queue])
    assert 0.9 < time.monotonic() - started < 3
    assert "verysecret" not in str(caught.value)


async def test_a_wrong_password_ends_the_start_at_once(server: RabbitServer, queue: Queue) -> None:
    events = RabbitEvents(server.url.replace(":tests@", ":verysecret@"), startup_wait_s=30)
    started = time.monotonic()
    with pytest.raises(StartupError, match=r"refused the connection: .*\. Correct RABBITMQ_URL") as caught:
        await events.open([queue])
    assert time.monotonic() - started < 5
    assert "verysecret" not in str(caught.value)


async def test_an_unknown_virtual_host_ends_the_start_at_once(server: RabbitServer, queue: Queue) -> None:
    events = RabbitEvents(f"{server.url.rpartition('/')[0]}/nope", startup_wait_s=30)
    started = time.monotonic()
    with pytest.raises(
        StartupError, match=r"the virtual host 'nope' does not exist or is not open to this user\."
    ):
        await events.open([queue])
    assert time.monotonic() - started < 5


async def test_the_check_names_the_server_and_its_version(events: RabbitEvents, server: RabbitServer) -> None:
    assert (await events.check()).startswith(f"RabbitMQ at 127.0.0.1:{server.port}, version 3.")


async def test_after_a_kill_and_restart_nothing_is_lost_and_all_goes_on(
    events: RabbitEvents, queue: Queue, server: RabbitServer
) -> None:
    blocked = asyncio.Event()

    async def then(_: int) -> None:
        await blocked.wait()

    seen = Seen(then)
    async with _consuming(events, queue, seen):
        assert await events.publish([_sent(queue, number) for number in range(100)]) == [None] * 100
        await _until(lambda: len(seen.got) == 20)
        server.kill()
        blocked.set()
        started = time.monotonic()
        (error,) = await events.publish([_sent(queue, 100)])
        assert isinstance(error, Unavailable)
        assert time.monotonic() - started < 6
        with pytest.raises(Unavailable, match=f":{server.port}"):
            await events.check()

        await asyncio.to_thread(server.restart)
        accepts = time.monotonic()
        await _until(lambda: _published(events, _sent(queue, 101)))
        assert time.monotonic() - accepts < 3
        await _until(lambda: set(range(100)) | {101} <= set(seen.numbers), within_s=10)
        assert time.monotonic() - accepts < 3
        await events.check()


async def _published(events: RabbitEvents, sent: Envelope) -> bool:
    return await events.publish([sent]) == [None]


async def test_a_frozen_server_fails_the_batch_in_time_and_loses_nothing_unseen(
    events: RabbitEvents, queue: Queue, server: RabbitServer
) -> None:
    seen = Seen()
    batch = [_sent(queue, number) for number in range(100)]
    large = [_sent(queue, 1, traceparent="x" * 60_000) for _ in range(60)]  # more than the socket takes
    async with _consuming(events, queue, seen):
        await events.publish([_sent(queue, 1000)])
        await _until(lambda: seen.got)
        server.freeze()
        try:
            started = time.monotonic()
            (errors, more), check = await asyncio.gather(
                asyncio.gather(events.publish(batch), events.publish(large)),
                asyncio.gather(events.check(), return_exceptions=True),
            )
            assert time.monotonic() - started < 6
            assert all(isinstance(error, Unavailable) for error in [*errors, *more])
            assert isinstance(check[0], Unavailable)
        finally:
            server.thaw()
        await _until(lambda: _published(events, _sent(queue, 1001)))
        assert await events.publish(batch) == [None] * 100
        await _until(lambda: set(range(100)) | {1000, 1001} <= set(seen.numbers))


async def test_a_memory_alarm_stops_publishers_in_time_and_no_consumer(
    events: RabbitEvents, queue: Queue, server: RabbitServer, foreign: Foreign
) -> None:
    seen = Seen()
    await events.publish([_sent(queue, number) for number in range(50)])
    await asyncio.to_thread(server.rabbitmqctl, "set_vm_memory_high_watermark", "absolute", "1")
    try:
        started = time.monotonic()
        assert all(isinstance(error, Unavailable) for error in await events.publish([_sent(queue, 50)]))
        assert time.monotonic() - started < 6
        with pytest.raises(Unavailable):
            await events.check()
        async with _consuming(events, queue, seen):
            await _until(lambda: len(seen.got) >= 50)
        await _until(lambda: _waiting(foreign, queue, 0))
    finally:
        await asyncio.to_thread(server.rabbitmqctl, "set_vm_memory_high_watermark", "absolute", "512MiB")
    await _until(lambda: _published(events, _sent(queue, 51)))


def test_a_refusal_is_told_from_an_unknown_outcome() -> None:
    assert issubclass(Unroutable, Refused)
    assert not issubclass(Refused, Unavailable)
