"""Connections of the HTTP server: what is too slow is cut, there is a bound, and the end comes."""

import asyncio
import json
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from purveyor.kit.http import server as http_server
from purveyor.kit.http.refusals import WAITED
from purveyor.kit.http.server import Connections, Server, uvicorn_config
from purveyor_drill.servers.process import free_port
from waiting import PATIENCE_S

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    """A server of this process whose application answers with the body that it was sent."""

    def __init__(self, connections: Connections) -> None:
        self.port = free_port()
        self.gate = asyncio.Event()
        self.gate.set()
        self.waited: list[float] = []
        self.connections = connections
        config = uvicorn_config(self._app, connections)
        config.host, config.port = "127.0.0.1", self.port
        self.server = Server(config, connections)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.waited.append(scope["state"].get(WAITED, 0.0))
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        await self.gate.wait()
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x-part", b"1")]})
            for part in (b"first", b"", b"second"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        size = int(dict(scope["headers"]).get(b"x-size", 0))
        body += b"x" * size
        fields = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def connect(self, sent: bytes = b"") -> Stream:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
        writer.write(sent)
        return reader, writer


@asynccontextmanager
async def running(connections: Connections) -> AsyncIterator[Site]:
    site = Site(connections)
    serving = asyncio.create_task(site.server.serve())
    while not site.server.started:
        await asyncio.sleep(0.01)
    try:
        yield site
    finally:
        site.gate.set()
        site.server.should_exit = True
        await serving


async def head(stream: Stream) -> bytes:
    async with asyncio.timeout(PATIENCE_S):
        return await stream[0].readuntil(b"\r\n\r\n")


async def closed(stream: Stream) -> bytes:
    """What still came before the server closed the connection."""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionResetError):
            return await stream[0].read()
    return b""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_WITHIN_S", 0.3)
    monkeypatch.setattr(http_server, "READ_WITHIN_S", 0.3)
    monkeypatch.setattr(http_server, "_DEADLINES", {"head": 0.3, "body": 0.3})


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("begun", "said"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost:", b"HTTP/1.1 408 "),
        (b"\r\n", b"HTTP/1.1 408 "),
        (POST + b"12", b"HTTP/1.1 408 "),
        (
            GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n1"),
            b"HTTP/1.1 408 ",
        ),
    ],
    ids=["silent", "half a head", "an empty line", "half a body", "half a chunk"],
)
async def test_a_request_that_does_not_come_is_not_waited_for(begun: bytes, said: bytes) -> None:
    async with running(Connections()) as site:
        fresh = await site.connect(begun)
        used = await site.connect(GET)
        await head(used)
        if begun:
            used[1].write(begun)
            assert (await closed(used))[: len(said)] == said
        assert (await closed(fresh))[: len(said)] == said
        await until(lambda: not site.connections.waiting or not begun)


@pytest.mark.usefixtures("hasty")
async def test_a_request_that_comes_slowly_but_in_time_and_an_idle_connection_are_left_alone() -> None:
    async with running(Connections()) as site:
        stream = await site.connect()
        for part in (GET[:9], GET[9:]):
            stream[1].write(part)
            await asyncio.sleep(0.05)
        await head(stream)
        await asyncio.sleep(0.6)
        stream[1].write(GET)
        assert (await head(stream)).startswith(b"HTTP/1.1 200")
        site.gate.clear()
        stream[1].write(GET)
        await asyncio.sleep(0.6)
        site.gate.set()
        assert (await head(stream)).startswith(b"HTTP/1.1 200"), "work is not what these deadlines are for"


