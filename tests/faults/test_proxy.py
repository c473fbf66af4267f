"""Each fault of the proxy does what it says, to real clients of real servers."""

import asyncio
import errno
import smtplib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import httpx
import pytest
import pytest_asyncio
import redis.asyncio as redis
from aio_pika.exceptions import AMQPError

from faults.proxy import (
    Bandwidth,
    Blackhole,
    Cut,
    Fault,
    Latency,
    Proxy,
    Refuse,
    Reset,
    Slicer,
    SlowClose,
    Swallow,
)
from faults.proxy.amqp import Amqp
from faults.proxy.conversations import InTurn, Smtp
from faults.proxy.postgres import Postgres
from own_processes import own_processes
from real_servers import SERVERS, require_servers

SOON_S = 0.3
LOST = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)


@asynccontextmanager
async def proxy_to(url: str, speaks: Callable[[], object] | None = None) -> AsyncIterator[Proxy]:
    target = urlsplit(url)
    options = {} if speaks is None else {"speaks": speaks}
    async with Proxy(target.hostname or "", target.port or 0, **options) as proxy:
        yield proxy
    assert proxy.live == 0
    assert not list(tasks_of(proxy))


def tasks_of(proxy: Proxy) -> Iterator[asyncio.Task]:
    """Those of its connections and their pipes; installations of other tests have proxies in the same loop."""
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame and getattr(frame.f_locals.get("self"), "faults", None) is proxy.faults:
            yield task


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of Redis, whose protocol a test can type."""
    require_servers()
    async with proxy_to(SERVERS.redis.url) as proxy:
        yield proxy


class Line:
    """A raw connection to Redis."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, proxy: Proxy) -> "Line":
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    def say(self, text: str) -> None:
        self.writer.write(f"{text}\r\n".encode())

    async def hear(self, size: int = 7, within_s: float = 10.0) -> bytes:
        async with asyncio.timeout(within_s):
            return await self.reader.readexactly(size)

    async def ping(self) -> bool:
        self.say("PING")
        return await self.hear() == b"+PONG\r\n"

    async def hears_nothing(self) -> bool:
        try:
            await self.hear(1, SOON_S)
        except TimeoutError:
            return True
        return False


async def test_without_faults_everything_passes_and_is_counted(proxy: Proxy) -> None:
    lines = [await Line.to(proxy) for _ in range(5)]
    assert all([await line.ping() for line in lines])
    assert (proxy.accepted, proxy.live) == (5, 5)
    assert proxy.passed == {"to_server": 5 * 6, "to_client": 5 * 7}
    for line in lines:
        line.writer.close()
    async with asyncio.timeout(10):
        while proxy.live:
            await asyncio.sleep(0.01)


async def test_megabytes_pass_unchanged_both_ways(proxy: Proxy) -> None:
    value = bytes(range(256)) * 16_384
    async with redis.Redis(port=proxy.port, protocol=2) as client:
        proxy.set(Slicer(size=50_000, pause_s=0))
        await client.set("big", value)
        assert await client.get("big") == value
        await client.delete("big")


async def test_refuse_refuses_new_connections_and_leaves_the_old(proxy: Proxy) -> None:
    line, port = await Line.to(proxy), proxy.port
    assert await line.ping()
    proxy.set(Refuse())
    with pytest.raises(ConnectionRefusedError):
        await Line.to(proxy)
    assert await line.ping()
    proxy.clear()
    assert proxy.port == port
    assert await (await Line.to(proxy)).ping()


async def test_nothing_passes_a_blackhole_and_all_of_it_after(proxy: Proxy) -> None:
    old = await Line.to(proxy)
    assert await old.ping()
    proxy.set(Blackhole())
    new = await Line.to(proxy)
    for line in (old, new):
        line.say("PING")
    await proxy.struck(2)
    assert await old.hears_nothing()
    assert await new.hears_nothing()
    proxy.clear()
    assert [await line.hear() for line in (old, new)] == [b"+PONG\r\n"] * 2


