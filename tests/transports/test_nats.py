"""Events over a real NATS JetStream: what travels, and what a dead, frozen, full or forgetful server does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import ClassVar

import msgspec
import nats
import pytest
from broker_support import MOMENT, Seen, consuming, event_type, raising, sent_on, told_apart
from nats.aio.client import Client
from nats.js import JetStreamContext

from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.transport import Queue, Undeliverable
from purveyor.kit.ids import new_id
from purveyor.transports.nats import streams
from purveyor.transports.nats.events import NatsEvents
from purveyor.transports.nats.link import NoStream, Refused, servers_of
from purveyor_drill.servers.certificate import make_certificate
from purveyor_drill.servers.nats import NatsServer
from waiting import PATIENCE_S, until

accounts = count(1)


class LazyNatsServer(NatsServer):
    """With the server's default: it syncs every two minutes."""

    sync_interval: ClassVar[str] = "2m"


class TlsNatsServer(NatsServer):
    """Takes encrypted connections only."""

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    def configure(self, password: str = "tests") -> None:
        super().configure(password)
        key = self.folder / "key.pem"
        make_certificate(self.certificate, key, self._environment())
        with self._configuration.open("a") as configuration:
            configuration.write(f'tls {{cert_file: "{self.certificate}", key_file: "{key}"}}\n')


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    if reason := NatsServer.available():
        pytest.skip(f"no NATS: {reason}")
    with NatsServer() as server:
        if not server.ours:
            pytest.skip(f"{server.variable} is set: not ours to kill")
        yield server


@pytest.fixture
def url(server: NatsServer) -> str:
    """An account that no other test uses."""
    return server.account_url(next(accounts))


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Queue:
    name = request.node.originalname.removeprefix("test_")
    return Queue(name=name, event=event_type(name), role="email")


@asynccontextmanager
async def opened(url: str, *queues: Queue, prefetch: int = 20, monitor_url: str = "") -> AsyncIterator[NatsEvents]:
    events = NatsEvents(url, startup_wait_s=10, prefetch=prefetch, monitor_url=monitor_url)
    try:
        await events.open(queues)
        yield events
    finally:
        await events.close()


@pytest.fixture
async def events(url: str, queue: Queue) -> AsyncIterator[NatsEvents]:
    async with opened(url, queue) as events:
        yield events


@dataclass
class Foreign:
    """Another service with a client of its own."""

    client: Client
    jetstream: JetStreamContext

    async def waiting(self, stream: str = "purveyor") -> int:
        return int((await self.jetstream.stream_info(stream)).state.messages)

    async def put(self, queue: Queue, body: bytes, **headers: str) -> None:
        await self.jetstream.publish(f"purveyor.events.{queue.name}", body, headers=headers or None)

    async def limit(self, stream: str, most: int) -> None:
        config = (await self.jetstream.stream_info(stream)).config
        await self.jetstream.update_stream(config.evolve(max_msgs=most))


@pytest.fixture
async def foreign(url: str) -> AsyncIterator[Foreign]:
    client = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0)
    yield Foreign(client, client.jetstream(timeout=PATIENCE_S))
    await client.close()


# --- what travels


async def test_foreign_consumer_and_publisher_see_plain_subjects_and_headers(
    events: NatsEvents, queue: Queue, foreign: Foreign
) -> None:
    listening = await foreign.client.subscribe(f"purveyor.events.{queue.name}")
    await foreign.client.flush()
    sent = sent_on(queue, subject="order-1", sequence=3, correlation_id="request-1", currency="EUR")
    assert await events.publish([sent]) == [None]
    message = await listening.next_msg(timeout=PATIENCE_S)
    assert message.data == sent.body
    assert message.headers == {
        "Nats-Msg-Id": f"{sent.id}.{queue.name}",
        "Nats-Expected-Stream": "purveyor",
        "message_id": str(sent.id),
        "type": queue.event.type,
        "timestamp": MOMENT.isoformat(),
        "content-type": "application/json",
        "correlation_id": "request-1",
        "subject": "order-1",
        "sequence": "3",
        "currency": "EUR",
    }
    seen = Seen()
    async with consuming(events, queue, seen):
        await foreign.put(queue, b'{"number": 2}', **{"Nats-Msg-Id": str(sent.id)})
        await until(lambda: len(seen.got) == 2)
    assert seen.got[0] == (queue.event(number=1), sent)
    assert seen.got[1][1].id == sent.id


