"""An auth service of somebody else's: the seed's routes, and answers of its own."""

import asyncio
import json
import secrets
from types import TracebackType
from typing import Any, Self

_REASONS = {200: "OK", 401: "Unauthorized", 404: "Not Found"}


class ForeignAuth:
    """Serves ``POST /verify-token`` on loopback: ``{"id": 17, "email": ..., "name": ...}``, or 401."""

    def __init__(self) -> None:
        self._users: dict[str, dict[str, Any]] = {}

    def token_for(self, user_id: int, email: str, name: str) -> str:
        """A token that means nothing to anybody else."""
        token = secrets.token_hex(16)
        self._users[token] = {"id": user_id, "email": email, "name": name, "address": None}
        return token

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            await reader.readexactly(int(headers.get("content-length", "0")))
            status, body = self._answer(lines[0], headers)
            answer = json.dumps(body).encode()
            writer.write(
                f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(answer)}\r\n\r\n".encode()
                + answer
            )
            await writer.drain()

    def _answer(self, request: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if not request.startswith("POST /verify-token "):
            return 404, {"detail": "Not Found"}
        user = self._users.get(headers.get("authorization", "").removeprefix("Bearer "))
        return (200, user) if user else (401, {"detail": "Invalid token"})
