"""RabbitMQ consumers: what FastStream, aio-pika or the server would lose, and delivery limits."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelInvalidStateError
from broker_support import Seen, consuming, raising, sent_on
from rabbit_support import Foreign, opened

from purveyor.kit.errors import StartupError
from purveyor.kit.events.transport import Queue, Undeliverable
from purveyor.kit.retry import RetrySchedule
from purveyor.transports import handling
from purveyor.transports.rabbitmq.events import RabbitEvents
from purveyor_drill.servers.rabbitmq import RabbitServer
from waiting import PATIENCE_S, until

# --- corrections of the client libraries


class Gate:
    """A handler's action that waits until the test lets it go on; counts who was cancelled and who finished."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.cancelled = self.finished = 0

    async def __call__(self, _: int) -> None:
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.finished += 1


async def test_handlers_in_hand_outlive_their_connection(
    events: RabbitEvents, queue: Queue, server: RabbitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "HANDLER_S", PATIENCE_S)  # rabbitmqctl may take longer than a handler may
    gate = Gate()
    seen = Seen(gate)
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue, number) for number in range(20)])
        await until(lambda: len(seen.got) == 20)
        await asyncio.to_thread(server.rabbitmqctl, "close_all_connections", "--global", "test")
        await until(lambda: len(seen.got) == 40)  # delivered again
        gate.open.set()
        await until(lambda: gate.finished == 40)
    assert gate.cancelled == 0