async def test_dead_letters_of_foreign_messages_without_an_id_are_told_apart(
    events: NatsEvents, queue: Queue, foreign: Foreign
) -> None:
    reason = "Straße\r\nx-attempt: 9 \ud800"
    body = b'{"number":1, "more": "ignored"}'
    letters = await told_apart(events, queue, lambda: foreign.put(queue, body), reason)
    assert {letter.reason for letter in letters} == {"Undeliverable: Straße  x-attempt: 9 ?"}
    assert {letter.attempts for letter in letters} == {1}


async def _dead(foreign: Foreign, number: int) -> bool:
    return await foreign.waiting("purveyor-dead") == number


@pytest.mark.parametrize(
    "raw",
    [b"message_id: \xff\xfe", b"timestamp: 2026-13-99", b"timestamp: 2026-11-22T12:00:00", b"sequence: -1", b"x"],
)
async def test_message_with_an_odd_header_is_handled(url: str, foreign: Foreign, raw: bytes) -> None:
    queue = Queue(name="odd", event=event_type("odd"), role="email")
    seen = Seen()
    async with opened(url, queue) as events, consuming(events, queue, seen):
        head = b"NATS/1.0\r\n" + raw + b"\r\n\r\n"
        body = b'{"number":1}'
        size = b"%d %d" % (len(head), len(head) + len(body))
        assert foreign.client._transport is not None
        foreign.client._transport.write(b"HPUB purveyor.events.odd " + size + b"\r\n" + head + body + b"\r\n")
        await until(lambda: seen.got)
        await until(lambda: _empty(foreign))


async def _empty(foreign: Foreign) -> bool:
    return await foreign.waiting() == 0


async def test_every_queue_of_an_event_type_gets_the_event(url: str) -> None:
    kind = event_type("shared")
    one, two = (Queue(name=name, event=kind, role="email") for name in ("shared", "shared.two"))
    seen, other = Seen(), Seen()
    async with opened(url, one, two) as events, consuming(events, one, seen), consuming(events, two, other):
        await events.publish([sent_on(one)])
        await until(lambda: seen.got and other.got)


async def test_event_that_no_queue_takes_is_reported_and_its_neighbors_arrive(
    events: NatsEvents, queue: Queue, foreign: Foreign
) -> None:
    lost = msgspec.structs.replace(sent_on(queue), type="nobody.listens")
    first, second, third = await events.publish([sent_on(queue), lost, sent_on(queue)])
    assert (first, third) == (None, None)
    assert isinstance(second, NoStream)
    assert await foreign.waiting() == 2


def test_the_servers_of_a_cluster_share_the_first_ones_credentials() -> None:
    assert servers_of("nats://u:p@a:1,b:2,tls://v:q@c") == ["nats://u:p@a:1", "nats://u:p@b:2", "tls://v:q@c"]


# --- duplicates


async def test_event_that_is_published_again_waits_once_and_is_replayed_after_it_was_handled(
    events: NatsEvents, queue: Queue, foreign: Foreign
) -> None:
    sent, seen = sent_on(queue), Seen()
    assert await events.publish([sent, sent]) == [None, None]
    assert await events.publish([sent]) == [None]
    assert await foreign.waiting() == 1
    async with consuming(events, queue, seen):
        await until(lambda: _empty(foreign))
        assert await events.publish([sent]) == [None]
        await until(lambda: len(seen.got) == 2)
    assert seen.got[0] == seen.got[1]