@pytest.mark.usefixtures("hasty")
async def test_an_answer_that_nobody_reads_is_not_kept() -> None:
    async with running(Connections()) as site:
        reader, writer = await site.connect(b"GET / HTTP/1.1\r\nHost: x\r\nX-Size: 30000000\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: len(site.connections.open) == 1)
        await until(lambda: not site.connections.open)
        writer.close()


LARGE = b"x" * http_server.MAX_HEAD_BYTES


@pytest.mark.parametrize(
    "sent",
    [
        GET.replace(b"/ HTTP", b"/%b HTTP" % LARGE),
        GET.replace(b"\r\n\r\n", b"\r\nX-Large: %b\r\n\r\n" % LARGE),
        b"GET / HTTP/1.1\r\nX-Large: " + LARGE,
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %b\r\n" % (each, LARGE[:4096]) for each in range(8)),
        b"\r\n" * (http_server.MAX_HEAD_BYTES // 2 + 1),
    ],
    ids=["a long address", "a large header", "a header without end", "a head without end", "empty lines"],
)
@pytest.mark.parametrize("size", [100_000, 1_000], ids=["at once", "bit by bit"])
async def test_a_request_head_that_is_too_large_is_refused(sent: bytes, size: int) -> None:
    async with running(Connections()) as site:
        fresh, used = await site.connect(), await site.connect(GET)
        await head(used)
        for stream in (fresh, used):
            for start in range(0, len(sent), size):
                stream[1].write(sent[start : start + size])
                await asyncio.sleep(0)
        for stream in (fresh, used):
            assert (await closed(stream)).startswith(b"HTTP/1.1 431 ")
        await until(lambda: not site.connections.open)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost:", 408),
        (b"GET / HTTP/1.1\r\nX-Large: " + LARGE, 431),
        (b"no http at all\r\n\r\n", 400),
        (POST.replace(b"4", b"four"), 400),
    ],
)
async def test_what_never_became_a_request_is_answered_as_a_problem(sent: bytes, status: int) -> None:
    async with running(Connections()) as site:
        answer = await closed(await site.connect(sent))
    fields, _, body = answer.partition(b"\r\n\r\n")
    said = json.loads(body)
    assert fields.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\ncontent-type: application/problem+json\r\n" in fields
    assert b"\r\nx-request-id: %b\r\n" % said["request_id"].encode() in fields
    assert (said["status"], len(body)) == (status, int(fields.partition(b"content-length: ")[2].split()[0]))


async def test_a_trailer_is_no_header() -> None:
    """RFC 9110 section 6.5.1: it is merged only where its field is known to allow that."""
    async with running(Connections()) as site:
        stream = await site.connect()
        for _ in range(2):
            chunked = POST.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked")
            stream[1].write(chunked + b"4\r\n1234\r\n0\r\nX-Size: 3\r\n\r\n" + GET)
            assert b"content-length: 4\r\n" in await head(stream)
            assert await stream[0].readexactly(4) == b"1234"
            await head(stream)


async def test_only_the_head_counts_as_one() -> None:
    body = LARGE * 2
    post = POST.replace(b"Length: 4", b"Length: %d" % len(body)) + body
    near = GET.replace(b"\r\n\r\n", b"\r\nX-Large: %b\r\n\r\n" % LARGE[:-100])
    async with running(Connections()) as site:
        stream = await site.connect()
        for sent, answered in ((post, len(body)), (near, 0), (post + GET[:9], len(body)), (GET[9:], 0)):
            stream[1].write(sent)
            assert (await head(stream)).startswith(b"HTTP/1.1 200")
            await stream[0].readexactly(answered)


async def test_beyond_the_bound_the_one_that_waits_longest_makes_room() -> None:
    async with running(Connections(4)) as site:
        site.gate.clear()
        working = await site.connect(GET)
        await until(lambda: len(site.server.server_state.tasks) == 1)
        idle = [await site.connect(b"GET / HT") for _ in range(10)]
        assert await closed(idle[0]) == b""
        await until(lambda: len(site.connections.open) == 4)
        good = await site.connect(GET)
        site.gate.set()

        assert (await head(working)).startswith(b"HTTP/1.1 200")
        assert (await head(good)).startswith(b"HTTP/1.1 200")
        assert not idle[-1][0].at_eof()


async def test_the_end_comes_though_clients_stay_and_the_request_in_hand_is_answered() -> None:
    async with running(Connections()) as site:
        idle = [await site.connect(GET) for _ in range(20)]
        for stream in idle:
            await head(stream)
        half = [await site.connect(sent) for sent in (b"", b"GET / HT", POST + b"12") for _ in range(20)]
        site.gate.clear()
        working = await site.connect(GET)
        await until(lambda: len(site.server.server_state.tasks) == 21)
        site.server.should_exit = True
        for stream in idle + half:
            await closed(stream)
        site.gate.set()
        answer = await closed(working)

        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer


