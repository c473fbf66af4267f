"""Events over a real RabbitMQ: what travels, what comes back, and what a dead, frozen or full server does."""

import asyncio
import logging
import struct
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aio_pika
import aiormq
import msgspec
import pytest
from broker_support import MOMENT, Seen, consuming, event_type, raising, sent_on, told_apart
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from rabbit_support import Foreign, opened

from purveyor.kit import log, tracing
from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import DeadLetter, Queue, Undeliverable
from purveyor.kit.ids import new_id
from purveyor.kit.retry import RetrySchedule
from purveyor.transports import handling
from purveyor.transports.rabbitmq import properties
from purveyor.transports.rabbitmq.events import RabbitEvents
from purveyor.transports.rabbitmq.link import Refused, Unroutable
from purveyor_drill.servers.rabbitmq import RabbitServer
from waiting import PATIENCE_S, until


async def test_an_event_arrives_with_all_its_properties(events: RabbitEvents, queue: Queue) -> None:
    sent = sent_on(
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
    async with consuming(events, queue, handler):
        assert await events.publish([sent]) == [None]
        await until(lambda: seen.got)

    assert seen.got == [(queue.event(number=1), sent)]
    assert during == [("request-1", sent.traceparent)]


async def test_a_foreign_consumer_of_the_plain_durable_queue_sees_the_contract(
    server: RabbitServer, foreign: Foreign
) -> None:
    queue = Queue(name="order.told", event=event_type("order.told"), role="email")
    sent = sent_on(queue, subject="order-1", sequence=3, correlation_id="request-1", currency="EUR")
    async with foreign.connection.channel() as channel, opened(server.url, queue) as events:
        await channel.declare_queue(queue.name, durable=True)
        assert await events.publish([sent, sent_on(queue, 2)]) == [None, None]
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
    queue = Queue(name=kind, event=event_type(kind), role="email")
    sent, seen = sent_on(queue, subject="7"), Seen()
    async with opened(server.url, queue) as events:
        await events.publish([sent, sent])
        assert (await foreign.take(queue.name)).headers == {header: "7"}
        async with consuming(events, queue, seen):
            await until(lambda: seen.got)
    assert seen.got[0][1] == sent


async def test_a_foreign_body_without_any_property_is_handled(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    async def then(_: int) -> None:
        raise Undeliverable("no")

    seen = Seen(then)
    before = datetime.now(UTC)
    async with consuming(events, queue, seen):
        await foreign.put_raw(queue.name, b'{"number": 7, "more": "ignored"}')
        await until(lambda: foreign.depth(f"{queue.name}.dead"))

    event, envelope = seen.got[0]
    assert event.number == 7
    assert (envelope.id, envelope.type, envelope.subject) == (UUID(int=0), queue.event.type, "")
    assert (envelope.sequence, envelope.correlation_id, envelope.traceparent) == (0, "", "")
    assert envelope.occurred_at >= before.replace(microsecond=0)


async def test_dead_letters_without_an_id_are_told_apart(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    await told_apart(events, queue, lambda: foreign.put_raw(queue.name, b'{"number":1}'))


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
    queue = Queue(name=f"odd.{kind}", event=event_type(f"odd.{kind}"), role="email")

    async def then(count: int) -> None:
        if count == 1:
            raise Undeliverable("no luck")

    seen = Seen(then)
    async with opened(server.url, queue) as events, consuming(events, queue, seen):
        await foreign.put_raw(queue.name, b'{"number":1}', *ODD[kind])
        await until(lambda: foreign.depth(f"{queue.name}.dead"))
        await events.publish([sent_on(queue, 2)])
        await until(lambda: seen.numbers == [1, 2])
        (letter,) = await events.dead_letters()
        assert (letter.reason, letter.attempts) == ("Undeliverable: no luck", 1)
        assert await events.replay(queue.name, letter.event_id)
        await until(lambda: seen.numbers == [1, 2, 1])
        assert await foreign.consumers(queue.name) == 1
        await until(lambda: _waiting(foreign, queue, 0))


async def test_odd_messages_among_the_dead_letters_are_listed_and_dropped(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    for flags, raw in ODD.values():
        await foreign.put_raw(f"{queue.name}.dead", b"{}", flags, raw)
    await until(lambda: _dead(foreign, queue, len(ODD)))
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
    async with consuming(events, queue, seen):
        for message_id in ("order 12", "order 12", "order 13"):
            await foreign.put(queue.name, b'{"number":1}', message_id=message_id)
        await until(lambda: len(seen.got) == 3)
    first, second, other = (envelope.id for _, envelope in seen.got)
    assert first == second != other
    assert first.version == 5


async def test_an_unroutable_event_is_reported_and_its_neighbours_arrive(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    lost = Envelope(id=new_id(), type="nobody.listens", body=b"{}", occurred_at=MOMENT)
    first, second, third = await events.publish([sent_on(queue), lost, sent_on(queue)])
    assert (first, third) == (None, None)
    assert isinstance(second, Unroutable)
    assert "nobody.listens" in str(second)
    assert await foreign.depth(queue.name) == 2


async def test_batch_is_written_within_a_few_rounds_of_a_busy_event_loop(
    events: RabbitEvents, queue: Queue, server: RabbitServer
) -> None:
    """FastStream's publish needs two rounds for each event. When it does not, it can replace ``Link._write``."""

    async def arrived(url: str) -> None:
        connection = await aio_pika.connect(url)
        async with connection:
            await until(lambda: _waiting(Foreign(connection), queue, 101))

    await events.publish([sent_on(queue)])
    publishing = asyncio.gather(events.publish([sent_on(queue) for _ in range(100)]))
    for _ in range(20):
        await asyncio.sleep(0)
    with ThreadPoolExecutor(1) as beside:  # while this loop stands still and writes nothing more
        beside.submit(asyncio.run, arrived(server.url)).result()
    assert await publishing == [[None] * 100]


async def test_an_event_that_cannot_be_written_is_reported(events: RabbitEvents, queue: Queue) -> None:
    good, bad = await events.publish([sent_on(queue), sent_on(queue, correlation_id="x" * 300)])
    assert good is None
    assert "255 bytes" in str(bad)


async def test_a_failed_event_waits_5_s_and_counts_its_attempts(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    seen = Seen(raising(ValueError("no luck \ud800")))
    sent = sent_on(queue, subject="order-1")
    async with consuming(events, queue, seen):
        await events.publish([sent])
        await until(lambda: foreign.depth(f"{queue.name}.retry.5s"))
        await asyncio.sleep(0.5)
        assert len(seen.got) == 1
        await until(lambda: foreign.depth(f"{queue.name}.retry.30s"))

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
    queue = Queue(name=f"step.{attempt}", event=event_type(f"step.{attempt}"), role="email")
    async with opened(server.url, queue) as events, consuming(events, queue, Seen(raising(ValueError()))):
        await foreign.put(queue.name, b'{"number":1}', headers={"x-attempt": attempt})
        await until(lambda: foreign.depth(queue.name + target))


async def test_a_dead_letter_is_listed_stays_and_is_replayed_once(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    async def then(count: int) -> None:
        if count <= 2:
            raise Undeliverable("this address does not exist")

    seen = Seen(then)
    sent, other = sent_on(queue, 1, subject="order-1", correlation_id="request-1"), sent_on(queue, 2)
    before = datetime.now(UTC).replace(microsecond=0)
    async with consuming(events, queue, seen):
        await events.publish([sent, other])
        await until(lambda: _dead(foreign, queue, 2))
        letters = await events.dead_letters()
        assert letters == await events.dead_letters()
        assert {letter.event_id for letter in letters} == {str(sent.id), str(other.id)}
        letter = next(letter for letter in letters if letter.event_id == str(sent.id))
        assert before <= letter.died_at <= datetime.now(UTC)
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
        await until(lambda: len(seen.got) == 3)
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
    queue = Queue(name=f"poison.{kind}", event=event_type(f"poison.{kind}"), role="email")
    seen = Seen()
    async with opened(server.url, queue) as events, consuming(events, queue, seen):
        await foreign.put(queue.name, body)
        await foreign.put(queue.name, b'{"number":2}')
        await until(lambda: foreign.depth(f"{queue.name}.dead"))
        (letter,) = await events.dead_letters()
        await until(lambda: seen.numbers == [2])
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
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue)])
        await until(lambda: len(seen.got) == 2)
        away = False
        await until(lambda: len(seen.got) == 3)
    assert await foreign.depth(queue.name) == 0
    assert await foreign.depth(f"{queue.name}.retry.5s") == 0
    assert await events.dead_letters() == []


async def test_an_event_that_waits_does_not_hold_up_the_end_and_is_not_lost(
    events: RabbitEvents, queue: Queue, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "_AWAY", RetrySchedule(10 * PATIENCE_S, 10 * PATIENCE_S, jitter=0))
    seen = Seen(raising(Unavailable("the database is away")))
    async with asyncio.timeout(PATIENCE_S), consuming(events, queue, seen):
        await events.publish([sent_on(queue)])
        await until(lambda: seen.got)
    await until(lambda: foreign.depth(queue.name))


async def test_a_retry_queue_that_somebody_deleted_is_made_again(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    seen = Seen(raising(ValueError()))
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue)])
        await until(lambda: foreign.depth(f"{queue.name}.retry.5s"))
        await foreign.delete(f"{queue.name}.retry.5s")
        await events.publish([sent_on(queue)])
        await until(lambda: foreign.depth(f"{queue.name}.retry.5s"))


async def test_an_event_that_cannot_be_put_aside_comes_again_in_a_while(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    """The retry queue is there in another form: it can neither be made again nor take a message."""
    name = f"{queue.name}.retry.5s"
    seen = Seen(raising(ValueError()))
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue)])
        await until(lambda: foreign.depth(name))
        await foreign.delete(name)
        async with foreign.connection.channel() as channel:
            full = {"x-queue-type": "classic", "x-max-length": 0, "x-overflow": "reject-publish"}
            await channel.declare_queue(name, durable=True, arguments=full)
        await events.publish([sent_on(queue)])
        await until(lambda: len(seen.got) == 3)
    await foreign.delete(name)


