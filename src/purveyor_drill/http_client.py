"""A small HTTP/1.1 client (RFC 9112): the load must cost less than the server under test.

Keep-alive, but no pipelining, redirect or retry: the drill must see every answer.
"""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

ATTEMPT_TIMEOUT_S = 6.0
_KEPT = 64
_LIMIT = 1024 * 1024

_Connection: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NoAnswer(Exception):
    """The connection was refused, broke off or gave nonsense; what the server did is unknown."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HttpClient:
    """Talks to processes on this machine by port."""

    def __init__(self) -> None:
        self._idle: defaultdict[int, list[_Connection]] = defaultdict(list)

    async def request(
        self, port: int, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request, without a deadline. Raises ``NoAnswer``; if cancelled, the connection is closed."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(content)}"]
        lines += ["Content-Type: application/json"] if content else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        connection = await self._connect(port)
        kept = False
        try:
            connection[1].write("\r\n".join([*lines, "", ""]).encode() + content)
            answer = await _read(connection[0])
            kept = answer.headers.get("connection") != "close" and len(self._idle[port]) < _KEPT
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise NoAnswer(type(error).__name__) from error
        finally:
            if kept:
                self._idle[port].append(connection)
            else:
                connection[1].close()
        return answer

    async def attempt(
        self, port: int, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Answer | None, str]:
        """Send one request and wait 6 s; the answer, or ``None`` and the name of the error."""
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                return await self.request(port, method, path, body=body, headers=headers), ""
        except NoAnswer as problem:
            return None, str(problem)
        except TimeoutError:
            return None, "TimeoutError"

    async def _connect(self, port: int) -> _Connection:
        while self._idle[port]:
            kept = self._idle[port].pop()
            if not kept[0].at_eof() and not kept[1].is_closing():
                return kept
            kept[1].close()
        try:
            return await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT)
        except OSError as error:
            raise NoAnswer(type(error).__name__) from error

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection[1].close()
                with contextlib.suppress(OSError):
                    await connection[1].wait_closed()


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *fields = head.rstrip("\r\n").split("\r\n")
    headers = {}
    for field in fields:
        name, _, value = field.partition(":")
        headers[name.strip().lower()] = value.strip()
    status = int(first.split(" ", 2)[1])
    return Answer(status, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
