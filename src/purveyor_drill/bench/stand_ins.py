"""The mail server and the product API of a benchmark, which run in its own process."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import cast

_EHLO = b"250-sink\r\n250-SIZE 33554432\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 SMTPUTF8\r\n"
_REPLIES = {b"EHLO": _EHLO, b"DATA": b"354 go on\r\n", b"QUIT": b"221 2.0.0 bye\r\n"}
_OK = b"250 2.0.0 ok\r\n"
_PRODUCTS = 150


async def _listen(make: Callable[[], asyncio.Protocol]) -> tuple[asyncio.Server, int]:
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


class MailSink:
    """An SMTP server (RFC 5321) that accepts every email, counts it and forgets it."""

    def __init__(self) -> None:
        self.accepted = 0
        self.last_at = 0.0
        """``time.monotonic()`` of the last accepted email."""

    async def open(self) -> None:
        """Listen on a free port."""
        self._server, self.port = await _listen(lambda: _Mail(self))

    def close(self) -> None:
        self._server.close()

    def accept(self) -> None:
        self.accepted += 1
        self.last_at = time.monotonic()


class _Mail(asyncio.Protocol):
    def __init__(self, sink: MailSink) -> None:
        self._sink = sink
        self._received = b""
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._received += data
        replies = []
        while (reply := self._next_reply()) is not None:
            replies.append(reply)
        if replies:
            self._transport.write(b"".join(replies))

    def _next_reply(self) -> bytes | None:
        """The reply to the next whole command or content; ``None`` until more has come."""
        line, end, rest = self._received.partition(b"\r\n.\r\n" if self._in_data else b"\r\n")
        if not end:
            return None
        self._received = rest
        if self._in_data:
            self._in_data = False
            self._sink.accept()
            return _OK
        verb = line[:4].upper()
        self._in_data = verb == b"DATA"
        return _REPLIES.get(verb, _OK)


class ProductApi:
    """Products 1 to 150 in the shape of fakestoreapi.in, under any path that ends in their number."""

    def __init__(self) -> None:
        self.answers = {str(number).encode(): _answer(200, _product(number)) for number in range(1, _PRODUCTS + 1)}

    async def open(self) -> None:
        """Listen on a free port."""
        self._server, self.port = await _listen(lambda: _Products(self.answers))

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/api/products"

    def close(self) -> None:
        self._server.close()


class _Products(asyncio.Protocol):
    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        for request in requests:
            path = request.split(b" ", 2)[1].partition(b"?")[0]
            self._transport.write(self._answers.get(path.rpartition(b"/")[2], _MISSING))


def _product(number: int) -> dict[str, object]:
    product = {
        "id": number,
        "title": f"Product {number} with a title of the usual length",
        "image": f"https://example.com/{number}.png",
        "price": 10 + number * 37 % 990,
        "description": "A product. " * 20,
        "brand": "Acme",
        "model": f"M{number}",
        "color": "black",
        "category": "audio",
        "discount": number % 30,
    }
    return {"status": "SUCCESS", "message": f"Here is product {number}.", "product": product}


def _answer(status: int, content: object) -> bytes:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_MISSING = _answer(404, {"status": "ERROR", "message": "No such product"})