async def test_a_blackhole_may_have_one_direction(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    assert await line.ping()
    proxy.set(Blackhole(side="to_client"))
    line.say("SET one-way done")
    await proxy.struck()
    assert await line.hears_nothing()
    async with redis.Redis(host="127.0.0.1", port=SERVERS.redis.port) as client:
        assert await client.getdel("one-way") == b"done"
    proxy.clear()
    assert await line.hear(5) == b"+OK\r\n"


async def test_a_blackhole_hides_the_end_of_a_connection(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    assert await line.ping()
    proxy.set(Blackhole())
    line.writer.close()
    await proxy.struck()
    assert proxy.live == 1
    proxy.clear()
    async with asyncio.timeout(10):
        while proxy.live:
            await asyncio.sleep(0.01)


async def test_a_blackhole_may_spare_new_connections(proxy: Proxy) -> None:
    old = await Line.to(proxy)
    assert await old.ping()
    proxy.set(Blackhole(old_only=True))
    assert await (await Line.to(proxy)).ping()
    old.say("PING")
    assert await old.hears_nothing()
    proxy.drop()
    with pytest.raises(ConnectionResetError):
        await old.hear()
    assert await (await Line.to(proxy)).ping()


async def test_latency_delays_each_way_and_keeps_the_order(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.set(Latency(delay_s=0.15, jitter_s=0.05))
    began = time.monotonic()
    for number in range(20):
        line.say(f"ECHO {number:02}")
        await asyncio.sleep(0.01)
    heard = [(await line.hear(8))[4:6] for _ in range(20)]
    took = time.monotonic() - began
    assert heard == [f"{number:02}".encode() for number in range(20)]
    assert took >= 0.2 + 2 * 0.1
    assert took < 20 * 0.2  # what comes while something waits does not wait for it: this is no queue of pauses


async def test_bandwidth_bounds_what_passes_in_a_second(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.set(Bandwidth(bytes_per_s=20_000, side="to_server"))
    began = time.monotonic()
    line.say("ECHO " + "x" * 10_000)
    assert (await line.hear(10_000 + 10)).endswith(b"x\r\n")
    assert time.monotonic() - began >= 0.45


async def test_a_slicer_cuts_into_pieces(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.set(Slicer(size=2, pause_s=0.02, side="to_client"))
    line.say("PING")
    pieces = []
    while b"".join(pieces) != b"+PONG\r\n":
        pieces.append(await asyncio.wait_for(line.reader.read(100), 10))
    assert len(pieces) >= 3


async def test_reset_ends_live_and_new_connections_with_rst(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    assert await line.ping()
    proxy.set(Reset(times=2))
    with pytest.raises(ConnectionResetError) as reset:
        await line.hear()
    assert reset.value.errno == errno.ECONNRESET
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await (await Line.to(proxy)).ping()
    assert proxy.strikes == 2
    assert await (await Line.to(proxy)).ping()


@pytest.mark.parametrize("end", ["close", "reset", "hang"])
async def test_a_cut_lets_so_many_bytes_pass(proxy: Proxy, end: str) -> None:
    line = await Line.to(proxy)
    assert await line.ping()
    proxy.set(Cut(after_bytes=3, end=end, times=1))
    line.say("PING")
    assert await line.hear(3) == b"+PO"
    if end == "hang":
        assert await line.hears_nothing()
        assert proxy.live == 1
        line.writer.close()
        async with asyncio.timeout(10):
            while proxy.live:
                await asyncio.sleep(0.01)
    else:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await line.hear(1)
    assert await (await Line.to(proxy)).ping()


async def test_a_cut_of_the_request_reaches_the_server_in_part(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.set(Cut(after_bytes=10, side="to_server"))
    line.say("SET half done")
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await line.hear(1)
    assert proxy.passed["to_server"] == 10
    async with redis.Redis(host="127.0.0.1", port=SERVERS.redis.port) as client:
        assert await client.get("half") is None


async def test_a_slow_close_comes_late(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.set(SlowClose(delay_s=0.3))
    began = time.monotonic()
    line.say("QUIT")
    assert await line.hear(5) == b"+OK\r\n"
    assert await asyncio.wait_for(line.reader.read(), 10) == b""
    assert time.monotonic() - began >= 0.3


async def test_the_target_can_move_and_be_down(proxy: Proxy) -> None:
    there = proxy.target
    proxy.target = ("127.0.0.1", 1)
    with suppress(ConnectionError):
        line = await Line.to(proxy)
        assert await asyncio.wait_for(line.reader.read(), 10) == b""
    proxy.target = there
    assert await (await Line.to(proxy)).ping()


async def test_what_waits_in_the_proxy_is_bounded(proxy: Proxy) -> None:
    line = await Line.to(proxy)
    proxy.set(Blackhole())
    chunk, sent = b"x" * 1_000_000, 0
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            while True:
                line.writer.write(chunk)
                await line.writer.drain()
                sent += len(chunk)
    assert sent < 40_000_000  # the kernel's buffers, and 1 MiB of ours
    line.writer.transport.abort()


async def test_redis_does_it_and_its_answer_is_swallowed() -> None:
    require_servers()
    async with (
        proxy_to(SERVERS.redis.url, InTurn) as proxy,
        redis.Redis(port=proxy.port, protocol=2, retry=None, max_connections=1) as client,
    ):
        await client.set("counter", 1)
        proxy.set(Swallow(about="INCR"))
        with pytest.raises(redis.ConnectionError):
            await client.incr("counter")
        await proxy.struck()
        assert int(await client.get("counter")) == 2
        proxy.set(Swallow(about="INCR", side="to_server"))
        with pytest.raises(redis.ConnectionError):
            await client.incr("counter")
        assert int(await client.getdel("counter")) == 2


async def test_postgres_commits_and_the_answer_is_swallowed() -> None:
    require_servers()
    url = SERVERS.postgres.create_database("proxied")
    async with proxy_to(url, Postgres) as proxy:
        direct = await asyncpg.connect(url)
        await direct.execute("create table noted (what text)")

        async def prepared(connection: asyncpg.Connection) -> None:
            await connection.fetchval("insert into noted values ($1) returning 1", "prepared")

        async def again(connection: asyncpg.Connection) -> None:
            proxy.clear()
            await connection.fetchval("insert into noted values ($1) returning 1", "first")
            proxy.set(Swallow(about="insert into noted"))
            await connection.fetchval("insert into noted values ($1) returning 1", "again")

        async def simple(connection: asyncpg.Connection) -> None:
            await connection.execute("insert into noted values ('simple')")

        for what in (prepared, again, simple):
            connection = await asyncpg.connect(proxy.through(url))
            proxy.set(Swallow(about="insert into noted"))
            with pytest.raises(LOST):
                await what(connection)
            await proxy.struck()
        proxy.clear()
        connection = await asyncpg.connect(proxy.through(url))
        assert (
            await connection.fetchval("select string_agg(what, ' ') from noted") == "prepared first again simple"
        )
        await connection.close()
        await direct.close()


async def test_postgres_finds_a_commit_by_its_transaction() -> None:
    require_servers()
    url = SERVERS.postgres.create_database("proxied")
    async with proxy_to(url, Postgres) as proxy:
        mine, other = [await asyncpg.connect(proxy.through(url)) for _ in range(2)]
        await mine.execute("create table noted (what text)")
        proxy.set(Swallow(about="BEGIN.*into noted.*COMMIT", end="hang"))
        async with other.transaction():
            assert await other.fetchval("select 1") == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), mine.transaction():
                await mine.execute("insert into noted values ($1)", "x")
        await proxy.struck()
        assert await other.fetchval("select count(*) from noted") == 1
        await other.close()
        mine.terminate()


async def test_postgres_passes_big_rows_copies_and_notifications() -> None:
    require_servers()
    async with proxy_to(SERVERS.postgres.url, Postgres) as proxy:
        proxy.set(Swallow(about="never said"), Slicer(size=7_000, pause_s=0, side="to_client"))
        connection = await asyncpg.connect(proxy.through(SERVERS.postgres.url))
        assert await connection.fetchval("select repeat($1, 3000000)", "é") == "é" * 3_000_000
        await connection.execute("create temporary table copied (n int)")
        assert (
            await connection.copy_records_to_table("copied", records=[(n,) for n in range(9_999)]) == "COPY 9999"
        )
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await connection.add_listener("news", lambda *said: heard.set_result(str(said[-1])))
        await connection.execute("notify news, 'hello'")
        assert await asyncio.wait_for(heard, 10) == "hello"
        await connection.close()


async def test_a_unix_socket_is_a_target_too() -> None:
    require_servers()
    if not SERVERS.postgres.ours:
        pytest.skip("a given server may have no unix socket")
    folder = urlsplit(SERVERS.postgres.socket_url).query.partition("host=")[2].partition("&")[0]
    async with Proxy(f"{folder}/.s.PGSQL.{SERVERS.postgres.port}", speaks=Postgres) as proxy:
        connection = await asyncpg.connect(f"postgresql://app@127.0.0.1:{proxy.port}/postgres")
        assert await connection.fetchval("select 42") == 42
        await connection.close()


async def test_rabbitmq_takes_a_message_and_its_confirm_is_swallowed() -> None:
    url = require_servers().rabbitmq.create_vhost("proxied")
    async with proxy_to(url, Amqp) as proxy, await aio_pika.connect(url) as direct:
        queue = await (await direct.channel()).declare_queue("noted")
        connection = await aio_pika.connect(proxy.through(url))
        channel = await connection.channel()
        proxy.set(Swallow(about=r"^basic\.ack noted$"))
        with pytest.raises((AMQPError, ConnectionError, asyncio.CancelledError)):
            await channel.default_exchange.publish(aio_pika.Message(b"x" * 300_000), "noted")
        await proxy.struck()
        message = await queue.get()
        assert len(message.body) == 300_000
        await message.ack()
        with suppress(AMQPError, ConnectionError):
            await connection.close()


async def test_rabbitmq_never_gets_a_swallowed_ack() -> None:
    url = require_servers().rabbitmq.create_vhost("proxied_too")
    async with proxy_to(url, Amqp) as proxy, await aio_pika.connect(url) as direct:
        channel = await direct.channel()
        queue = await channel.declare_queue("noted")
        await channel.default_exchange.publish(aio_pika.Message(b"1"), "noted")
        connection = await aio_pika.connect(proxy.through(url))
        message = await (await (await connection.channel()).get_queue("noted")).get()
        proxy.set(Swallow(about=r"^basic\.ack noted$", side="to_server"))
        with suppress(AMQPError, ConnectionError):
            await message.ack()
        await proxy.struck()
        async with asyncio.timeout(10):
            while (again := await queue.get(fail=False)) is None:
                await asyncio.sleep(0.05)
        assert (again.body, again.redelivered) == (b"1", True)
        await again.ack()
        with suppress(AMQPError, ConnectionError):
            await connection.close()


def mail(number: int) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "shop@example.com", "ada@example.com"
    message["Message-ID"] = f"<{number}@example.com>"
    message.set_content(f"{number}\n.\n..\n" + "long\n" * 30_000)
    return message


async def test_smtp_takes_a_mail_and_its_reply_is_swallowed() -> None:
    servers = require_servers()
    url = urlsplit(servers.smtp.url)

    def send(proxy: Proxy, number: int) -> None:
        with smtplib.SMTP("127.0.0.1", proxy.port, timeout=10) as client:
            client.login(url.username or "", url.password or "")
            client.send_message(mail(number))

    async with proxy_to(servers.smtp.url, Smtp) as proxy:
        await asyncio.to_thread(send, proxy, 1)
        proxy.set(Swallow(about="dot"), Slicer(size=4099, pause_s=0))
        with pytest.raises(smtplib.SMTPServerDisconnected):
            await asyncio.to_thread(send, proxy, 2)
        proxy.set(Swallow(about="DATA"))
        with pytest.raises(smtplib.SMTPServerDisconnected):
            await asyncio.to_thread(send, proxy, 3)
        proxy.set(Swallow(about="content", side="to_server"))
        with pytest.raises(smtplib.SMTPServerDisconnected):
            await asyncio.to_thread(send, proxy, 4)
    counts = servers.smtp.counts()
    assert [counts[f"<{number}@example.com>"] for number in (1, 2, 3, 4)] == [1, 1, 0, 0]


async def test_http_does_it_and_its_answer_is_swallowed(tmp_path: Path) -> None:
    async with own_processes(tmp_path) as processes:
        processes.start("catalog", "serve", "catalog")
        await processes.ready("catalog")
        async with (
            proxy_to(f"http://127.0.0.1:{processes.ports['catalog']}", InTurn) as proxy,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{proxy.port}", trust_env=False) as client,
        ):
            faults: list[Fault] = [Swallow(about="^GET /catalog/products/1 "), Cut(after_bytes=300, times=1)]
            for fault in faults:
                assert (await client.get("/health/live")).is_success
                proxy.set(fault)
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get("/catalog/products/1")
                await proxy.struck()
                assert (await client.get("/catalog/products/1")).is_success