async def test_a_queue_deleted_while_only_publishers_run_is_made_again(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    await foreign.delete(queue.name)
    assert await events.publish([sent_on(queue), sent_on(queue)]) == [None, None]
    assert await foreign.depth(queue.name) == 2


async def test_a_queue_deleted_under_its_consumer_is_made_and_consumed_again(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    seen = Seen()
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue, 1)])
        await until(lambda: seen.numbers == [1])
        await foreign.delete(queue.name)
        await events.publish([sent_on(queue, 2)])
        await until(lambda: seen.numbers == [1, 2])


async def _consumed_by(foreign: Foreign, queue: Queue, count: int) -> bool:
    return await foreign.consumers(queue.name) == count


async def test_two_consumers_share_a_queue(
    events: RabbitEvents, queue: Queue, server: RabbitServer, foreign: Foreign
) -> None:
    async def slow(_: int) -> None:
        await asyncio.sleep(0.05)

    one, other = Seen(slow), Seen(slow)
    async with (
        opened(server.url, queue, prefetch=2) as first,
        opened(server.url, queue, prefetch=2) as second,
        consuming(first, queue, one),
        consuming(second, queue, other),
    ):
        await until(lambda: _consumed_by(foreign, queue, 2))
        await events.publish([sent_on(queue, number) for number in range(40)])
        await until(lambda: len(one.got) + len(other.got) == 40)
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
    async with opened(server.url, queue, prefetch=3) as events, consuming(events, queue, seen):
        await events.publish([sent_on(queue, number) for number in range(12)])
        await until(lambda: len(seen.got) == 12)
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
    async with opened(server.url, queue, prefetch=2) as events:
        async with consuming(events, queue, seen) as task:
            await events.publish([sent_on(queue, number) for number in range(5)])
            await until(lambda: len(seen.got) == 2)
            task.cancel()
            asyncio.get_running_loop().call_later(0.1, may_finish.set)
        assert finished == [1, 2]
        assert len(seen.got) == 2
        await until(lambda: _waiting(foreign, queue, 3))