async def test_a_request_that_arrives_in_the_last_second_is_answered() -> None:
    async with running(Connections()) as site:
        stream = await site.connect(GET)
        await head(stream)
        site.server.should_exit = True
        await until(lambda: site.connections.draining)
        stream[1].write(GET)
        answer = await closed(stream)

        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer


async def test_a_request_that_is_refused_gets_the_answer_and_the_next_one_its_turn() -> None:
    refusing = True

    def refusal(method: str, path: str, headers: list[tuple[bytes, bytes]], waited_s: float) -> bytes | None:
        assert (method, path, dict(headers)[b"host"]) == ("POST", "/", b"x")
        assert waited_s < 1
        return b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n" if refusing else None

    async with running(Connections(refusal=refusal)) as site:
        stream = await site.connect(POST + b"1234")
        assert (await head(stream)).startswith(b"HTTP/1.1 503 No")
        stream[1].write(POST)
        await asyncio.sleep(0.05)
        assert not site.server.server_state.tasks, "nothing was begun"
        stream[1].write(b"1234")
        assert (await head(stream)).startswith(b"HTTP/1.1 503 No")
        refusing = False
        stream[1].write(POST + b"1234")
        assert (await head(stream)).startswith(b"HTTP/1.1 200")
        assert await stream[0].readexactly(4) == b"1234"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a socket's bytes came")
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_the_wait_before_a_request_is_read_is_counted(*, kept: bool) -> None:
    """As after a stop of the process, or in one that has no time for its connections."""
    waits: list[float] = []

    def refusal(method: str, path: str, headers: list[tuple[bytes, bytes]], waited_s: float) -> None:
        waits.append(waited_s)

    async with running(Connections(refusal=refusal)) as site:
        with socket.create_connection(("127.0.0.1", site.port)) as client:
            if kept:
                client.sendall(GET)
                await until(lambda: bool(waits))
                await asyncio.sleep(0.3)
            client.sendall(GET)
            time.sleep(0.5)  # the server, in this loop, cannot read meanwhile
            await until(lambda: len(waits) == 1 + kept)
            await until(lambda: len(site.waited) == 1 + kept)

    assert waits == site.waited
    assert 0.45 < waits[-1] < 5
    assert all(wait_s < 0.3 for wait_s in waits[:-1])


async def test_an_answer_of_unknown_length_has_no_chunks_for_http_1_0() -> None:
    async with running(Connections()) as site:
        old = await closed(await site.connect(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
        fields, _, body = old.partition(b"\r\n\r\n")
        assert body == b"firstsecond"
        assert b"transfer-encoding" not in fields.lower()
        assert b"connection: close" in fields
        known = await closed(await site.connect(b"GET / HTTP/1.0\r\nX-Size: 3\r\n\r\n"))
        assert known.endswith(b"content-length: 3\r\nconnection: close\r\n\r\nxxx")
        new = await site.connect(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"transfer-encoding: chunked" in await head(new)


def test_clients_that_pipeline_and_leave_log_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """On uvloop, as in production: its transports raise when they are written to after the end."""

    async def pipeline_and_leave() -> None:
        async with running(Connections()) as site:
            site.gate.clear()
            for number in range(1, 6):
                _, writer = await site.connect(GET.replace(b"\r\n\r\n", b"\r\nX-Size: 5000\r\n\r\n") * 5)
                await until(lambda number=number: len(site.waited) == number)
                writer.transport.abort()
                await until(lambda: not site.connections.open)
            site.gate.set()
            await until(lambda: not site.server.server_state.tasks)
            assert len(site.waited) == 5, "none of the requests behind the first is started"

    uvloop.run(pipeline_and_leave())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_the_offer_of_another_protocol_is_ignored(protocol: bytes, caplog: pytest.LogCaptureFixture) -> None:
    offer = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
    async with running(Connections()) as site:
        stream = await site.connect(offer)
        assert (await head(stream)).startswith(b"HTTP/1.1 200")
        stream[1].write(GET)
        assert (await head(stream)).startswith(b"HTTP/1.1 200"), "the connection goes on"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
