"""The tests of the transports share the databases of the session, and its RabbitMQ servers."""

import os
from collections.abc import AsyncIterator, Iterator

import aio_pika
import pytest
from broker_support import event_type
from rabbit_support import Foreign, QuorumServer4, opened

from purveyor.kit.events.transport import Queue
from purveyor.transports.rabbitmq.events import RabbitEvents
from purveyor_drill.servers.rabbitmq import RabbitServer


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("databases")


@pytest.fixture(scope="session", params=[RabbitServer, QuorumServer4], ids=["3", "4-quorum"])
def server(request: pytest.FixtureRequest) -> Iterator[RabbitServer]:
    server: RabbitServer = request.param()
    if reason := server.available():
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    if not server.ours:
        pytest.skip(f"{server.variable} is set: not ours to kill")
    with server:
        yield server


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Queue:
    """A queue and an event type for one test."""
    name = request.node.originalname.removeprefix("test_")
    return Queue(name=name, event=event_type(name), role="email")


@pytest.fixture
async def events(server: RabbitServer, queue: Queue) -> AsyncIterator[RabbitEvents]:
    async with opened(server.url, queue) as events:
        yield events


@pytest.fixture
async def foreign(server: RabbitServer) -> AsyncIterator[Foreign]:
    async with await aio_pika.connect(server.url) as connection:
        yield Foreign(connection)
