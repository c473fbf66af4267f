"""The proxy itself: one listening port, its connections, and the faults that they meet."""

import asyncio
import socket
from collections import Counter
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from purveyor_drill.proxy.active_faults import InForce
from purveyor_drill.proxy.connection import Connection
from purveyor_drill.proxy.conversation import Opaque, Speaks
from purveyor_drill.proxy.faults import Direction, Fault, Refuse
from purveyor_drill.servers.process import free_port

_BACKLOG = 512


class Proxy:
    """``async with Proxy(host, port) as proxy``: what connects to ``proxy.port`` talks with the server there.

    Faults can be set, changed and cleared while connections live. To ``Swallow``, it must know the protocol
    that is spoken. All methods belong to the event loop that entered it.
    """

    def __init__(self, host: str, port: int = 0, *, speaks: Speaks = Opaque) -> None:
        """``host`` may be the path of a unix socket. ``speaks`` follows the protocol: ``amqp.Amqp`` and so on."""
        self.target = (host, port)
        """Where new connections lead; may be changed."""
        self.port = 0
        """Where it listens, on 127.0.0.1; the same as long as it lives, also after ``Refuse``."""
        self.accepted = 0
        """How many connections there were."""
        self.passed: Counter[Direction] = Counter()
        """How many bytes went on, each way."""
        self._speaks = speaks
        self._faults = InForce()
        self._listening: socket.socket | None = None
        self._live: dict[asyncio.Task[None], Connection] = {}

    @property
    def live(self) -> int:
        """How many connections there are now."""
        return len(self._live)

    @property
    def strikes(self) -> int:
        """How often ``Blackhole``, ``Reset``, ``Cut`` and ``Swallow`` struck since the last ``set``."""
        return self._faults.strikes

    def set(self, *faults: Fault) -> None:
        """Put these faults in the place of those before."""
        self._faults.set(faults)
        if self._faults.find(Refuse):
            self._hang_up()
        elif self._listening is None:
            self._listen()
        for connection in self._live.values():
            connection.meet_reset()

    def clear(self) -> None:
        """Behave again; what has ended stays ended."""
        self.set()

    def drop(self) -> None:
        """RST to both sides of all connections that live now. No fault: new ones are welcome, nothing strikes."""
        for connection in self._live.values():
            connection.reset()

    async def struck(self, times: int = 1, *, within_s: float = 30.0) -> None:
        """Wait until the faults have struck so often since the last ``set``. Raises ``TimeoutError``."""
        async with asyncio.timeout(within_s):
            await self._faults.struck(times)

    def through(self, url: str) -> str:
        """The same URL, but by way of this proxy."""
        parts = urlsplit(url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}"))

    async def __aenter__(self) -> Self:
        self.port = free_port()
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hang_up()
        for task in self._live:
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)

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

    def _hang_up(self) -> None:
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
        connection = Connection(client, self._faults, self._speaks(), self._count)
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

    def _count(self, direction: Direction, size: int) -> None:
        self.passed[direction] += size


def _prepare(side: socket.socket) -> None:
    side.settimeout(0)
    if side.family != socket.AF_UNIX:
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
