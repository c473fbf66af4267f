"""Load shedding: few requests are worked on at a time, few wait, and the rest is turned away before any work.

What waits too long is of no use to anybody, and work on it slows down what could still be in time. Reads are
turned away sooner than writes: a page can be asked for again, an order may not come back. The wait in the system's
own buffers counts too: after a stall they are full of requests whose clients have gone.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from purveyor.kit.deadline import request_deadline
from purveyor.kit.edge import Headers, request_id_of
from purveyor.kit.errors import Overloaded
from purveyor.kit.http_server import WAITED
from purveyor.kit.metrics import REQUESTS_SHED, REQUESTS_WAITED
from purveyor.kit.turned_away import http_1_answer, problem_answer
from purveyor.kit.web import sent_path

AT_WORK = 64
READ_WAITS_S = 0.5
WRITE_WAITS_S = 1.0
TOO_LATE_S = 2.0
"""Who has waited this long before being read would be answered too late, and may be gone."""
_WEIGHT = 0.02  # of the latest interval in the moving average
_EXEMPT = ("/health/", "/metrics", "/static/")
_READS = ("GET", "HEAD", "OPTIONS")
_METHODS = (*_READS, "POST", "PUT", "PATCH", "DELETE")


class Shedding:
    """Wraps an ASGI application; ``at_work`` requests are in it at a time, in the order in which they came."""

    def __init__(self, app: ASGIApp, *, at_work: int = AT_WORK) -> None:
        self._app = app
        self._free = at_work
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._pace_s = 0.0
        """How long it takes from letting one in to letting the next one in, while there is a queue."""
        self._let_in_at: float | None = None

    def refusal(self, method: str, path: str, headers: Headers, waited_s: float = 0.0) -> bytes | None:
        """The whole HTTP/1.1 answer to a request that need not even begin, or ``None``.

        That is one that has waited for ``TOO_LATE_S`` before it was read, or one that would wait for more than
        half of the time that it may, by the queue's length and pace, or by what its first has waited. The server
        asks before it makes anything of a request: under three times the load most end here, for next to nothing.
        """
        if (waited_s < TOO_LATE_S and not self._waiting) or path.startswith(_EXEMPT):
            return None
        if waited_s < TOO_LATE_S and self._wait_s() <= _patience_s(method) / 2:
            return None
        fields, body = _turned_away(method, path, headers)
        return http_1_answer(b"503 Service Unavailable", fields, b"" if method == "HEAD" else body)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3.0."""
        if scope["type"] != "http" or scope["path"].startswith(_EXEMPT):
            await self._app(scope, receive, send)
            return
        waited_s = scope.get("state", {}).get(WAITED, 0.0)
        with request_deadline(waited_s):
            if self._free > 0:
                self._free -= 1
            elif not await self._turn(_patience_s(scope["method"]) - waited_s):
                fields, body = _turned_away(scope["method"], sent_path(scope), scope["headers"])
                await send({"type": "http.response.start", "status": Overloaded.status, "headers": fields})
                await send({"type": "http.response.body", "body": body, "more_body": False})
                return
            at_work = True

            async def send_on(message: Message) -> None:
                nonlocal at_work
                if at_work and message["type"] == "http.response.start" and _is_stream(message["headers"]):
                    at_work = False
                    self._next()
                await send(message)

            try:
                await self._app(scope, receive, send_on if scope["method"] == "GET" else send)
            finally:
                if at_work:
                    self._next()

    def _wait_s(self) -> float:
        """How long one more would have to wait."""
        first_waited_s = asyncio.get_running_loop().time() - self._waiting[0][0]
        return max(first_waited_s, len(self._waiting) * self._pace_s)

    async def _turn(self, patience_s: float) -> bool:
        """Wait to be worked on; ``False`` when that takes longer than ``patience_s`` seconds."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        place = (loop.time(), turn)
        self._waiting.append(place)
        try:
            async with asyncio.timeout(patience_s):
                await turn
        except TimeoutError:
            return not turn.cancelled()  # it may have come at the very moment
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._next()
            raise
        finally:
            if turn.cancelled() and place in self._waiting:
                self._waiting.remove(place)
            REQUESTS_WAITED.observe(loop.time() - place[0])
        return True

    def _next(self) -> None:
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._measure()
                return
        self._let_in_at = None
        self._free += 1

    def _measure(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._let_in_at is not None:
            self._pace_s += _WEIGHT * (now - self._let_in_at - self._pace_s)
        self._let_in_at = now


def _is_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the answer goes on for as long as its reader stays: it then waits more than it works."""
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


def _patience_s(method: str) -> float:
    return READ_WAITS_S if method in _READS else WRITE_WAITS_S


def _turned_away(method: str, path: str, headers: Headers) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The header fields and the body for ``Overloaded``; counts it."""
    REQUESTS_SHED.labels(method if method in _METHODS else "other").inc()
    return problem_answer(Overloaded(), path, request_id_of(headers))
