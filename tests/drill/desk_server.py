"""A shop with one order in memory, for the clients of the drill's order desk. It can be broken on purpose."""

import asyncio
import json
from collections.abc import Mapping
from typing import Literal, Self

from purveyor_drill.observations import OrderHistory

ORDER = "order-1"
Build = Literal["right", "ignores If-Match", "writes blindly", "reads from a stale copy"]
_DROPPED = 5
"""Every fifth change ends without an answer, half of them after it was stored."""


class DeskServer:
    """Serves on a free port. ``requests`` counts requests, ``lost_answers`` changes stored without an answer."""

    def __init__(self, build: Build) -> None:
        self.port = 0
        self.requests = 0
        self.lost_answers = 0
        self._build = build
        self._states = ["unpaid"]
        self._changes: list[str] = []
        self._asked_to_change = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def history(self) -> OrderHistory:
        return OrderHistory(
            order_id=ORDER,
            version=len(self._states),
            payment_status=self._states[-1],
            changes=tuple(self._changes),
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while answer := await self._answer(reader):
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass  # the client is done
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        """The answer to the next request; empty to close the connection without one."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *fields = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])) or "{}")
        self.requests += 1
        if "/login" in first:
            return _http(200, 0, {"access_token": "token", "expires_in": 600})
        if first.startswith("GET"):
            stale = self._build == "reads from a stale copy" and self.requests % 2 and len(self._states) > 1
            return self._order(len(self._states) - bool(stale))
        return await self._change(headers, body["payment_status"])

    async def _change(self, headers: Mapping[str, str], state: str) -> bytes:
        self._asked_to_change += 1
        dropped = self._asked_to_change % _DROPPED == 0
        if dropped and self._asked_to_change % 2:
            return b""
        base = int(headers["if-match"].strip('"'))
        if self._build != "ignores If-Match" and base != len(self._states):
            return _http(412, len(self._states), {})
        version = len(self._states) + 1
        if self._build == "writes blindly":
            await asyncio.sleep(0.002)
            del self._states[base:], self._changes[base - 1 :]
        self._states.append(state)
        self._changes.append(headers["x-request-id"])
        self.lost_answers += dropped
        return b"" if dropped else self._order(version)

    def _order(self, version: int) -> bytes:
        return _http(200, version, {"payment_status": self._states[version - 1]})


def _http(status: int, version: int, content: Mapping[str, object]) -> bytes:
    body = json.dumps(content).encode()
    return f'HTTP/1.1 {status} -\r\nETag: "{version}"\r\nContent-Length: {len(body)}\r\n\r\n'.encode() + body
