"""The drill's proxy with a protocol that it follows, faults for one direction or a few times, and counts."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar, cast

from faults.proxy.conversation import Opaque, Piece, Speaks
from faults.proxy.faults import Bandwidth, Blackhole, Cut, Reset, Slicer, SlowClose, Swallow
from purveyor_drill import proxy
from purveyor_drill.proxy import Direction, End, Ended, Fault, with_port

_TICK_S = 0.05

F = TypeVar("F", bound=Fault)


class ActiveFault(Generic[F]):
    """A fault, and how often it may still strike; ``generation`` counts the calls of ``set``."""

    def __init__(self, fault: F, generation: int) -> None:
        self.fault = fault
        self.generation = generation
        self._left: int | None = getattr(fault, "times", None)

    @property
    def spent(self) -> bool:
        return self._left == 0

    def take(self) -> None:
        """Use up one strike."""
        if self._left:
            self._left -= 1


class ActiveFaults(proxy.ActiveFaults):
    """Counts strikes from the last ``set``."""

    def __init__(self) -> None:
        super().__init__()
        self._active: Sequence[ActiveFault[Fault]] = ()
        self.generation = 0
        self.strikes = 0
        self._struck = asyncio.Event()

    def set(self, faults: Sequence[Fault]) -> None:
        self.generation += 1
        self.strikes = 0
        self._active = [ActiveFault(fault, self.generation) for fault in faults]
        super().set(faults)

    def active(self, kind: type[F], direction: Direction | None = None) -> ActiveFault[F] | None:
        """The fault of this kind for this direction, if it has a strike left."""
        for active in self._active:
            if isinstance(active.fault, kind) and not active.spent:
                side = getattr(active.fault, "side", "both")
                if direction is None or side in {"both", direction}:
                    return cast("ActiveFault[F]", active)
        return None

    def blackhole(self, direction: Direction, born: int) -> ActiveFault[Blackhole] | None:
        """The one that holds a connection made in generation ``born``."""
        active = self.active(Blackhole, direction)
        return None if active is None or (active.fault.old_only and born >= active.generation) else active

    def strike(self) -> None:
        self.strikes += 1
        self._struck.set()
        self._struck = asyncio.Event()

    async def struck(self, times: int) -> None:
        while self.strikes < times:
            await self._struck.wait()


class Proxy(proxy.Proxy):
    """``host`` may be the path of a unix socket. ``speaks`` follows the protocol (``amqp.Amqp`` and so on)."""

    faults: ActiveFaults

    def __init__(self, host: str, port: int = 0, *, speaks: Speaks = Opaque) -> None:
        super().__init__(host, port)
        self.faults = ActiveFaults()
        self.accepted = 0
        self.passed: Counter[Direction] = Counter()
        """How many bytes were passed on, each way."""
        self._speaks = speaks

    @property
    def live(self) -> int:
        """How many connections there are now."""
        return len(self.connections)

    @property
    def strikes(self) -> int:
        """How often ``Blackhole``, ``Reset``, ``Cut`` and ``Swallow`` have struck since the last ``set``."""
        return self.faults.strikes

    def clear(self) -> None:
        """Remove all faults. Connections that have ended stay ended."""
        self.set()

    def drop(self) -> None:
        """RST to both sides of all connections that live now. New ones are accepted, and nothing strikes."""
        for connection in self.connections.values():
            connection.reset()

    async def struck(self, times: int = 1, *, within_s: float = 30.0) -> None:
        """Wait until the faults have struck so often since the last ``set``. Raises ``TimeoutError``."""
        async with asyncio.timeout(within_s):
            await self.faults.struck(times)

    def through(self, url: str) -> str:
        """The same URL, but through this proxy."""
        return with_port(url, self.port)

    def connection(self, client: socket.socket) -> "Connection":
        self.accepted += 1
        return Connection(client, self.faults, self._speaks, self.passed)

    async def connect(self) -> socket.socket:
        if not self.target[0].startswith("/"):
            return await super().connect()
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(0)
        try:
            await asyncio.get_running_loop().sock_connect(server, self.target[0])
        except BaseException:
            server.close()
            raise
        return server


class Connection(proxy.Connection):
    faults: ActiveFaults

    def __init__(
        self, client: socket.socket, faults: ActiveFaults, speaks: Speaks, passed: Counter[Direction]
    ) -> None:
        super().__init__(client, faults)
        self._conversation = speaks()
        self._passed = passed

    def reset_if_active(self) -> None:
        active = self.faults.active(Reset)
        if active is not None and self.reset():
            active.take()
            self.faults.strike()

    async def hold(self) -> None:
        born = self.faults.generation
        if self.faults.blackhole("to_server", born):
            self.faults.strike()
            while self.faults.blackhole("to_server", born):
                await self.faults.changed()

    def pipes(self, server: socket.socket) -> "Sequence[Pipe]":
        conversation, client = self._conversation, self.client
        to_server = Pipe("to_server", client, server, self.faults)
        to_client = Pipe("to_client", server, client, self.faults)
        to_server.follow, to_client.follow = conversation.to_server, conversation.to_client
        to_server.passed = to_client.passed = self._passed
        return to_server, to_client

    async def exchange(self, server: socket.socket) -> End:
        """``hang``: neither side hears another byte, until one of them gives up."""
        how = await super().exchange(server)
        if how == "hang":
            discarding = {asyncio.create_task(_discard(side)) for side in (self.client, server)}
            try:
                await asyncio.wait(discarding, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in discarding:
                    task.cancel()
                await asyncio.gather(*discarding, return_exceptions=True)
        return how


class Pipe(proxy.Pipe):
    faults: ActiveFaults
    follow: Callable[[bytes], Iterable[Piece]]
    passed: Counter[Direction]

    def __init__(
        self, direction: Direction, source: socket.socket, sink: socket.socket, faults: ActiveFaults
    ) -> None:
        super().__init__(direction, source, sink, faults)
        self._born = faults.generation
        self._held_by: ActiveFault[Blackhole] | None = None
        self._swallowing: ActiveFault[Swallow] | None = None
        self._cutting: ActiveFault[Cut] | None = None
        self._before_cut = 0

    def find(self, kind: type[F]) -> F | None:
        active = self.faults.active(kind, self.direction)
        return active and active.fault

    async def hold(self) -> None:
        while active := self.faults.blackhole(self.direction, self._born):
            if self._held_by is not active:
                self._held_by = active
                self.faults.strike()
            await self.faults.changed()

    async def forward(self, data: bytes) -> None:
        for piece in self.follow(data):
            await self.hold()
            if not self._swallow(piece):
                await self._cut(piece.data)

    async def finish(self) -> None:
        if slow := self.find(SlowClose):
            await asyncio.sleep(slow.delay_s)

    def _swallow(self, piece: Piece) -> bool:
        """Whether this piece is withheld."""
        if self._swallowing is None:
            active = self.faults.active(Swallow, self.direction)
            if active is None or not active.fault.finds(piece.about):
                return False
            active.take()
            self._swallowing = active
        if piece.last:
            end, self._swallowing = self._swallowing.fault.end, None
            self.faults.strike()
            raise Ended(end)
        return True

    async def _cut(self, data: bytes) -> None:
        active = self.faults.active(Cut, self.direction)
        if active is None:
            await self._slice(data)
            return
        if self._cutting is not active:
            self._cutting, self._before_cut = active, active.fault.after_bytes
        await self._slice(data[: self._before_cut])
        self._before_cut -= len(data)
        if self._before_cut <= 0 and not active.spent:
            active.take()
            self.faults.strike()
            raise Ended(active.fault.end)

    async def _slice(self, data: bytes) -> None:
        for part, pause_s in self._parts(data):
            await self.send(part)
            self.passed[self.direction] += len(part)
            if pause_s:
                await asyncio.sleep(pause_s)

    def _parts(self, data: bytes) -> Iterator[tuple[bytes, float]]:
        """The pieces to write, each with the pause after it, in seconds."""
        rest = memoryview(data)
        while rest:
            size, pause_s = len(rest), 0.0
            if slicer := self.find(Slicer):
                size, pause_s = min(size, slicer.size), slicer.pause_s
            if bandwidth := self.find(Bandwidth):
                rate = bandwidth.bytes_per_s
                size = min(size, max(1, int(rate * _TICK_S)))
                pause_s = max(pause_s, size / rate)
            yield bytes(rest[:size]), pause_s
            rest = rest[size:]


async def _discard(source: socket.socket) -> None:
    """Read until the other side ends the connection."""
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(source, 65_536):
            pass
    except ConnectionError:
        return