async def _waiting(foreign: Foreign, queue: Queue, count: int) -> bool:
    return await foreign.depth(queue.name) == count


async def test_a_queue_of_another_type_ends_the_start_with_one_line_that_names_it(
    server: RabbitServer, queue: Queue, foreign: Foreign
) -> None:
    """A stream, so that it is another type under every virtual host's default."""
    async with foreign.connection.channel() as channel:
        await channel.declare_queue(queue.name, durable=True, arguments={"x-queue-type": "stream"})
    with pytest.raises(StartupError) as caught:
        async with opened(server.url, queue):
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
        async with opened(server.url, queue):
            raise AssertionError("it opened")
    assert "RABBITMQ_QUEUE_TYPE" not in str(caught.value)


async def test_quorum_queues_retry_and_die_too(server: RabbitServer, queue: Queue, foreign: Foreign) -> None:
    events = RabbitEvents(server.url, queue_type="quorum", startup_wait_s=10)
    await events.open([queue])
    try:
        with pytest.raises(StartupError, match="RABBITMQ_QUEUE_TYPE"):
            await RabbitEvents(server.url, startup_wait_s=1).open([queue])
        seen = Seen(raising(Undeliverable("no")))
        async with consuming(events, queue, seen):
            assert await events.publish([sent_on(queue)]) == [None]
            await until(lambda: foreign.depth(f"{queue.name}.dead"))
        for _ in range(25):  # more looks than the delivery limit that a server sets by default
            assert len(await events.dead_letters()) == 1
    finally:
        await events.close()


