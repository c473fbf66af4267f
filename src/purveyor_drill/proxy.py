"""A TCP proxy on the loopback that injects faults into connections while they live."""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Self, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from purveyor_drill.servers.process import free_port

Direction = Literal["to_server", "to_client"]
Side = Literal["to_server", "to_client", "both"]
End = Literal["close", "reset", "hang"]
"""How a connection ends: FIN to both sides, RST to both, or open forever without another byte."""

_BACKLOG = 512
_CONNECT_S = 10.0
_CHUNK = 65_536
_CHUNKS = 16
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a proxy can do to connections."""


@dataclass(frozen=True, kw_only=True)
class Refuse(Fault):
    """New connections are refused. Live ones continue."""


@dataclass(frozen=True, kw_only=True)
class Blackhole(Fault):
    """Connections are accepted and stay open, but nothing passes until the fault is lifted.

    As in a network that loses every packet, neither side learns that the other has closed. Strikes once for each
    direction of each connection in which there is something to pass.
    """

    side: Side = "both"
    old_only: bool = False
    """Only connections that are older than the fault, as after a firewall has lost its state."""


@dataclass(frozen=True, kw_only=True)
class Latency(Fault):
    """Everything arrives ``delay_s`` seconds later, plus or minus up to ``jitter_s``, in order."""

    delay_s: float
    jitter_s: float = 0.0
    side: Side = "both"


@dataclass(frozen=True, kw_only=True)
class Reset(Fault):
    """RST to both sides of every connection: live ones at once, new ones as soon as they are accepted."""

    times: int | None = None
    """How many connections; ``None``: all."""


F = TypeVar("F", bound=Fault)


class ActiveFault(Generic[F]):
    """A fault, and how often it may still strike; ``generation`` counts the calls of ``set``."""

    def __init__(self, fault: F, generation: int) -> None:
        self.fault = fault
        self.generation = generation
        self._left: int | None = getattr(fault, "times", None)

    @property
    def spent(self) -> bool:
        """Whether it has no strike left."""
        return self._left == 0

    def take(self) -> None:
        """Use up one strike."""
        if self._left:
            self._left -= 1


class ActiveFaults:
    """The faults of a proxy now; its connections look here before every byte."""

    def __init__(self) -> None:
        self._active: Sequence[ActiveFault[Fault]] = ()
        self.generation = 0
        self._changed = asyncio.Event()
        self._struck = asyncio.Event()
        self.strikes = 0

    def set(self, faults: Sequence[Fault]) -> None:
        """Replace all faults; strikes count from zero again."""
        self.generation += 1
        self._active = [ActiveFault(fault, self.generation) for fault in faults]
        self.strikes = 0
        self._changed.set()
        self._changed = asyncio.Event()

    def find(self, kind: type[F], direction: Direction | None = None) -> ActiveFault[F] | None:
        """The fault of this kind for this direction, if it has a strike left."""
        for active in self._active:
            if isinstance(active.fault, kind) and not active.spent:
                side = getattr(active.fault, "side", "both")
                if direction is None or side in {"both", direction}:
                    return cast("ActiveFault[F]", active)
        return None

    def blackhole(self, direction: Direction, born: int) -> ActiveFault[Blackhole] | None:
        """The one that holds a connection made in generation ``born``."""
        active = self.find(Blackhole, direction)
        return None if active is None or (active.fault.old_only and born >= active.generation) else active

    async def changed(self) -> None:
        """Wait for the next ``set``."""
        await self._changed.wait()

    def strike(self) -> None:
        """Count one strike."""
        self.strikes += 1
        self._struck.set()
        self._struck = asyncio.Event()

    async def struck(self, times: int) -> None:
        """Wait until there were so many strikes since the last ``set``."""
        while self.strikes < times:
            await self._struck.wait()


class Ended(Exception):
    """The connection is over, and how."""

    def __init__(self, how: End) -> None:
        super().__init__(how)
        self.how: End = how


class Pipe:
    """One direction of a connection: reads at once, and writes what the faults let through, when they do.

    It holds at most 17 chunks of 64 KiB; then its reader waits.
    """

    def __init__(
        self,
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
        faults: ActiveFaults,
        count: Callable[[Direction, int], None],
    ) -> None:
        self._direction: Direction = direction
        self._source, self._sink = source, sink
        self._faults, self._count = faults, count
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)
        self._born = faults.generation
        self._held_by: ActiveFault[Blackhole] | None = None

    async def read(self) -> None:
        """Read until the source ends its half. Raises ``Ended`` if it resets the connection."""
        with contextlib.suppress(ConnectionError):
            while data := await self._loop.sock_recv(self._source, _CHUNK):
                await self._chunks.put((self._loop.time(), data))
            await self._chunks.put((self._loop.time(), b""))
            return
        await self._hold()
        raise Ended("reset")

    async def write(self) -> None:
        """Write until the source has ended its half. Raises ``Ended`` when the connection is over."""
        while True:
            read_at, data = await self._chunks.get()
            await self._delay(read_at)
            if not data:
                break
            await self._forward(data)
        await self._hold()
        await self._finish()
        with contextlib.suppress(OSError):  # the sink is gone
            self._sink.shutdown(socket.SHUT_WR)

    async def _forward(self, data: bytes) -> None:
        """Pass data on; for subclasses with more faults."""
        await self._hold()
        await self._send(data)

    async def _finish(self) -> None:
        """Do nothing before the sink learns that the source has ended its half; for subclasses."""

    async def _delay(self, read_at: float) -> None:
        if active := self._faults.find(Latency, self._direction):
            fault = active.fault
            due = read_at + fault.delay_s + random.uniform(-fault.jitter_s, fault.jitter_s)
            await asyncio.sleep(max(0.0, due - self._loop.time()))

    async def _hold(self) -> None:
        """Wait as long as a blackhole is active."""
        while active := self._faults.blackhole(self._direction, self._born):
            if self._held_by is not active:
                self._held_by = active
                self._faults.strike()
            await self._faults.changed()

    async def _send(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._sink, data)
        except OSError as error:
            raise Ended("reset") from error
        self._count(self._direction, len(data))


class Connection:
    """Ends when both halves have ended, on ``reset``, or when ``run`` is cancelled."""

    def __init__(
        self, client: socket.socket, faults: ActiveFaults, count: Callable[[Direction, int], None]
    ) -> None:
        self._client, self._faults, self._count = client, faults, count
        self._server: socket.socket | None = None
        self._over: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def reset(self) -> None:
        """RST to both sides."""
        if not self._over.done():
            self._over.set_result("reset")

    def reset_if_active(self) -> None:
        """``reset`` if that fault is active and has a strike left."""
        active = self._faults.find(Reset)
        if active is not None and not self._over.done():
            active.take()
            self._faults.strike()
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
            self._close(how)

    async def _work(self, connect: Callable[[], Awaitable[socket.socket]]) -> End:
        born = self._faults.generation
        if self._faults.blackhole("to_server", born):
            self._faults.strike()
            while self._faults.blackhole("to_server", born):
                await self._faults.changed()
        try:
            async with asyncio.timeout(_CONNECT_S):
                self._server = await connect()
        except OSError:  # TimeoutError is one
            return "reset"
        return await self._exchange(self._server)

    async def _exchange(self, server: socket.socket) -> End:
        """Pass on data both ways; how it ended."""
        try:
            async with asyncio.TaskGroup() as group:
                for pipe in self._pipes(server):
                    group.create_task(pipe.read())
                    group.create_task(pipe.write())
        except* Ended as ended:
            (first, *_) = ended.exceptions
            how: End = first.how if isinstance(first, Ended) else "close"
        else:
            how = "close"
        return how

    def _pipes(self, server: socket.socket) -> tuple[Pipe, Pipe]:
        return (
            Pipe("to_server", self._client, server, self._faults, self._count),
            Pipe("to_client", server, self._client, self._faults, self._count),
        )

    def _close(self, how: End) -> None:
        for side in (self._client, self._server):
            if side is not None:
                if how == "reset" and side.family != socket.AF_UNIX:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
                side.close()


class Proxy:
    """``async with Proxy(host, port) as proxy``: clients of ``proxy.port`` talk to the server there.

    Faults can be set, changed and cleared while connections live. All methods belong to the event loop that
    entered it.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        """``host`` may be the path of a unix socket."""
        self.target = (host, port)
        """Where new connections lead; may be changed."""
        self.port = 0
        """Where it listens, on 127.0.0.1; the same for its whole life, also after ``Refuse``."""
        self.accepted = 0
        """How many connections there were."""
        self.passed: Counter[Direction] = Counter()
        """How many bytes were passed on, each way."""
        self._faults = ActiveFaults()
        self._listening: socket.socket | None = None
        self._live: dict[asyncio.Task[None], Connection] = {}

    @property
    def live(self) -> int:
        """How many connections there are now."""
        return len(self._live)

    @property
    def strikes(self) -> int:
        """How often faults that count their strikes have struck since the last ``set``."""
        return self._faults.strikes

    def set(self, *faults: Fault) -> None:
        """Replace all faults."""
        self._faults.set(faults)
        if self._faults.find(Refuse):
            self._stop_listening()
        elif self._listening is None:
            self._listen()
        for connection in self._live.values():
            connection.reset_if_active()

    def clear(self) -> None:
        """Remove all faults. Connections that have ended stay ended."""
        self.set()

    def drop(self) -> None:
        """RST to both sides of all connections that live now. New ones are accepted, and nothing strikes."""
        for connection in self._live.values():
            connection.reset()

    async def struck(self, times: int = 1, *, within_s: float = 30.0) -> None:
        """Wait until the faults have struck so often since the last ``set``. Raises ``TimeoutError``."""
        async with asyncio.timeout(within_s):
            await self._faults.struck(times)

    def through(self, url: str) -> str:
        """The same URL, but through this proxy."""
        return with_port(url, self.port)

    async def __aenter__(self) -> Self:
        self.port = free_port()
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_listening()
        for task in self._live:
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)

    def _connection(self, client: socket.socket) -> Connection:
        return Connection(client, self._faults, self._add_passed)

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
        self.accepted += 1
        connection = self._connection(client)
        task = asyncio.get_running_loop().create_task(connection.run(self._connect))
        self._live[task] = connection
        task.add_done_callback(self._live.pop)

    async def _connect(self) -> socket.socket:
        host, port = self.target
        server = socket.socket(socket.AF_UNIX if host.startswith("/") else socket.AF_INET)
        try:
            _prepare(server)
            address = host if server.family == socket.AF_UNIX else (host, port)
            await asyncio.get_running_loop().sock_connect(server, address)
        except BaseException:
            server.close()
            raise
        return server

    def _add_passed(self, direction: Direction, size: int) -> None:
        self.passed[direction] += size


def with_port(url: str, port: int) -> str:
    """The same URL, but with this port of 127.0.0.1."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))


def _prepare(side: socket.socket) -> None:
    side.settimeout(0)
    if side.family != socket.AF_UNIX:
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