async def test_handlers_in_hand_outlive_their_channel(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    gate = Gate()
    seen = Seen(gate)
    async with consuming(events, queue, seen):
        await events.publish([sent_on(queue, number) for number in range(5)])
        await until(lambda: len(seen.got) == 5)
        wire = events._consumers[queue.name]._wire
        assert wire is not None
        await wire.basic_ack(999_999)  # an unknown delivery tag: the server closes the channel
        await until(lambda: len(seen.got) == 10)
        gate.open.set()
        await until(lambda: _ready(foreign, queue, 0))
    assert gate.cancelled == 0


async def test_one_consumer_is_left_after_lost_connections_and_deleted_queues(
    events: RabbitEvents, queue: Queue, server: RabbitServer, foreign: Foreign
) -> None:
    seen = Seen()
    async with consuming(events, queue, seen):
        for number in range(2):
            await asyncio.to_thread(server.rabbitmqctl, "close_all_connections", "--global", "test")
            async with await aio_pika.connect(server.url) as connection:
                other = Foreign(connection)
                await other.delete(queue.name)
                await until(lambda: _published(events, queue, number))  # noqa: B023
                await until(lambda: number in seen.numbers)  # noqa: B023
                assert await other.consumers(queue.name) == 1
        wire = events._consumers[queue.name]._wire
        assert wire is not None
        assert len(wire.consumers) == 1


async def test_while_it_stops_it_takes_nothing_and_holds_nothing_back(
    server: RabbitServer, queue: Queue, foreign: Foreign
) -> None:
    gate = Gate()
    seen = Seen(gate)
    async with opened(server.url, queue, prefetch=5) as events:
        async with consuming(events, queue, seen) as task:
            await events.publish([sent_on(queue, number) for number in range(10)])
            await until(lambda: len(seen.got) == 5)
            task.cancel()
            await asyncio.sleep(0.2)
            await events.publish([sent_on(queue, 10)])
            await until(lambda: _ready(foreign, queue, 6))
            assert not task.done()
            gate.open.set()
        assert (gate.finished, len(seen.got)) == (5, 5)
        await until(lambda: _ready(foreign, queue, 6))


async def test_what_comes_before_the_start_returned_is_handled(
    events: RabbitEvents, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    consume = aio_pika.RobustQueue.consume

    async def slow(self: Any, *arguments: Any, **options: Any) -> Any:
        tag = await consume(self, *arguments, **options)
        await asyncio.sleep(0.3)
        return tag

    monkeypatch.setattr(aio_pika.RobustQueue, "consume", slow)
    seen = Seen()
    await events.publish([sent_on(queue, number) for number in range(3)])
    async with consuming(events, queue, seen):
        await until(lambda: len(seen.got) == 3)


async def test_a_prefetch_that_could_not_be_set_is_set_at_the_next_try(
    server: RabbitServer, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_qos, calls = aio_pika.RobustChannel.set_qos, 0

    async def failing(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ChannelInvalidStateError("gone")
        return await set_qos(self, *arguments, **options)

    monkeypatch.setattr(aio_pika.RobustChannel, "set_qos", failing)
    seen = Seen(Gate())
    async with opened(server.url, queue, prefetch=3) as events:
        await events.publish([sent_on(queue, number) for number in range(20)])
        monkeypatch.setattr("purveyor.transports.rabbitmq.consumer._FINISH_S", 0.1)
        async with consuming(events, queue, seen):
            await until(lambda: seen.got)
            await asyncio.sleep(0.3)
            assert len(seen.got) == 3
    assert calls == 2


async def test_a_consumer_that_ended_can_be_started_again(
    events: RabbitEvents, queue: Queue, foreign: Foreign
) -> None:
    for number in range(3):
        seen = Seen()
        async with consuming(events, queue, seen):
            await events.publish([sent_on(queue, number)])
            await until(lambda: seen.numbers == [number])  # noqa: B023
        await until(lambda: _consumers(foreign, queue, 0))


async def _consumers(foreign: Foreign, queue: Queue, count: int) -> bool:
    return await foreign.consumers(queue.name) == count


async def _ready(foreign: Foreign, queue: Queue, count: int) -> bool:
    return await foreign.depth(queue.name) == count


# --- virtual hosts where a queue without a type becomes a quorum queue


@pytest.fixture(scope="session")
def quorum_url(server: RabbitServer) -> str:
    return server.create_vhost("limits", default_queue_type="quorum")


@pytest.fixture
async def limited(quorum_url: str, queue: Queue) -> AsyncIterator[RabbitEvents]:
    async with opened(quorum_url, queue) as events:
        yield events


@pytest.fixture
async def neighbor(quorum_url: str) -> AsyncIterator[Foreign]:
    async with await aio_pika.connect(quorum_url) as connection:
        yield Foreign(connection)


async def _die_with(url: str, name: str, times: int) -> None:
    """Consumers that each get the message and end without an answer, as a killed process does."""
    for _ in range(times):
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            await channel.set_qos(1)
            delivered = asyncio.Event()

            async def take(_: Any, delivered: asyncio.Event = delivered) -> None:
                delivered.set()

            await (await channel.get_queue(name)).consume(take)
            async with asyncio.timeout(PATIENCE_S):
                await delivered.wait()


async def test_an_event_whose_consumers_die_is_never_dropped(
    limited: RabbitEvents, queue: Queue, quorum_url: str, neighbor: Foreign
) -> None:
    sent, seen = sent_on(queue, subject="order-1", correlation_id="request-1"), Seen()
    await limited.publish([sent])
    await _die_with(quorum_url, queue.name, 11)
    async with consuming(limited, queue, seen):
        await until(lambda: neighbor.depth(f"{queue.name}.retry.5s"))
        assert seen.got == []
        await until(lambda: seen.got)
    assert seen.got == [(queue.event(number=1), sent)]
    await until(lambda: _ready(neighbor, queue, 0))


async def test_the_copy_keeps_the_attempts_and_its_deliveries_count_from_zero(
    limited: RabbitEvents, queue: Queue, quorum_url: str, neighbor: Foreign
) -> None:
    await neighbor.put(queue.name, b'{"number":1}', headers={"x-attempt": 2, "x-reason": "ValueError: 2"})
    await _die_with(quorum_url, queue.name, 11)
    async with consuming(limited, queue, Seen()):
        await until(lambda: neighbor.depth(f"{queue.name}.retry.5s"))
    waiting = (await neighbor.take(f"{queue.name}.retry.5s")).headers
    assert (waiting["x-attempt"], waiting["x-reason"]) == (2, "ValueError: 2")
    assert waiting.get("x-delivery-count", 0) == 0


async def test_an_event_that_cannot_be_put_aside_stays_in_hand_and_uses_up_no_delivery(
    limited: RabbitEvents, queue: Queue, neighbor: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = RetrySchedule(first_s=0.05, longest_s=0.05)
    monkeypatch.setattr("purveyor.transports.rabbitmq.consumer._REFUSED", soon)
    name = f"{queue.name}.retry.5s"
    await neighbor.delete(name)
    async with neighbor.connection.channel() as channel:
        full = {"x-queue-type": "classic", "x-max-length": 0, "x-overflow": "reject-publish"}
        await channel.declare_queue(name, durable=True, arguments=full)
    seen = Seen(raising(ValueError()))
    async with consuming(limited, queue, seen):
        await limited.publish([sent_on(queue)])
        await until(lambda: len(seen.got) > 25)
    await until(lambda: _ready(neighbor, queue, 1))
    assert (await neighbor.take(queue.name)).headers.get("x-delivery-count", 0) <= 1


async def test_dead_letters_survive_any_number_of_looks(
    limited: RabbitEvents, queue: Queue, neighbor: Foreign
) -> None:
    async with consuming(limited, queue, Seen(raising(Undeliverable("no")))):
        await limited.publish([sent_on(queue), sent_on(queue, 2)])
        await until(lambda: _dead(neighbor, queue, 2))
    for _ in range(25):
        assert len(await limited.dead_letters()) == 2


async def test_dead_letters_of_an_earlier_version_survive_any_number_of_looks(
    quorum_url: str, queue: Queue, neighbor: Foreign
) -> None:
    """They are in a quorum queue without a limit of ours."""
    await _declare_as_before(neighbor, queue)
    async with opened(quorum_url, queue) as events:
        async with consuming(events, queue, Seen(raising(Undeliverable("no")))):
            await events.publish([sent_on(queue), sent_on(queue, 2)])
            await until(lambda: _dead(neighbor, queue, 2))
        first = {letter.event_id: letter for letter in await events.dead_letters()}
        for _ in range(25):
            assert {letter.event_id: letter for letter in await events.dead_letters()} == first


async def _declare_as_before(neighbor: Foreign, queue: Queue) -> None:
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue.name}
    retries = {f"{queue.name}.retry.{name}": ms for name, ms in {"5s": 5000, "30s": 30_000, "5m": 300_000}.items()}
    async with neighbor.connection.channel() as channel:
        for name in (queue.name, f"{queue.name}.dead"):
            await channel.declare_queue(name, durable=True)
        for name, ms in retries.items():
            await channel.declare_queue(name, durable=True, arguments=back | {"x-message-ttl": ms})


async def _dead(foreign: Foreign, queue: Queue, count: int) -> bool:
    return await foreign.depth(f"{queue.name}.dead") == count


async def test_the_work_queue_stays_open_to_a_foreign_service_and_the_others_have_no_limit(
    limited: RabbitEvents, queue: Queue, server: RabbitServer, neighbor: Foreign
) -> None:
    async with neighbor.connection.channel() as channel:
        await channel.declare_queue(queue.name, durable=True)
    listed = await asyncio.to_thread(
        server.rabbitmqctl, "list_queues", "-p", "limits", "name", "type", "arguments"
    )
    lines = dict(line.split("\t", 1) for line in listed.splitlines() if line.startswith(queue.name))
    assert all(line.startswith("quorum") for line in lines.values())
    assert "x-delivery-limit" not in lines.pop(queue.name)
    assert len(lines) == 4
    assert all("2147483647" in line for line in lines.values())
    assert all("at-least-once" in line for name, line in lines.items() if ".retry." in name)


async def test_a_classic_queue_older_than_the_default_type_is_used(
    quorum_url: str, queue: Queue, neighbor: Foreign
) -> None:
    async with neighbor.connection.channel() as channel:
        await channel.declare_queue(queue.name, durable=True, arguments={"x-queue-type": "classic"})
    seen = Seen()
    async with opened(quorum_url, queue) as events, consuming(events, queue, seen):
        assert "1 classic queues" in await events.check()
        await events.publish([sent_on(queue)])
        await until(lambda: seen.got)


async def test_a_queue_of_a_type_that_was_not_asked_for_ends_the_start(quorum_url: str, queue: Queue) -> None:
    async with opened(quorum_url, queue):
        with pytest.raises(StartupError, match=r"x-delivery-limit.*RABBITMQ_QUEUE_TYPE"):
            await RabbitEvents(quorum_url, queue_type="quorum", startup_wait_s=1).open([queue])


async def test_the_check_names_the_type_of_the_queues_and_warns_of_a_limit(
    limited: RabbitEvents, queue: Queue
) -> None:
    line = await limited.check()
    assert ", 1 quorum queues" in line
    warned = f"warning: {queue.name} may have the server's limit of 20 deliveries" in line
    assert warned is ("version 3." not in line), line


async def test_after_a_kill_quorum_queues_lose_nothing(
    limited: RabbitEvents, queue: Queue, server: RabbitServer
) -> None:
    seen = Seen()
    async with consuming(limited, queue, seen):
        assert await limited.publish([sent_on(queue, number) for number in range(100)]) == [None] * 100
        server.kill()
        await asyncio.to_thread(server.restart)
        await until(lambda: _published(limited, queue, 100))
        await until(lambda: set(range(101)) <= set(seen.numbers))


async def _published(events: RabbitEvents, queue: Queue, number: int) -> bool:
    return await events.publish([sent_on(queue, number)]) == [None]