# --- retries and dead letters


async def test_failed_event_comes_again_on_the_schedule_until_it_is_a_dead_letter(
    events: NatsEvents, queue: Queue, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purveyor.transports.nats.events.PAUSES_S", (0.1, 0.1, 0.1))
    seen = Seen(raising(ValueError("no luck")))
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue)])
        await until(lambda: _dead(foreign, 1))
        (letter,) = await events.dead_letters()
        await until(lambda: _empty(foreign))
    assert (letter.attempts, letter.reason) == (4, "ValueError: no luck")
    assert len(seen.got) == 4


async def test_dead_letters_that_cannot_be_stored_come_again(
    events: NatsEvents, queue: Queue, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purveyor.transports.nats.consumer._REFUSED_S", 0.1)
    await foreign.limit("purveyor-dead", 1)
    seen = Seen(raising(Undeliverable("no")))
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue), sent_on(queue)])
        await until(lambda: len(seen.got) > 4)
        await foreign.limit("purveyor-dead", -1)
        await until(lambda: _dead(foreign, 2))
        await until(lambda: _empty(foreign))


# --- back-pressure, limits on what is in hand


async def test_full_stream_refuses_and_takes_events_again_when_there_is_room(
    events: NatsEvents, queue: Queue, foreign: Foreign
) -> None:
    await foreign.limit("purveyor", 2)
    first, second = sent_on(queue), sent_on(queue)
    assert await events.publish([first, second]) == [None, None]
    (refusal,) = await events.publish([third := sent_on(queue, 3)])
    assert isinstance(refusal, Refused)
    assert "maximum messages exceeded" in str(refusal)
    seen = Seen()
    async with consuming(events, queue, seen):
        await until(lambda: _empty(foreign))
        assert await events.publish([third]) == [None]
        await until(lambda: 3 in seen.numbers)


async def test_no_more_than_prefetch_are_in_hand_and_one_that_hangs_holds_up_nobody(
    url: str, queue: Queue, foreign: Foreign
) -> None:
    gate, most, busy = asyncio.Event(), 0, 0

    async def then(count: int) -> None:
        nonlocal most, busy
        busy += 1
        most = max(most, busy)
        await (gate.wait() if count == 1 else asyncio.sleep(0.02))
        busy -= 1

    seen = Seen(then)
    async with opened(url, queue, prefetch=3) as events, consuming(events, queue, seen):
        await events.publish([sent_on(queue, number) for number in range(12)])
        await until(lambda: len(seen.got) == 12)
        gate.set()
        await until(lambda: _empty(foreign))
    assert most == 3


async def test_event_in_hand_for_long_is_not_delivered_twice(
    url: str, queue: Queue, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ACK_WAIT_S", 1.0)
    monkeypatch.setattr("purveyor.transports.nats.consumer._BEAT_S", 0.2)
    gate = asyncio.Event()

    async def hold(_: int) -> None:
        await gate.wait()

    seen = Seen(hold)
    async with opened(url, queue) as events, consuming(events, queue, seen):
        await events.publish([sent_on(queue)])
        await until(lambda: seen.got)
        await asyncio.sleep(3)
        gate.set()
        await until(lambda: _empty(foreign))
    assert len(seen.got) == 1


async def test_when_cancelled_the_handlers_in_hand_finish_and_the_rest_stays(
    url: str, queue: Queue, foreign: Foreign
) -> None:
    gate = asyncio.Event()
    finished: list[int] = []

    async def hold(count: int) -> None:
        await gate.wait()
        finished.append(count)

    held = Seen(hold)
    async with opened(url, queue, prefetch=2) as events:
        async with consuming(events, queue, held) as task:
            await events.publish([sent_on(queue, number) for number in range(5)])
            await until(lambda: len(held.got) == 2)
            task.cancel()
            asyncio.get_running_loop().call_later(0.1, gate.set)
        assert finished == [1, 2]
        await until(lambda: _waiting(foreign, 3))
        seen = Seen()
        async with consuming(events, queue, seen):
            await until(lambda: _empty(foreign))
        assert len(seen.got) == 3


async def _waiting(foreign: Foreign, number: int) -> bool:
    return await foreign.waiting() == number


async def test_event_that_waits_for_a_server_goes_back_at_the_end(
    events: NatsEvents, queue: Queue, foreign: Foreign
) -> None:
    seen, other = Seen(raising(Unavailable("the ledger is away"))), Seen()
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue)])
        await until(lambda: seen.got)
    async with consuming(events, queue, other):
        await until(lambda: other.got)


