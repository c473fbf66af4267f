"""A bounded load on one loopback port, in a process of its own: ``python -m purveyor_drill.bench.load JSON``.

It works with callbacks on uvloop: the cost of a request must be small beside that of its answer.
"""

import asyncio
import random
import secrets
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

import msgspec
import uvloop

from purveyor_drill.measures import Spread

_MAX_REQUESTS = 200_000
_ANSWERED_WITHIN_S = 20.0


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests to send. Each has the next path, and a random token and body.

    ``rate`` is the requests per second of all connections together, at random moments (a Poisson process). With 0,
    each connection sends its next request as soon as the last one is answered.
    """

    port: int
    method: str
    paths: Sequence[str]
    tokens: Sequence[str] = ()
    bodies: Sequence[str] = ("",)
    with_keys: bool = False
    """Send each request with an ``Idempotency-Key`` of its own."""
    connections: int = 32
    seconds: float = 5.0
    requests: int = _MAX_REQUESTS
    """Maximum number of requests."""
    rate: float = 0.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The answers. Latencies are in seconds, and count only answers of success."""

    succeeded: int
    failed: int
    seconds: float
    """Until the last answer."""
    latency: Spread
    cpu_s: float
    """CPU time of the load's process so far, its start included."""

    @property
    def per_second(self) -> float:
        """Answers of success per second."""
        return self.succeeded / self.seconds if self.seconds else 0.0


class _Connection(asyncio.Protocol):
    """One connection, with at most one request under way. Reads answers that have a ``Content-Length``."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._answer = b""
        self.since: float | None = None
        """The moment from which the request under way counts."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, since: float) -> None:
        self.since = since
        self.transport.write(self._run.request())

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if not length:
            self.transport.abort()  # counts as failed
        elif len(body) >= int(length):
            self._answer = b""
            self._run.answered(self, head[9:12].decode())

    def connection_lost(self, _: Exception | None) -> None:
        self._run.lost(self)


class _Run:
    """The state that the connections share."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._random = random.Random(secrets.randbits(32))
        self._head = f"{load.method} %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self._key = secrets.token_hex(8)
        self._sent = 0
        self._ended = asyncio.Event()
        self._idle: deque[_Connection] = deque()
        self._queue: deque[float] = deque()
        self._open = 0
        self._under_way = 0
        self.failed = 0
        self.latencies: list[float] = []

    async def run(self) -> Result:
        """Send until the time is over, and wait for the last answers."""
        loop = asyncio.get_running_loop()
        for _ in range(self._load.connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._load.port)
            self._idle.append(connection)
        self._open = len(self._idle)
        began = time.monotonic()
        self._end = began + self._load.seconds
        if self._load.rate:
            await self._pace(began)
        else:
            while self._idle and self._may_send():
                self._start(self._idle.popleft(), began)
        if self._under_way or self._queue:
            try:
                await asyncio.wait_for(self._ended.wait(), self._load.seconds + _ANSWERED_WITHIN_S)
            except TimeoutError:
                self.failed += self._under_way + len(self._queue)
        return Result(
            succeeded=len(self.latencies),
            failed=self.failed,
            seconds=time.monotonic() - began,
            latency=Spread.of(self.latencies),
            cpu_s=time.process_time(),
        )

    async def _pace(self, began: float) -> None:
        due = began
        while (due := due + self._random.expovariate(self._load.rate)) < self._end and self._may_send():
            if (pause := due - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            now = time.monotonic()
            if self._idle:
                self._start(self._idle.popleft(), now)
            else:
                self._queue.append(now)
        self._ended.clear()

    def _may_send(self) -> bool:
        return self._sent + len(self._queue) < self._load.requests and self._open > 0

    def _start(self, connection: _Connection, since: float) -> None:
        self._under_way += 1
        connection.send(since)

    def request(self) -> bytes:
        """Build the next request."""
        load, choose = self._load, self._random.choice
        self._sent += 1
        body = choose(load.bodies).encode()
        lines = [self._head % load.paths[self._sent % len(load.paths)]]
        if load.tokens:
            lines.append(f"Authorization: Bearer {choose(load.tokens)}\r\n")
        if load.with_keys:
            lines.append(f"Idempotency-Key: {self._key}-{self._sent}\r\n")
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        return "".join(lines).encode() + body

    def answered(self, connection: _Connection, status: str) -> None:
        """Count an answer, and send the next request on the connection."""
        now = time.monotonic()
        if status.startswith("2") and connection.since is not None:
            self.latencies.append(now - connection.since)
        else:
            self.failed += 1
        connection.since = None
        self._under_way -= 1
        if self._queue:
            self._start(connection, self._queue.popleft())
        elif not self._load.rate and now < self._end and self._may_send():
            self._start(connection, now)
        else:
            self._idle.append(connection)
            self._check_end()

    def lost(self, connection: _Connection) -> None:
        """Count the request that was under way on a connection that ended."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if connection.since is not None:
            connection.since = None
            self.failed += 1
            self._under_way -= 1
            self._check_end()

    def _check_end(self) -> None:
        if not self._under_way and not self._queue:
            self._ended.set()


async def run(load: Load) -> Result:
    """Send until the time is over or all requests are sent. Raises ``OSError`` if nothing listens."""
    return await _Run(load).run()


if __name__ == "__main__":
    found = uvloop.run(run(msgspec.json.decode(sys.argv[1], type=Load)))
    sys.stdout.buffer.write(msgspec.json.encode(found))
