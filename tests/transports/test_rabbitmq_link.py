"""Connections to RabbitMQ end with their link; the client library would connect again for ever."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aio_pika import RobustConnection
from broker_support import Seen, consuming

from purveyor.kit.errors import Unavailable
from purveyor.kit.events.transport import Queue
from purveyor.transports.rabbitmq.events import RabbitEvents
from purveyor.transports.rabbitmq.link import Link
from purveyor_drill.servers.process import free_port
from purveyor_drill.servers.rabbitmq import RabbitServer
from waiting import until


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[RobustConnection]:
    """Every connection that a link makes during the test."""
    made: list[RobustConnection] = []

    class Kept(RobustConnection):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr("purveyor.transports.rabbitmq.link.RobustConnection", Kept)
    return made


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """The port of a server that accepts connections and says nothing."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def _connecting_again() -> list[asyncio.Task[object]]:
    coroutines = {task: str(getattr(task.get_coro(), "__qualname__", "")) for task in asyncio.all_tasks()}
    return [task for task, name in coroutines.items() if name.endswith("__connection_factory")]


def _all_closed(made: list[RobustConnection]) -> bool:
    return all(connection.is_closed for connection in made) and not _connecting_again()


async def test_a_refused_connection_is_closed(made: list[RobustConnection]) -> None:
    link = Link(f"amqp://127.0.0.1:{free_port()}", "test")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await link.version()
    assert len(made) == 2
    assert _all_closed(made)


async def test_a_connection_that_is_not_waited_for_any_more_is_closed(
    made: list[RobustConnection], silent_port: int
) -> None:
    asking = asyncio.create_task(Link(f"amqp://127.0.0.1:{silent_port}", "test").version())
    await until(_connecting_again)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert len(made) == 1
    assert _all_closed(made)


async def test_connections_to_a_frozen_server_are_closed(
    made: list[RobustConnection], server: RabbitServer, queue: Queue
) -> None:
    events = RabbitEvents(server.url, startup_wait_s=10)
    await events.open([queue])
    async with consuming(events, queue, Seen()):
        await until(lambda: len(made) == 2)
        await until(lambda: all(connection.connected.is_set() for connection in made))
        server.freeze()
    try:
        await events.close()
        assert len(made) == 2
        assert _all_closed(made)
    finally:
        server.thaw()


async def test_a_link_that_cannot_stop_its_subscribers_closes_its_connection(
    made: list[RobustConnection], server: RabbitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing() -> None:
        raise ExceptionGroup("Failed to stop subscribers", [RuntimeError("closed")])

    link = Link(server.url, "test")
    await link.version()
    monkeypatch.setattr(link.broker, "stop", failing)
    await link.close()
    assert len(made) == 1
    assert _all_closed(made)
