"""A TCP proxy on the loopback that injects faults into connections while they live."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from purveyor_drill.servers.process import free_port

Direction = Literal["to_server", "to_client"]
End = Literal["close", "reset", "hang"]
"""The ways to end a connection: FIN to both sides, RST to both, or open forever without another byte."""

_BACKLOG = 512
_CONNECT_S = 10.0
_CHUNK = 65_536
_CHUNKS = 16
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault that a proxy can inject into connections."""


@dataclass(frozen=True, kw_only=True)
class Refuse(Fault):
    """New connections are refused. Live ones continue."""


@dataclass(frozen=True, kw_only=True)
class Blackhole(Fault):
    """Connections are accepted and stay open, but nothing passes until the fault is lifted.

    As in a network that loses every packet, neither side learns that the other has closed.
    """


@dataclass(frozen=True, kw_only=True)
class Latency(Fault):
    """Everything arrives ``delay_s`` seconds later, plus or minus up to ``jitter_s``, in order."""

    delay_s: float
    jitter_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Reset(Fault):
    """RST to both sides of every connection: live ones at once, new ones as soon as they are accepted."""


F = TypeVar("F", bound=Fault)


class ActiveFaults:
    """The faults of a proxy now; its connections look here before every byte."""

    def __init__(self) -> None:
        self._faults: Sequence[Fault] = ()
        self._changed = asyncio.Event()

    def set(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._changed.set()
        self._changed = asyncio.Event()

    def find(self, kind: type[F]) -> F | None:
        return next((fault for fault in self._faults if isinstance(fault, kind)), None)

    async def hold(self) -> None:
        """Wait as long as a blackhole is active."""
        while self.find(Blackhole):
            await self.changed()

    async def changed(self) -> None:
        """Wait for the next ``set``."""
        await self._changed.wait()


class Ended(Exception):
    """The connection is over, and how."""

    def __init__(self, how: End) -> None:
        super().__init__(how)
        self.how: End = how


class Pipe:
    """One direction of a connection: reads at once, and writes what the faults let through, when they do.

    It holds at most 17 chunks of 64 KiB; then its reader waits. Subclasses add faults.
    """

    def __init__(
        self, direction: Direction, source: socket.socket, sink: socket.socket, faults: ActiveFaults
    ) -> None:
        self.direction: Direction = direction
        self.faults = faults
        self._source, self._sink = source, sink
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)

    async def read(self) -> None:
        """Read until the source ends its half. Raises ``Ended`` if it resets the connection."""
        with contextlib.suppress(ConnectionError):
            while data := await self._loop.sock_recv(self._source, _CHUNK):
                await self._chunks.put((self._loop.time(), data))
            await self._chunks.put((self._loop.time(), b""))
            return
        await self.hold()
        raise Ended("reset")

    async def write(self) -> None:
        """Write until the source has ended its half. Raises ``Ended`` when the connection is over."""
        while True:
            read_at, data = await self._chunks.get()
            if fault := self.find(Latency):
                due = read_at + fault.delay_s + random.uniform(-fault.jitter_s, fault.jitter_s)
                await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not data:
                break
            await self.forward(data)
        await self.hold()
        await self.finish()
        with contextlib.suppress(OSError):  # the sink is gone
            self._sink.shutdown(socket.SHUT_WR)

    def find(self, kind: type[F]) -> F | None:
        """The active fault of this kind for this direction."""
        return self.faults.find(kind)

    async def hold(self) -> None:
        """Wait as long as a blackhole is active for this direction."""
        await self.faults.hold()

    async def forward(self, data: bytes) -> None:
        await self.hold()
        await self.send(data)

    async def send(self, data: bytes) -> None:
        """Write to the sink. Raises ``Ended``."""
        try:
            await self._loop.sock_sendall(self._sink, data)
        except OSError as error:
            raise Ended("reset") from error

    async def finish(self) -> None:
        """Called before the sink learns that the source has ended its half."""


