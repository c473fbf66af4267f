"""The outermost layer of every process that speaks HTTP: request id, trace, client address, log, metrics."""

import asyncio
import ipaddress
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from purveyor.kit import log, tracing
from purveyor.kit.deadline import request_deadline
from purveyor.kit.errors import Overloaded
from purveyor.kit.http.refusals import (
    NO_STORE,
    NOSNIFF,
    WAITED,
    Headers,
    http_1_answer,
    problem_answer,
    request_id_of,
)
from purveyor.kit.http.web import sent_path
from purveyor.kit.metrics import HTTP_REQUESTS, HTTP_SECONDS, REQUESTS_SHED, REQUESTS_WAITED

logger = logging.getLogger("purveyor.access")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
NEVER_SHED = ("/health/", "/metrics", "/static/")
"""Paths that are answered under any load, and logged at level debug only."""


class Edge:
    """Wraps an ASGI application.

    ``trusted`` are the networks whose ``X-Forwarded-For`` is believed, read from the right: the client is the
    first address that is not a trusted proxy itself.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[Network] = ()) -> None:
        self._app = app
        self._trusted = tuple(trusted)
        self._labels: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3.0."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"])
        token = log.request_id.set(request_id)
        trace = tracing.traceparent.set(_traceparent_of(scope["headers"]))
        if self._trusted:
            self._find_client(scope)
        head = scope["method"] == "HEAD"
        if head:
            scope = _as_get(scope)
        status = 500
        ended = False
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message["headers"])
                headers.append((b"x-request-id", request_id.encode()))
                names = {name for name, _ in headers}
                headers += [field for field in (NOSNIFF, NO_STORE) if field[0] not in names]
                message["headers"] = headers
            elif head and message["type"] == "http.response.body":
                if ended:
                    return
                ended = True  # a stream's too: the application hears of it as of a client that has gone
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, time.perf_counter() - started)
            log.request_id.reset(token)
            tracing.traceparent.reset(trace)

    def _record(self, scope: Any, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in ("GET", "POST", "PUT", "PATCH", "DELETE") else "other"
        route = scope.get("path_template") or "none"
        key = (method, route, status)
        children = self._labels.get(key)
        if children is None:
            children = self._labels[key] = (
                HTTP_REQUESTS.labels(method, route, str(status)),
                HTTP_SECONDS.labels(method, route),
            )
        children[0].inc()
        children[1].observe(seconds)
        level = logging.DEBUG if scope["path"].startswith(NEVER_SHED) else logging.INFO
        if logger.isEnabledFor(level):
            logger.log(
                level,
                "request",
                extra={
                    "method": method,
                    "path": scope["path"][:200],
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                },
            )

    def _find_client(self, scope: Any) -> None:
        client = scope.get("client")
        if client is None or not self._is_trusted(client[0]):
            return
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        for candidate in reversed([part.strip().decode("latin-1") for part in forwarded.split(b",")]):
            address = _address(candidate)
            if address is None:
                return
            scope["client"] = (str(address), 0)
            if not self._is_trusted(str(address)):
                return

    def _is_trusted(self, host: str) -> bool:
        address = _address(host)
        return address is not None and any(address in network for network in self._trusted)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 address stays one where a socket for both families shows it as ``::ffff:192.0.2.1``."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _as_get(scope: Any) -> Any:
    """HEAD is a GET whose answer goes out without its body (RFC 9110 section 9.3.2).

    A copy: the server must go on to see a HEAD, or it would wait for the body.
    """
    return {**scope, "method": "GET"}


def _traceparent_of(headers: Headers) -> str:
    """The trace that the client's request belongs to, or a new one."""
    for name, value in headers:
        if name == b"traceparent":
            return tracing.parse(value.decode("latin-1")) or tracing.begin()
    return tracing.begin()


def client_network(host: str) -> str:
    """What a limit per address counts by: the IPv4 address, or the /64 of an IPv6 address."""
    address = _address(host)
    if address is None:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


AT_WORK = 64
READ_WAITS_S = 0.5
WRITE_WAITS_S = 1.0
TOO_LATE_S = 2.0
"""Who has waited this long before being read would be answered too late, and may be gone."""
_WEIGHT = 0.02  # of the latest interval in the moving average
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
        if (waited_s < TOO_LATE_S and not self._waiting) or path.startswith(NEVER_SHED):
            return None
        if waited_s < TOO_LATE_S and self._wait_s() <= _patience_s(method) / 2:
            return None
        fields, body = _turned_away(method, path, headers)
        return http_1_answer(b"503 Service Unavailable", fields, b"" if method == "HEAD" else body)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3.0."""
        if scope["type"] != "http" or scope["path"].startswith(NEVER_SHED):
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
