"""Each private server answers its real client, survives its faults, and leaves nothing behind."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator
from email.message import EmailMessage
from functools import partial
from typing import Any, ClassVar

import aio_pika
import aiosmtplib
import asyncpg
import nats
import pytest
import redis.asyncio
from motor.motor_asyncio import AsyncIOMotorClient
from nats.aio.client import Client

from purveyor_drill.servers import process_tree as tree
from purveyor_drill.servers.mongodb import MongoServer
from purveyor_drill.servers.nats import NatsServer
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.servers.redis import RedisServer
from purveyor_drill.servers.server import Server
from purveyor_drill.servers.smtp import SmtpSink
from waiting import PATIENCE_S, until

_FROZEN_FOR_S = 0.5


class Case(ABC):
    """One kind of server with its own client: each call makes a new connection."""

    server: Server
    keeps_data: ClassVar[bool] = True

    @abstractmethod
    async def write(self, value: str) -> None: ...

    @abstractmethod
    async def read(self) -> list[str]:
        """All values written."""


class PostgresCase(Case):
    server: PostgresServer

    def __init__(self) -> None:
        self.server = PostgresServer()

    async def write(self, value: str) -> None:
        connection = await asyncpg.connect(self.server.url)
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        await connection.execute("INSERT INTO kept VALUES ($1)", value)
        await connection.close()

    async def read(self) -> list[str]:
        connection = await asyncpg.connect(self.server.url)
        rows = await connection.fetch("SELECT value FROM kept")
        await connection.close()
        return [row["value"] for row in rows]


class RedisCase(Case):
    keeps_data = False

    def __init__(self) -> None:
        self.server = RedisServer()

    async def write(self, value: str) -> None:
        async with redis.asyncio.from_url(self.server.url) as client:
            await client.sadd("kept", value)

    async def read(self) -> list[str]:
        async with redis.asyncio.from_url(self.server.url, decode_responses=True) as client:
            return [str(value) for value in await client.smembers("kept")]


class RabbitCase(Case):
    server: RabbitServer

    def __init__(self) -> None:
        self.server = RabbitServer()

    async def write(self, value: str) -> None:
        async with await aio_pika.connect(self.server.url) as connection, connection.channel() as channel:
            await channel.declare_queue("kept", durable=True)
            message = aio_pika.Message(value.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key="kept")  # waits for the confirm

    async def read(self) -> list[str]:
        async with await aio_pika.connect(self.server.url) as connection, connection.channel() as channel:
            queue = await channel.declare_queue("kept", durable=True)
            values = []
            while message := await queue.get(fail=False):  # not acknowledged: all go back at the end
                values.append(message.body.decode())
            return values


class NatsCase(Case):
    server: NatsServer

    def __init__(self) -> None:
        self.server = NatsServer()

    async def _connect(self) -> Client:
        return await nats.connect(self.server.url, max_reconnect_attempts=1, reconnect_time_wait=0)

    async def write(self, value: str) -> None:
        client = await self._connect()
        jetstream = client.jetstream()
        await jetstream.add_stream(name="kept", subjects=["kept"])
        await jetstream.publish("kept", value.encode())
        await client.close()

    async def read(self) -> list[str]:
        client = await self._connect()
        jetstream = client.jetstream()
        state = (await jetstream.stream_info("kept")).state
        messages = [await jetstream.get_msg("kept", seq) for seq in range(1, state.messages + 1)]
        await client.close()
        return [(message.data or b"").decode() for message in messages]


class MongoCase(Case):
    def __init__(self) -> None:
        self.server = MongoServer(durable=True)

    def _client(self) -> AsyncIOMotorClient[dict[str, Any]]:
        return AsyncIOMotorClient(self.server.url, timeoutMS=1000)

    async def write(self, value: str) -> None:
        client = self._client()
        await client["tests"]["kept"].insert_one({"value": value})
        client.close()

    async def read(self) -> list[str]:
        client = self._client()
        values = [document["value"] async for document in client["tests"]["kept"].find()]
        client.close()
        return values


class SmtpCase(Case):
    def __init__(self) -> None:
        self.sink = SmtpSink()
        self.server = self.sink

    async def write(self, value: str) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Message-ID"] = "shop@a.test", "ann@b.test", f"<{value}@a.test>"
        await aiosmtplib.send(mail, hostname="127.0.0.1", port=self.server.port, start_tls=False)

    async def read(self) -> list[str]:
        return [mail.message_id[1:].partition("@")[0] for mail in self.sink.messages()]


@pytest.fixture(scope="module", params=[PostgresCase, RedisCase, RabbitCase, NatsCase, MongoCase, SmtpCase])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    case: Case = request.param()
    if not case.server.ours:
        pytest.skip(f"{case.server.variable} is set: not ours to kill")
    if reason := case.server.available():
        pytest.skip(reason)
    with case.server:
        yield case
        family = _family(case.server)
        folder = case.server.folder
        assert family
    assert not set(family) & tree.parents().keys(), "a process outlived stop()"
    assert not folder.exists()


def _family(server: Server) -> list[int]:
    roots = [*server._helpers, *([server._child] if server._child else [])]
    return [pid for child in roots for pid in tree.members(child.pid)]


async def holds(case: Case, value: str) -> bool:
    return value in await case.read()


async def test_it_answers_its_client(case: Case) -> None:
    await case.write("first")
    assert "first" in await case.read()


async def test_after_a_kill_it_restarts_with_its_port_and_data(case: Case) -> None:
    url = case.server.url
    await case.write("acknowledged")
    case.server.kill()
    with pytest.raises(Exception, match=r"(?i)refused|closed|connect"):
        await asyncio.wait_for(case.write("while down"), PATIENCE_S)
    case.server.restart()
    assert case.server.url == url
    if case.keeps_data:
        await until(partial(holds, case, "acknowledged"))  # it may answer before it has read all
    await case.write("afterwards")
    assert "afterwards" in await case.read()


async def test_frozen_it_is_silent_and_thawed_it_goes_on(case: Case) -> None:
    case.server.freeze()
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(case.write("while frozen"), _FROZEN_FOR_S)
    finally:
        case.server.thaw()
    await case.write("thawed")
    assert "thawed" in await case.read()


@pytest.mark.parametrize("case", [PostgresCase, RedisCase, SmtpCase], indirect=True, scope="module")
async def test_after_a_halt_it_restarts_with_its_data(case: Case) -> None:
    await case.write("before")
    case.server.halt()
    case.server.restart()
    assert ("before" in await case.read()) == case.keeps_data


@pytest.mark.parametrize("case", [RabbitCase], indirect=True, scope="module")
async def test_rabbitmq_vhosts_are_apart(case: RabbitCase) -> None:
    one, other = case.server.create_vhost("one"), case.server.create_vhost("other")
    async with await aio_pika.connect(one) as connection, connection.channel() as channel:
        await channel.declare_queue("only-here", durable=True)
    listed = [case.server.rabbitmqctl("list_queues", "-p", vhost, "name") for vhost in ("one", "other")]
    assert ["only-here" in names for names in listed] == [True, False]
    await (await aio_pika.connect(other)).close()


@pytest.mark.parametrize("case", [NatsCase], indirect=True, scope="module")
async def test_nats_accounts_are_apart(case: NatsCase) -> None:
    await case.write("only here")
    other = await nats.connect(case.server.account_url(1))
    assert await other.jetstream().streams_info() == []
    await other.close()
    assert case.server.messages() == {"kept": len(await case.read())}


@pytest.mark.parametrize("case", [PostgresCase], indirect=True, scope="module")
async def test_postgres_databases_are_made_anew_from_a_template(case: PostgresCase) -> None:
    await _execute(case.server.create_database("model"), "CREATE TABLE migrated (id int)")
    await _execute(case.server.create_database('odd "name"', "model"), "INSERT INTO migrated VALUES (1)")
    assert await _execute(case.server.create_database('odd "name"', "model"), "TABLE migrated") == "SELECT 0"


async def _execute(url: str, statement: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.execute(statement))
    finally:
        await connection.close()


@pytest.mark.parametrize("case", [PostgresCase], indirect=True, scope="module")
async def test_postgres_wants_the_password_over_tcp(case: PostgresCase) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(case.server.url.replace(":tests@", ":wrong@"))
    assert await _execute(case.server.socket_url, "SELECT 1") == "SELECT 1"