async def test_a_server_that_is_not_there_ends_the_start_without_its_password(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="aiormq")
    tries = []
    for wait_s in (0, 1):
        caplog.clear()
        events = RabbitEvents("amqp://user:verysecret@127.0.0.1:9/", startup_wait_s=wait_s)
        with pytest.raises(
            StartupError, match=r"RabbitMQ at 127\.0\.0\.1:9: .*\w[')]*\. Start the server.*RABBITMQ_URL"
        ) as caught:
            await events.open([queue])
        assert "verysecret" not in str(caught.value)
        tries.append(caplog.text.count("error when creating transport"))
    assert 0 < tries[0] < tries[1], "with time to wait it tried again"


async def test_a_wrong_password_ends_the_start_at_once(server: RabbitServer, queue: Queue) -> None:
    events = RabbitEvents(server.url.replace(":tests@", ":verysecret@"), startup_wait_s=10 * PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StartupError, match=r"refused the connection: .*\. Correct RABBITMQ_URL") as caught:
            await events.open([queue])
    assert "verysecret" not in str(caught.value)


async def test_an_unknown_virtual_host_ends_the_start_at_once(server: RabbitServer, queue: Queue) -> None:
    events = RabbitEvents(f"{server.url.rpartition('/')[0]}/nope", startup_wait_s=10 * PATIENCE_S)
    refused = r"the virtual host 'nope' does not exist or is not open to this user\."
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StartupError, match=refused):
            await events.open([queue])


async def test_the_check_names_the_server_and_its_version(events: RabbitEvents, server: RabbitServer) -> None:
    assert (await events.check()).startswith(f"RabbitMQ at 127.0.0.1:{server.port}, version ")


async def test_after_a_kill_and_restart_nothing_is_lost_and_all_goes_on(
    events: RabbitEvents, queue: Queue, server: RabbitServer
) -> None:
    blocked = asyncio.Event()

    async def then(_: int) -> None:
        await blocked.wait()

    seen = Seen(then)
    async with consuming(events, queue, seen):
        assert await events.publish([sent_on(queue, number) for number in range(100)]) == [None] * 100
        await until(lambda: len(seen.got) == 20)
        server.kill()
        blocked.set()
        (error,) = await events.publish([sent_on(queue, 100)])
        assert isinstance(error, Unavailable)
        with pytest.raises(Unavailable, match=f":{server.port}"):
            await events.check()

        await asyncio.to_thread(server.restart)
        await until(lambda: _published(events, sent_on(queue, 101)))
        await until(lambda: set(range(100)) | {101} <= set(seen.numbers))
        await events.check()


async def _published(events: RabbitEvents, sent: Envelope) -> bool:
    return await events.publish([sent]) == [None]


async def test_a_frozen_server_fails_the_batch_in_time_and_loses_nothing_unseen(
    events: RabbitEvents, queue: Queue, server: RabbitServer
) -> None:
    seen = Seen()
    batch = [sent_on(queue, number) for number in range(100)]
    large = [sent_on(queue, 1, traceparent="x" * 60_000) for _ in range(60)]  # more than the socket takes
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue, 1000)])
        await until(lambda: seen.got)
        server.freeze()
        try:
            (errors, more), check = await asyncio.gather(
                asyncio.gather(events.publish(batch), events.publish(large)),
                asyncio.gather(events.check(), return_exceptions=True),
            )
            assert all(isinstance(error, Unavailable) for error in [*errors, *more])
            assert isinstance(check[0], Unavailable)
        finally:
            server.thaw()
        await until(lambda: _published(events, sent_on(queue, 1001)))
        assert await events.publish(batch) == [None] * 100
        await until(lambda: set(range(100)) | {1000, 1001} <= set(seen.numbers))


async def test_a_memory_alarm_stops_publishers_in_time_and_no_consumer(
    events: RabbitEvents, queue: Queue, server: RabbitServer, foreign: Foreign
) -> None:
    seen = Seen()
    await events.publish([sent_on(queue, number) for number in range(50)])
    await asyncio.to_thread(server.rabbitmqctl, "set_vm_memory_high_watermark", "absolute", "1")
    try:
        assert all(isinstance(error, Unavailable) for error in await events.publish([sent_on(queue, 50)]))
        with pytest.raises(Unavailable):
            await events.check()
        async with consuming(events, queue, seen):
            await until(lambda: len(seen.got) >= 50)
        await until(lambda: _waiting(foreign, queue, 0))
    finally:
        await asyncio.to_thread(server.rabbitmqctl, "set_vm_memory_high_watermark", "absolute", "512MiB")
    await until(lambda: _published(events, sent_on(queue, 51)))


def test_a_refusal_is_told_from_an_unknown_outcome() -> None:
    assert issubclass(Unroutable, Refused)
    assert not issubclass(Refused, Unavailable)
