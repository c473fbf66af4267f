"""One proxied connection: two pipes, and every way for it to end."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

from purveyor_drill.proxy.active_faults import InForce
from purveyor_drill.proxy.conversation import Conversation
from purveyor_drill.proxy.faults import Direction, End, Reset
from purveyor_drill.proxy.pipe import Ended, Pipe

_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, with no time to linger
_CONNECT_S = 10.0


class Connection:
    """Ends when both halves have, when a fault or ``reset`` ends it, or when ``run`` is cancelled."""

    def __init__(
        self,
        client: socket.socket,
        faults: InForce,
        conversation: Conversation,
        count: Callable[[Direction, int], None],
    ) -> None:
        self._client, self._faults = client, faults
        self._conversation, self._count = conversation, count
        self._server: socket.socket | None = None
        self._over: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def reset(self) -> None:
        """RST to both sides."""
        if not self._over.done():
            self._over.set_result("reset")

    def meet_reset(self) -> None:
        """``reset``, if that fault is in force and has a strike left."""
        armed = self._faults.find(Reset)
        if armed is not None and not self._over.done():
            armed.take()
            self._faults.strike()
            self.reset()

    async def run(self, connect: Callable[[], Awaitable[socket.socket]]) -> None:
        """Connect to the server, and pass on what comes until it is over."""
        how: End = "reset"
        work = asyncio.create_task(self._work(connect))
        try:
            self.meet_reset()
            ended, _ = await asyncio.wait({work, self._over}, return_when=asyncio.FIRST_COMPLETED)
            how = ended.pop().result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            self._close(how)

    async def _work(self, connect: Callable[[], Awaitable[socket.socket]]) -> End:
        born = self._faults.number
        if self._faults.blackhole("to_server", born):
            self._faults.strike()
            while self._faults.blackhole("to_server", born):
                await self._faults.changed()
        try:
            async with asyncio.timeout(_CONNECT_S):
                self._server = await connect()
        except OSError:  # TimeoutError is one
            return "reset"
        how = await self._pass_on(self._server)
        if how == "hang":
            sockets = (self._client, self._server)
            deaf = {asyncio.create_task(_discard(side)) for side in sockets}
            try:
                await asyncio.wait(deaf, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in deaf:
                    task.cancel()
                await asyncio.gather(*deaf, return_exceptions=True)
        return how

    async def _pass_on(self, server: socket.socket) -> End:
        follow, client, faults, count = self._conversation, self._client, self._faults, self._count
        pipes = (
            Pipe("to_server", client, server, faults, follow=follow.to_server, count=count),
            Pipe("to_client", server, client, faults, follow=follow.to_client, count=count),
        )
        how: End = "close"
        try:
            async with asyncio.TaskGroup() as group:
                for pipe in pipes:
                    group.create_task(pipe.read())
                    group.create_task(pipe.write())
        except* Ended as ended:
            (first, *_) = ended.exceptions
            if isinstance(first, Ended):
                how = first.how
        return how

    def _close(self, how: End) -> None:
        for side in (self._client, self._server):
            if side is not None:
                if how == "reset" and side.family != socket.AF_UNIX:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
                side.close()


async def _discard(source: socket.socket) -> None:
    """Read until the other side has enough of it."""
    loop = asyncio.get_running_loop()
    try:
        while await loop.sock_recv(source, 65_536):
            pass
    except ConnectionError:
        return