# --- what somebody deletes


async def test_consumer_deleted_under_its_subscriber_is_made_again_and_said_so(
    events: NatsEvents, queue: Queue, foreign: Foreign, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue, 1)])
        await until(lambda: seen.numbers == [1])
        await foreign.jetstream.delete_consumer("purveyor", streams.consumer_name(queue.name))
        await events.publish([sent_on(queue, 2)])
        await until(lambda: seen.numbers == [1, 2])
        await until(lambda: _empty(foreign))
    assert "consumer was deleted on the server and is created again" in caplog.text


async def test_stream_deleted_while_we_run_is_made_again(
    events: NatsEvents, queue: Queue, foreign: Foreign
) -> None:
    seen = Seen()
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue, 1)])
        await until(lambda: seen.numbers == [1])
        await foreign.jetstream.delete_stream("purveyor")
        assert await events.publish([sent_on(queue, 2)]) == [None]
        await until(lambda: seen.numbers == [1, 2])


# --- a server that dies or is frozen


async def test_after_a_kill_nothing_confirmed_is_lost_and_the_consumer_goes_on(
    events: NatsEvents, queue: Queue, server: NatsServer
) -> None:
    seen, sent = Seen(), [sent_on(queue, number) for number in range(300)]
    async with consuming(events, queue, seen):
        publishing = [asyncio.create_task(events.publish([one])) for one in sent]
        await until(lambda: sum(task.done() for task in publishing) > 50)
        server.kill()
        outcomes = [outcome for (outcome,) in await asyncio.gather(*publishing)]
        assert {type(outcome) for outcome in outcomes} <= {type(None), Unavailable}
        await asyncio.to_thread(server.restart)
        failed = [one for one, outcome in zip(sent, outcomes, strict=True) if outcome]
        await until(lambda: _published(events, *failed))
        await until(lambda: set(seen.numbers) == set(range(300)))


async def _published(events: NatsEvents, *sent: object) -> bool:
    return set(await events.publish(list(sent))) <= {None}  # type: ignore[arg-type]


async def test_frozen_server_makes_outcomes_unknown_and_repeating_them_doubles_nothing(
    events: NatsEvents, queue: Queue, server: NatsServer, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purveyor.transports.nats.events.CONFIRM_S", 0.5)
    sent = [sent_on(queue, number) for number in range(5)]
    server.freeze()
    try:
        outcomes = await events.publish(sent)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 5
        with pytest.raises(Unavailable):
            await events.check()
    finally:
        server.thaw()
    await until(lambda: _published(events, *sent))
    assert await foreign.waiting() == 5


# --- start and check


async def test_events_travel_encrypted_to_a_server_with_a_trusted_certificate(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    with TlsNatsServer() as server:
        url = server.account_url(0).replace("nats://", "tls://")
        with pytest.raises(StartupError, match="certificate verify failed"):
            await NatsEvents(url, startup_wait_s=0).open([queue])

        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        async with opened(url, queue) as events, consuming(events, queue, seen):
            assert await events.publish([sent_on(queue, 7)]) == [None]
            await until(lambda: seen.numbers == [7])


async def test_start_without_a_server_names_it_and_the_setting(queue: Queue) -> None:
    with pytest.raises(StartupError, match=r"NATS at 127\.0\.0\.1:1.*NATS_URL") as error:
        await NatsEvents("nats://u:secret@127.0.0.1:1", startup_wait_s=0).open([queue])
    assert "secret" not in str(error.value)


async def test_start_with_a_wrong_password_says_so(url: str, queue: Queue) -> None:
    with pytest.raises(StartupError, match="refused the user or password"):
        await NatsEvents(url.replace(":tests@", ":wrong@"), startup_wait_s=10).open([queue])


async def test_connection_heals_after_the_password_was_wrong_for_a_while(
    events: NatsEvents, queue: Queue, server: NatsServer
) -> None:
    seen = Seen()
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue, 1)])
        await until(lambda: seen.numbers == [1])
        server.configure("changed")
        await asyncio.to_thread(server.restart)
        await until(lambda: _refused(events, queue))
        server.configure()
        await asyncio.to_thread(server.restart)
        await until(lambda: _published(events, sent_on(queue, 2)))
        await until(lambda: 2 in seen.numbers)


