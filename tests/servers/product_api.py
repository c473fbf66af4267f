"""A product API that does what its script says, well or badly: raw HTTP/1.1 over loopback."""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Self
from urllib.parse import parse_qs, urlsplit

Answer = Callable[["ProductApiServer", asyncio.StreamWriter, int], Awaitable[None]]
"""Answers one request about the product with this id."""


def product(number: int, price: str = "19.99", **members: object) -> str:
    """A product as JSON text; ``price`` is the literal JSON of the price."""
    rest = {"title": f"Product {number}", "brand": "Acme", "category": "audio", "discount": 5} | members
    return f'{{"id": {number}, "price": {price}, {json.dumps(rest)[1:]}'


def reply(writer: asyncio.StreamWriter, body: bytes, status: int = 200, headers: str = "") -> None:
    headers += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"HTTP/1.1 {status} Scripted\r\n{headers}\r\n".encode() + body)


def wrapped(price: str = "19.99", **members: object) -> Answer:
    async def answer(_api: "ProductApiServer", writer: asyncio.StreamWriter, number: int) -> None:
        inside = product(number, price, **members)
        reply(writer, f'{{"status": "SUCCESS", "message": "Here.", "product": {inside}}}'.encode())

    return answer


def bare(price: str = "19.99", **members: object) -> Answer:
    async def answer(_api: "ProductApiServer", writer: asyncio.StreamWriter, number: int) -> None:
        reply(writer, product(number, price, **members).encode())

    return answer


def text(body: str | bytes, status: int = 200, headers: str = "") -> Answer:
    """Any body with any status: HTML, an error, a redirect."""
    raw = body.encode() if isinstance(body, str) else body

    async def answer(_api: "ProductApiServer", writer: asyncio.StreamWriter, _number: int) -> None:
        reply(writer, raw, status, headers)

    return answer


def status(code: int) -> Answer:
    return text('{"status": "ERROR", "message": "scripted"}', code)


def redirect(location: str) -> Answer:
    return text("", 302, f"Location: {location}\r\n")


def gzipped(body: bytes) -> Answer:
    return text(gzip.compress(body), headers="Content-Encoding: gzip\r\n")


def slowly(seconds: float, then: Answer) -> Answer:
    async def answer(api: "ProductApiServer", writer: asyncio.StreamWriter, number: int) -> None:
        await asyncio.sleep(seconds)
        await then(api, writer, number)

    return answer


async def hang(_api: "ProductApiServer", _writer: asyncio.StreamWriter, _number: int) -> None:
    """Takes the request and says nothing."""
    await asyncio.Event().wait()


async def cut(_api: "ProductApiServer", writer: asyncio.StreamWriter, _number: int) -> None:
    """Closes the connection without an answer."""
    writer.close()


async def cut_short(_api: "ProductApiServer", writer: asyncio.StreamWriter, number: int) -> None:
    """Closes the connection in the middle of the body."""
    body = product(number)
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body[:20]}".encode())
    await writer.drain()
    writer.close()


async def drip(_api: "ProductApiServer", writer: asyncio.StreamWriter, number: int) -> None:
    """A good answer, byte by byte: no read timeout ever fires, and its end is not lived to see."""
    body = product(number, description="y" * 10_000).encode()
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    for byte in body:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.1)


def flood(block: bytes, first: bytes = b"", headers: str = "") -> Answer:
    """100 MB of this block, as fast as they are read; ``api.sent`` counts what went out."""

    async def answer(api: "ProductApiServer", writer: asyncio.StreamWriter, _number: int) -> None:
        size = len(first) + 100_000_000 // len(block) * len(block)
        writer.write(f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {size}\r\n\r\n".encode() + first)
        while api.sent < size - len(first):
            writer.write(block)
            await writer.drain()
            api.sent += len(block)

    return answer


class ProductApiServer:
    """``async with ProductApiServer() as api``: ``api.url`` is the base URL, ``api.answers`` the script.

    ``api.answers[7] = [status(503), wrapped()]`` is used up front to back, and the last one stays; products
    without a script get ``api.default``. ``api.listing`` is the body for lists and categories.
    """

    def __init__(self) -> None:
        self.answers: dict[int, list[Answer]] = {}
        self.default: Answer = wrapped()
        self.listing: Answer = text('{"status": "SUCCESS", "products": []}')
        self.by_path: Answer | None = None
        """Answers every request, whatever its path."""
        self.requests: list[str] = []
        """Every request target, in order."""
        self.calls: Counter[int] = Counter()
        """Requests per product."""
        self.queries: list[dict[str, list[str]]] = []
        self.heads: list[str] = []
        self.sent = 0
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/api/products"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                await self._answer(head.split()[1], writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client left
        finally:
            writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        self.requests.append(target)
        parts = urlsplit(target)
        if self.by_path:
            await self.by_path(self, writer, 0)
            return
        last = parts.path.rsplit("/", 1)[-1]
        if not last.isdecimal():
            self.queries.append(parse_qs(parts.query))
            await self.listing(self, writer, 0)
            return
        number = int(last)
        self.calls[number] += 1
        script = self.answers.get(number, [self.default])
        await (script.pop(0) if len(script) > 1 else script[0])(self, writer, number)
