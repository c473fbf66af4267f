"""A proxy that follows the protocol which is spoken through it, and injects all of the faults."""

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from faults.proxy.conversation import Opaque, Piece, Speaks
from faults.proxy.faults import Bandwidth, Cut, Slicer, SlowClose, Swallow
from purveyor_drill import proxy
from purveyor_drill.proxy import ActiveFault, End, Ended

_TICK_S = 0.05


class Proxy(proxy.Proxy):
    """``speaks`` follows the protocol (``amqp.Amqp`` and so on): ``Swallow`` needs it."""

    def __init__(self, host: str, port: int = 0, *, speaks: Speaks = Opaque) -> None:
        super().__init__(host, port)
        self._speaks = speaks

    def _connection(self, client: socket.socket) -> "Connection":
        return Connection(client, self._faults, self._add_passed, self._speaks)


class Connection(proxy.Connection):
    def __init__(self, client: socket.socket, faults: proxy.ActiveFaults, count: Any, speaks: Speaks) -> None:
        super().__init__(client, faults, count)
        self._conversation = speaks()

    def _pipes(self, server: socket.socket) -> "tuple[Pipe, Pipe]":
        conversation, client = self._conversation, self._client
        to_server = Pipe("to_server", client, server, self._faults, self._count)
        to_client = Pipe("to_client", server, client, self._faults, self._count)
        to_server.follow, to_client.follow = conversation.to_server, conversation.to_client
        return to_server, to_client

    async def _exchange(self, server: socket.socket) -> End:
        """``hang``: neither side hears another byte, until one of them gives up."""
        how = await super()._exchange(server)
        if how == "hang":
            discarding = {asyncio.create_task(_discard(side)) for side in (self._client, server)}
            try:
                await asyncio.wait(discarding, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in discarding:
                    task.cancel()
                await asyncio.gather(*discarding, return_exceptions=True)
        return how


class Pipe(proxy.Pipe):
    follow: Callable[[bytes], Iterable[Piece]]
    _swallowing: ActiveFault[Swallow] | None = None
    _cutting: ActiveFault[Cut] | None = None
    _before_cut = 0

    async def _forward(self, data: bytes) -> None:
        for piece in self.follow(data):
            await self._hold()
            if not self._swallow(piece):
                await self._cut(piece.data)

    async def _finish(self) -> None:
        if slow := self._faults.find(SlowClose):
            await asyncio.sleep(slow.fault.delay_s)

    def _swallow(self, piece: Piece) -> bool:
        """Whether this piece is withheld."""
        if self._swallowing is None:
            active = self._faults.find(Swallow, self._direction)
            if active is None or not active.fault.finds(piece.about):
                return False
            active.take()
            self._swallowing = active
        if piece.last:
            end, self._swallowing = self._swallowing.fault.end, None
            self._faults.strike()
            raise Ended(end)
        return True

    async def _cut(self, data: bytes) -> None:
        active = self._faults.find(Cut, self._direction)
        if active is None:
            await self._slice(data)
            return
        if self._cutting is not active:
            self._cutting, self._before_cut = active, active.fault.after_bytes
        await self._slice(data[: self._before_cut])
        self._before_cut -= len(data)
        if self._before_cut <= 0 and not active.spent:
            active.take()
            self._faults.strike()
            raise Ended(active.fault.end)

    async def _slice(self, data: bytes) -> None:
        for part, pause_s in self._parts(data):
            await self._send(part)
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


async def _discard(source: socket.socket) -> None:
    """Read until the other side ends the connection."""
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(source, 65_536):
            pass
    except ConnectionError:
        return