async def _refused(events: NatsEvents, queue: Queue) -> bool:
    (outcome,) = await events.publish([sent_on(queue, 1)])
    return "refused the user or password" in str(outcome)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"retention": "limits"}, "retention=limits"),
        ({"discard": "old"}, "discard=old"),
        ({"max_age": 600.0}, "max_age=600 s"),
        ({"subjects": ["purveyor.events.order.>"]}, "without the subject"),
        ({"name": "other"}, "another stream"),
    ],
)
async def test_start_with_a_stream_that_would_lose_events_is_refused(
    url: str, queue: Queue, foreign: Foreign, change: dict[str, object], said: str
) -> None:
    await foreign.jetstream.add_stream(streams.EVENTS.evolve(**change))
    with pytest.raises(StartupError, match=said):
        await NatsEvents(url, startup_wait_s=10).open([queue])


async def test_limits_and_the_like_of_a_stream_are_the_operators(url: str, queue: Queue, foreign: Foreign) -> None:
    await foreign.jetstream.add_stream(streams.EVENTS.evolve(max_msgs=7, duplicate_window=60.0))
    async with opened(url, queue) as events:
        assert await events.publish([sent_on(queue)]) == [None]
    assert (await foreign.jetstream.stream_info("purveyor")).config.max_msgs == 7


async def test_check_names_the_server_the_stream_its_consumers_and_that_it_syncs(
    url: str, queue: Queue, server: NatsServer, foreign: Foreign
) -> None:
    async with opened(url, queue, monitor_url=server.monitor_url) as events:
        await events.publish([sent_on(queue)])
        line = await events.check()
        assert f"NATS at 127.0.0.1:{server.port}, version 2." in line
        assert "stream purveyor (1 waiting), stream purveyor-dead (0), consumers none," in line
        assert line.endswith("every write is synced")
        assert ":tests@" not in line
        async with consuming(events, queue, Seen()):
            await until(lambda: _empty(foreign))
        assert f"consumers {streams.consumer_name(queue.name)}," in await events.check()


async def test_start_and_check_warn_of_a_server_that_does_not_sync_every_write(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    with LazyNatsServer() as lazy:
        async with opened(lazy.url, queue, monitor_url=lazy.monitor_url) as events:
            warning = "NATS syncs its files every 120 s, so a power failure loses confirmed events"
            assert warning in await events.check()
            async with consuming(events, queue, Seen()):
                await until(lambda: warning in caplog.text)
        async with opened(lazy.url, queue, monitor_url="http://127.0.0.1:1") as events:
            assert "127.0.0.1:1 does not tell if NATS syncs every write" in await events.check()


async def test_a_letter_that_is_looked_for_is_not_there(events: NatsEvents, queue: Queue) -> None:
    assert not await events.drop(queue.name, str(new_id()))
    assert not await events.drop("no.such.queue", str(new_id()))
