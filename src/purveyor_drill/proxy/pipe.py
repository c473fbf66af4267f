"""One direction of a proxied connection: reads on at once, and writes when and what the faults let through."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterable, Iterator

from purveyor_drill.proxy.active_faults import Armed, InForce
from purveyor_drill.proxy.conversation import Piece
from purveyor_drill.proxy.faults import (
    Bandwidth,
    Blackhole,
    Cut,
    Direction,
    End,
    Latency,
    Slicer,
    SlowClose,
    Swallow,
)

_CHUNK = 65_536
_CHUNKS = 16
_TICK_S = 0.05


class Ended(Exception):
    """The connection is over, and how."""

    def __init__(self, how: End) -> None:
        super().__init__(how)
        self.how: End = how


class Pipe:
    """At most 17 chunks of 64 KiB are under way in it; then its reader waits."""

    def __init__(
        self,
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
        faults: InForce,
        *,
        follow: Callable[[bytes], Iterable[Piece]],
        count: Callable[[Direction, int], None],
    ) -> None:
        self._direction: Direction = direction
        self._source, self._sink = source, sink
        self._faults, self._follow, self._count = faults, follow, count
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)
        self._born = faults.number
        self._held_by: Armed[Blackhole] | None = None
        self._swallowing: Armed[Swallow] | None = None
        self._cutting: Armed[Cut] | None = None
        self._before_cut = 0

    async def read(self) -> None:
        """Take what comes, until the source ends its half; then wait, for a pipe ends by its writing."""
        with contextlib.suppress(ConnectionError):
            while data := await self._loop.sock_recv(self._source, _CHUNK):
                await self._chunks.put((self._loop.time(), data))
            await self._chunks.put((self._loop.time(), b""))
            return
        await self._open_way()
        raise Ended("reset")

    async def write(self) -> None:
        """Pass it on until the source has ended its half. Raises ``Ended`` when the connection is over."""
        while True:
            read_at, data = await self._chunks.get()
            await self._late(read_at)
            if not data:
                break
            for piece in self._follow(data):
                await self._open_way()
                if not self._swallow(piece):
                    await self._send(piece.data)
        await self._open_way()
        if slow := self._faults.find(SlowClose):
            await asyncio.sleep(slow.fault.delay_s)
        with contextlib.suppress(OSError):  # the sink has gone altogether
            self._sink.shutdown(socket.SHUT_WR)

    async def _late(self, read_at: float) -> None:
        if armed := self._faults.find(Latency, self._direction):
            fault = armed.fault
            due = read_at + fault.delay_s + random.uniform(-fault.jitter_s, fault.jitter_s)
            await asyncio.sleep(max(0.0, due - self._loop.time()))

    async def _open_way(self) -> None:
        while armed := self._faults.blackhole(self._direction, self._born):
            if self._held_by is not armed:
                self._held_by = armed
                self._faults.strike()
            await self._faults.changed()

    def _swallow(self, piece: Piece) -> bool:
        """Whether this piece is kept back."""
        if self._swallowing is None:
            armed = self._faults.find(Swallow, self._direction)
            if armed is None or not armed.fault.finds(piece.about):
                return False
            armed.take()
            self._swallowing = armed
        if piece.last:
            end, self._swallowing = self._swallowing.fault.end, None
            self._faults.strike()
            raise Ended(end)
        return True

    async def _send(self, data: bytes) -> None:
        armed = self._faults.find(Cut, self._direction)
        if armed is None:
            await self._write(data)
            return
        if self._cutting is not armed:
            self._cutting, self._before_cut = armed, armed.fault.after_bytes
        await self._write(data[: self._before_cut])
        self._before_cut -= len(data)
        if self._before_cut <= 0 and not armed.spent:
            armed.take()
            self._faults.strike()
            raise Ended(armed.fault.end)

    async def _write(self, data: bytes) -> None:
        for part, pause_s in self._parts(data):
            try:
                await self._loop.sock_sendall(self._sink, part)
            except OSError as error:
                raise Ended("reset") from error
            self._count(self._direction, len(part))
            if pause_s:
                await asyncio.sleep(pause_s)

    def _parts(self, data: bytes) -> Iterator[tuple[bytes, float]]:
        """The pieces to write, each with the pause after it, in seconds."""
        rest = memoryview(data)
        while rest:
            size, pause_s = len(rest), 0.0
            if slicer := self._faults.find(Slicer, self._direction):
                size, pause_s = min(size, slicer.fault.size), slicer.fault.pause_s
            if bandwidth := self._faults.find(Bandwidth, self._direction):
                rate = bandwidth.fault.bytes_per_s
                size = min(size, max(1, int(rate * _TICK_S)))
                pause_s = max(pause_s, size / rate)
            yield bytes(rest[:size]), pause_s
            rest = rest[size:]
