"""A proxy in front of PostgreSQL that counts round trips, so that a test can hold a budget of them.

The messages are those of the PostgreSQL manual, "Frontend/Backend Protocol", version 3.
"""

import asyncio
import contextlib
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_AWAITED: Final = b"QSHF"
"""Query, Sync, Flush and FunctionCall: after each of these the client waits for the server's answer."""

_PROTOCOL_3: Final = 3
_DEFAULT_PORT: Final = 5432
_CHUNK: Final = 65_536


class RoundTrips:
    """``async with RoundTrips(dsn) as proxy``: clients of ``proxy.dsn`` are counted in ``proxy.count``.

    For TCP and for unix sockets (``?host=/folder``), without TLS. Connecting is not counted. asyncpg needs
    two round trips (Flush, then Sync) for a statement that it has not prepared yet, and one afterwards.
    """

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._query = dict(parse_qsl(self._target.query))
        self._sessions: set[asyncio.Task[None]] = set()
        self._folder: Path | None = None
        self.dsn = ""
        self.count = 0

    def reset(self) -> None:
        """Count from zero again."""
        self.count = 0

    async def __aenter__(self) -> Self:
        if self._socket_folder is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            port = self._server.sockets[0].getsockname()[1]
            credentials = self._target.netloc.rpartition("@")[0]
            netloc = f"{credentials}@127.0.0.1:{port}" if credentials else f"127.0.0.1:{port}"
            self.dsn = self._rewritten(netloc, self._query | {"sslmode": "disable"})
        else:
            self._folder = Path(tempfile.mkdtemp(prefix="roundtrips-"))
            socket = self._folder / f".s.PGSQL.{self._port}"
            self._server = await asyncio.start_unix_server(self._accept, socket)
            self.dsn = self._rewritten(self._target.netloc, self._query | {"host": str(self._folder)})
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self._server.wait_closed()
        if self._folder is not None:
            shutil.rmtree(self._folder)

    @property
    def _socket_folder(self) -> str | None:
        host = self._query.get("host") or self._target.hostname or ""
        return host if host.startswith("/") else None

    @property
    def _port(self) -> int:
        return int(self._query.get("port") or self._target.port or _DEFAULT_PORT)

    def _rewritten(self, netloc: str, query: dict[str, str]) -> str:
        return urlunsplit(self._target._replace(netloc=netloc, query=urlencode(query, safe="/")))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._socket_folder is not None:
            return await asyncio.open_unix_connection(f"{self._socket_folder}/.s.PGSQL.{self._port}")
        return await asyncio.open_connection(self._target.hostname or "127.0.0.1", self._port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.create_task(self._serve(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                server_reader, server_writer = await self._connect()
            except OSError:
                return  # the client sees a closed connection, as of a server that is down
            with contextlib.closing(server_writer):
                pumps = {
                    asyncio.create_task(self._pump(reader, server_writer, FrontendMessages())),
                    asyncio.create_task(self._pump(server_reader, writer, None)),
                }
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: "FrontendMessages | None"
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(_CHUNK):
                if counted is not None:
                    self.count += counted.feed(data)
                sink.write(data)
                await sink.drain()


class FrontendMessages:
    """Reads one client's half of a connection, in pieces of any size, and finds the ends of round trips."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._started = False

    def feed(self, data: bytes) -> int:
        """Take the next bytes; returns how many messages ended in them that the client waits for."""
        self._pending += data
        awaited = 0
        while (length := self._length()) <= len(self._pending):
            if self._started:
                awaited += self._pending[0] in _AWAITED
            else:
                # Before StartupMessage there may be an SSLRequest or a GSSENCRequest, of version 1234.
                self._started = struct.unpack_from("!H", self._pending, 4)[0] == _PROTOCOL_3
            del self._pending[:length]
        return awaited

    def _length(self) -> int:
        """Length of the message at the front, its type byte included; more than we have if not known yet."""
        type_bytes = 1 if self._started else 0
        if len(self._pending) < type_bytes + 4:
            return len(self._pending) + 1
        return type_bytes + int(struct.unpack_from("!I", self._pending, type_bytes)[0])
