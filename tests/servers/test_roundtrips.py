"""The round-trip counter counts what a client waits for, over TCP and over a unix socket."""

import asyncio
import struct
from collections.abc import Iterator

import asyncpg
import pytest

from faults.proxy.postgres import FrontendMessages
from purveyor_drill.servers.postgres import PostgresServer
from servers.roundtrips import RoundTrips


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    if reason := server.available():
        pytest.skip(reason)
    with server:
        yield server


@pytest.fixture(params=["tcp", "unix"])
def dsn(request: pytest.FixtureRequest, server: PostgresServer) -> str:
    if request.param == "unix" and not server.ours:
        pytest.skip("a given server may have no unix socket")
    return server.socket_url if request.param == "unix" else server.url


async def test_a_warm_statement_is_one_round_trip_and_a_cold_one_two(dsn: str) -> None:
    async with RoundTrips(dsn) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        assert proxy.count == 0
        assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
        assert proxy.count == 2
        proxy.reset()
        for number in range(5):
            assert await connection.fetchval("SELECT $1::int + 1", number) == number + 1
        assert proxy.count == 5
        await connection.close()


async def test_a_transaction_costs_its_begin_and_commit(dsn: str) -> None:
    async with RoundTrips(dsn) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        statement = await connection.prepare("SELECT 1")
        proxy.reset()
        async with connection.transaction():
            await statement.fetchval()
        assert proxy.count == 3
        await connection.close()


async def test_a_released_pool_connection_costs_its_reset(dsn: str) -> None:
    async with RoundTrips(dsn) as proxy, asyncpg.create_pool(proxy.dsn, min_size=1, max_size=1) as pool:
        await pool.fetchval("SELECT 1")
        proxy.reset()
        await pool.fetchval("SELECT 1")
        assert proxy.count == 2


async def test_big_values_and_many_connections_are_counted_once(dsn: str) -> None:
    big = "x" * 1_000_000

    async def ask(url: str) -> int:
        connection = await asyncpg.connect(url)
        length = await connection.fetchval("SELECT length($1::text)", big)
        await connection.close()
        return int(length)

    async with RoundTrips(dsn) as proxy:
        assert await asyncio.gather(*(ask(proxy.dsn) for _ in range(8))) == [1_000_000] * 8
        assert proxy.count == 16


async def test_leaving_the_proxy_closes_its_connections(dsn: str) -> None:
    async with RoundTrips(dsn) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("SELECT 1")
    with pytest.raises(OSError, match=r"(?i)refused|no such file|connect"):
        await asyncpg.connect(proxy.dsn)


def test_messages_may_come_in_any_pieces() -> None:
    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    ssl_request = struct.pack("!II", 8, 80_877_103)
    startup = message(b"", struct.pack("!I", 196_608) + b"user\0app\0\0")
    # A body full of kinds of messages has none in it.
    queries = message(b"Q", b"SQSQSHF\0") + message(b"P", b"\0SSSS\0") + message(b"S", b"") + message(b"X", b"")
    stream = ssl_request + startup + queries
    for size in (1, 2, 3, 7, len(stream)):
        reader = FrontendMessages()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        messages = [message for piece in pieces for message in reader.feed(piece)]
        assert [message.kind for message in messages] == ["", "", "Q", "P", "S", "X"]
        assert b"".join(message.data for message in messages) == stream
