"""The HTTP client: its deadlines, and that nobody who gives up costs it a connection."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from purveyor.kit.http.client import HttpClient
from waiting import PATIENCE_S, until

AT_ONCE = 20
SHORT_S = 0.1

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A server on the loopback whose ``answer`` to the next requests can be set."""

    def __init__(self) -> None:
        self.answer: Answer = hello
        self.connected = 0
        self.most = 0
        self.heads: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        self.most = max(self.most, self.connected)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.lower())
                await self.answer(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connected -= 1
            writer.close()


async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


async def cookie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=alice; Path=/\r\nContent-Length: 5\r\n\r\nhello")


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def dripping_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    await drip(writer)


async def dripping_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n")
    await drip(writer)


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, backlog=500)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[HttpClient]:
    async with HttpClient(peer.url, at_once=AT_ONCE) as made:
        yield made


async def text(response: httpx.Response) -> str:
    return (await response.aread()).decode()


async def ask(client: HttpClient, within_s: float = PATIENCE_S) -> str:
    return await client.exchange(client.request("GET", "/"), text, within_s=within_s)


async def give_up(client: HttpClient, within_s: float = SHORT_S) -> None:
    with contextlib.suppress(TimeoutError, httpx.TransportError):
        await ask(client, within_s)


async def nothing_left(client: HttpClient, peer: Peer) -> None:
    """Wait until neither side has a connection."""
    pool = client._client._transport._pool  # type: ignore[attr-defined]
    await until(lambda: not pool.connections and not peer.connected)


async def test_a_connection_is_used_again(client: HttpClient, peer: Peer) -> None:
    assert [await ask(client) for _ in range(3)] == ["hello"] * 3
    assert peer.most == 1


async def test_a_cookie_of_one_answer_is_not_sent_with_the_next_request(client: HttpClient, peer: Peer) -> None:
    peer.answer = cookie
    assert [await ask(client) for _ in range(2)] == ["hello"] * 2
    assert [head for head in peer.heads if b"cookie" in head] == []


@pytest.mark.parametrize("answer", [silence, dripping_head, dripping_body])
async def test_the_time_is_up_for_all_of_it_and_the_connection_is_closed(
    client: HttpClient, peer: Peer, answer: Answer
) -> None:
    peer.answer = answer
    async with asyncio.timeout(PATIENCE_S):  # what drips would go on for ever
        with pytest.raises((TimeoutError, httpx.TimeoutException)):
            await ask(client, within_s=0.5)

    await nothing_left(client, peer)


async def test_there_are_no_more_at_a_time_and_who_waits_too_long_is_told(client: HttpClient, peer: Peer) -> None:
    go_on = asyncio.Event()

    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await hello(_, writer)

    peer.answer = slow
    first = [asyncio.create_task(ask(client)) for _ in range(2 * AT_ONCE)]
    await until(lambda: peer.connected == AT_ONCE)
    with pytest.raises(TimeoutError):
        await ask(client, SHORT_S)
    go_on.set()

    assert await asyncio.gather(*first) == ["hello"] * 2 * AT_ONCE
    assert peer.most == AT_ONCE


@pytest.mark.parametrize("times", [1, 2])
async def test_who_is_cancelled_at_any_step_leaves_no_connection(
    client: HttpClient, peer: Peer, times: int
) -> None:
    peer.answer = silence
    for steps in range(60):
        asked = asyncio.create_task(ask(client, SHORT_S))
        for _ in range(steps):
            await asyncio.sleep(0)
        for _ in range(times):
            asked.cancel()
            await asyncio.sleep(0)
        with contextlib.suppress(asyncio.CancelledError, TimeoutError, httpx.TransportError):
            await asked

    await nothing_left(client, peer)


@pytest.mark.parametrize("outer", [False, True])
async def test_a_process_that_stalls_as_the_time_is_up_loses_no_connection(
    client: HttpClient, peer: Peer, *, outer: bool
) -> None:
    """All timers are due at once then, those of whoever called us too; httpcore alone has a full pool soon."""

    async def customer() -> None:
        async with asyncio.timeout(SHORT_S if outer else None):
            await give_up(client)

    peer.answer = silence
    for stalled_at_s in (0.0, 0.1, 0.108, 0.116, 0.3):
        asyncio.get_running_loop().call_later(stalled_at_s, time.sleep, 0.4)
        await asyncio.gather(*(customer() for _ in range(3 * AT_ONCE)), return_exceptions=True)
        await asyncio.sleep(0.3)

    await nothing_left(client, peer)
    peer.answer = hello
    assert await asyncio.gather(*(ask(client) for _ in range(AT_ONCE))) == ["hello"] * AT_ONCE


async def test_closing_it_ends_what_is_under_way(peer: Peer) -> None:
    peer.answer = silence
    async with HttpClient(peer.url, at_once=AT_ONCE) as client:
        asked = asyncio.create_task(ask(client))
        await until(lambda: peer.connected)
    with pytest.raises(TimeoutError):
        await asked
    await nothing_left(client, peer)