class Connection:
    """Ends when both halves have ended, on ``reset``, or when ``run`` is cancelled."""

    def __init__(self, client: socket.socket, faults: ActiveFaults) -> None:
        self.client, self.faults = client, faults
        self._server: socket.socket | None = None
        self._over: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def reset(self) -> bool:
        """RST to both sides; whether it was still alive."""
        alive = not self._over.done()
        if alive:
            self._over.set_result("reset")
        return alive

    def reset_if_active(self) -> None:
        if self.faults.find(Reset):
            self.reset()

    async def run(self, connect: Callable[[], Awaitable[socket.socket]]) -> None:
        """Connect to the server, and pass on data until it is over."""
        how: End = "reset"
        work = asyncio.create_task(self._work(connect))
        try:
            self.reset_if_active()
            ended, _ = await asyncio.wait({work, self._over}, return_when=asyncio.FIRST_COMPLETED)
            how = ended.pop().result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            for side in (self.client, self._server):
                if side is not None:
                    if how == "reset":
                        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
                    side.close()

    async def _work(self, connect: Callable[[], Awaitable[socket.socket]]) -> End:
        await self.hold()
        try:
            async with asyncio.timeout(_CONNECT_S):
                self._server = await connect()
        except OSError:  # TimeoutError is one
            return "reset"
        return await self.exchange(self._server)

    async def hold(self) -> None:
        """Wait as long as a blackhole keeps it from the server."""
        await self.faults.hold()

    async def exchange(self, server: socket.socket) -> End:
        """Pass on data both ways; how it ended."""
        how: End = "close"
        try:
            async with asyncio.TaskGroup() as group:
                for pipe in self.pipes(server):
                    group.create_task(pipe.read())
                    group.create_task(pipe.write())
        except* Ended as ended:
            (first, *_) = ended.exceptions
            if isinstance(first, Ended):
                how = first.how
        return how

    def pipes(self, server: socket.socket) -> Sequence[Pipe]:
        return Pipe("to_server", self.client, server, self.faults), Pipe(
            "to_client", server, self.client, self.faults
        )


class Proxy:
    """``async with Proxy(host, port) as proxy``: clients of ``proxy.port`` talk to the server there.

    Faults can be set, changed and cleared while connections live. All methods belong to the event loop that
    entered it.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        """Target of new connections; may be changed."""
        self.port = 0
        """Port on 127.0.0.1; the same for its whole life, also after ``Refuse``."""
        self.faults = ActiveFaults()
        self.connections: dict[asyncio.Task[None], Connection] = {}
        self._listening: socket.socket | None = None

    def set(self, *faults: Fault) -> None:
        self.faults.set(faults)
        if self.faults.find(Refuse):
            self._stop_listening()
        elif self._listening is None:
            self._listen()
        for connection in self.connections.values():
            connection.reset_if_active()

    async def __aenter__(self) -> Self:
        self.port = free_port()
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_listening()
        for connection in self.connections.values():  # cancelling one that is about to end would cut off its end
            connection.reset()
        await asyncio.gather(*self.connections, return_exceptions=True)

    def connection(self, client: socket.socket) -> Connection:
        """A client's connection that has just been accepted."""
        return Connection(client, self.faults)

    async def connect(self) -> socket.socket:
        """Connect to the server. Raises ``OSError``."""
        server = socket.socket()
        try:
            _prepare(server)
            await asyncio.get_running_loop().sock_connect(server, self.target)
        except BaseException:
            server.close()
            raise
        return server

    def _listen(self) -> None:
        listening = socket.socket()
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.settimeout(0)
            listening.bind(("127.0.0.1", self.port))
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
        self._listening = listening
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _stop_listening(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except OSError:  # it went away while it waited
            return
        _prepare(client)
        connection = self.connection(client)
        task = asyncio.get_running_loop().create_task(connection.run(self.connect))
        self.connections[task] = connection
        task.add_done_callback(self.connections.pop)


def with_port(url: str, port: int) -> str:
    """The same URL, but with this port of 127.0.0.1."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))


def _prepare(side: socket.socket) -> None:
    side.settimeout(0)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
