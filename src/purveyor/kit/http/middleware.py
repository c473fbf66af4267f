"""ASGI middleware around every application: request context and access log, and load shedding."""

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextvars import Token
from functools import lru_cache, partial
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from purveyor.kit import log, security_log, tracing
from purveyor.kit.deadline import request_deadline
from purveyor.kit.errors import BadRequest, MethodNotAllowed, Overloaded, Problem
from purveyor.kit.http.base_path import base_path, strip_base_path, with_base_path
from purveyor.kit.http.cors import Cors
from purveyor.kit.http.refusals import (
    CSP,
    NO_STORE,
    NOSNIFF,
    WAITED,
    Answer,
    Headers,
    http_1_answer,
    new_request_id,
    problem_answer,
    problem_response,
    request_id_of,
    send_answer,
)
from purveyor.kit.http.web import MAX_BODY_BYTES, sent_path
from purveyor.kit.limits.networks import Address, Network, client_network, parse_address
from purveyor.kit.metrics import HTTP_REQUESTS, HTTP_SECONDS, REQUESTS_SHED, REQUESTS_WAITED

logger = logging.getLogger("purveyor.access")
NEVER_SHED = ("/health/", "/static/")
"""Paths that are answered under any load."""
_QUIET = (*NEVER_SHED, "/metrics")
"""Paths that are logged at level debug only."""
_HOST = re.compile(rb"[\w!$&'()*+;=.~:\[\]%-]*", re.ASCII)
"""A host with its port (RFC 3986 section 3.2)."""
_BAD_HOST = "Send exactly one Host header with a host name (RFC 9112 section 3.2)."
_HSTS = (b"strict-transport-security", b"max-age=31536000")


class RequestContext:
    """ASGI middleware for what all requests share: IDs, client address, base path, CORS, log and metrics.

    ``X-Forwarded-For`` counts only from the ``trusted`` networks. All its fields are read as one list, from the
    right: the client is the first address that is not a trusted proxy itself. ``Forwarded`` and ``X-Real-IP`` are
    not read, because a proxy that sets only one of the three passes on what a client wrote into the others.

    ``base_path`` is the path of ``PUBLIC_URL``, which proxies may strip or keep. ``https`` tells browsers to use
    HTTPS only.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        trusted: Sequence[Network] = (),
        base_path: str = "",
        cors: Cors | None = None,
        https: bool = False,
    ) -> None:
        self._app = app
        self._trusted = tuple(trusted)
        self._base_path = base_path
        self._cors = cors
        self._more_fields = (NOSNIFF, NO_STORE, _HSTS) if https else (NOSNIFF, NO_STORE)
        self._labels: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        names = dict(headers)  # one look-up each, instead of a search through all fields
        request_id = request_id_of(headers) if b"x-request-id" in names else new_request_id()
        token = log.request_id.set(request_id)
        if self._trusted:
            self._find_client(scope)
        network = security_log.network.set(client_network(scope["client"][0]) if scope.get("client") else "")
        base = base_path.set(self._base_path)
        if self._base_path:
            strip_base_path(scope, self._base_path)
        span, trace = _begin_trace(scope, _traceparent_of(headers) if b"traceparent" in names else "")
        answering = self._answering(scope)
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
                message["headers"] = self._complete(scope, message["headers"], request_id)
            elif head and message["type"] == "http.response.body":
                if ended:
                    return
                ended = True  # for a stream too: to the application the client has disconnected
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        try:
            await answering(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, time.perf_counter() - started, span)
            span.end()
            log.request_id.reset(token)
            tracing.traceparent.reset(trace)
            security_log.network.reset(network)
            base_path.reset(base)

    def _answering(self, scope: Any) -> ASGIApp:
        """The application that answers: this one, unless the request never gets there."""
        if not _is_host_valid(scope):
            return partial(_answer_with, problem_response(BadRequest(_BAD_HOST), sent_path(scope)))
        if self._cors and (preflight := self._cors.preflight(scope)):
            return partial(_answer_with, preflight)
        return self._app

    def _complete(
        self, scope: Any, sent: Iterable[tuple[bytes, bytes]], request_id: str
    ) -> list[tuple[bytes, bytes]]:
        """The header fields of an answer with those that every answer has."""
        headers = [*sent, (b"x-request-id", request_id.encode())]
        names = dict(headers)
        headers += [field for field in self._more_fields if field[0] not in names]
        if names.get(b"content-type", b"").startswith(b"application/") and CSP[0] not in names:
            headers.append(CSP)
        if self._cors:
            headers += self._cors.fields(scope["headers"])
        return with_base_path(headers, self._base_path) if self._base_path else headers

    def _record(self, scope: Any, status: int, seconds: float, span: tracing.Span) -> None:
        method = scope["method"] if scope["method"] in ("GET", "POST", "PUT", "PATCH", "DELETE") else "other"
        route = scope.get("path_template") or "none"
        if status == MethodNotAllowed.status:  # a client makes up methods for any path
            method, route = "other", "none"
        key = (method, route, status)
        children = self._labels.get(key)
        if children is None:
            children = self._labels[key] = (
                HTTP_REQUESTS.labels(method, route, str(status)),
                HTTP_SECONDS.labels(route),
            )
        children[0].inc()
        children[1].observe(seconds)
        if span.is_recorded:
            if "path_template" in scope:
                span.rename(f"{method} {route}")
                span.add({"http.route": route})
            span.add({"http.response.status_code": status})
            if status >= Problem.status:
                span.fail(str(status))
        fields = {
            "method": method,
            "path": scope["path"][:200],
            "status": status,
            "network": security_log.network.get(),
            "ms": round(seconds * 1000, 1),
        }
        log.write(logger, logging.DEBUG if scope["path"].startswith(_QUIET) else logging.INFO, "request", fields)

    def _find_client(self, scope: Any) -> None:
        client = scope.get("client")
        if client is None or not self._is_trusted(parse_address(client[0])):
            return
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        for candidate in reversed(forwarded.decode("latin-1").split(",")):
            if not candidate.strip():  # an empty element of a list does not count (RFC 9110 section 5.6.1)
                continue
            address = parse_address(candidate)
            if address is None:  # such as "unknown": the proxy that wrote it is the last that is known
                return
            scope["client"] = (str(address), 0)
            if not self._is_trusted(address):
                return

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


async def _answer_with(answer: Answer, _scope: Any, _receive: Receive, send: Send) -> None:
    await send_answer(send, answer)


def _is_host_valid(scope: Any) -> bool:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if not hosts:
        return bool(scope.get("http_version") != "1.1")
    return len(hosts) == 1 and _is_host(hosts[0])


@lru_cache(maxsize=256)
def _is_host(text: bytes) -> bool:
    return _HOST.fullmatch(text) is not None


def _as_get(scope: Any) -> Any:
    """Turn HEAD into a GET; its answer is sent without a body (RFC 9110 section 9.3.2).

    The scope is copied because the server must still see HEAD, or it would wait for the body.
    """
    return {**scope, "method": "GET"}


def _begin_trace(scope: Any, sent: str) -> tuple[tracing.Span, Token[str]]:
    """Start the span of a request below the trace that the client sent, and make its trace the current one."""
    span = tracing.NO_SPAN
    if not scope["path"].startswith(_QUIET):
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = tracing.span(method, "server", {"http.request.method": method}, parent=sent)
    return span, tracing.traceparent.set(span.traceparent or sent or tracing.begin())


def _traceparent_of(headers: Headers) -> str:
    """The trace of the client's request; empty if it has none or several (W3C Trace Context 3.2.2)."""
    sent = [value for name, value in headers if name == b"traceparent"]
    return tracing.parse(sent[0].decode("latin-1")) if len(sent) == 1 else ""


MAX_CONCURRENT = 64
MAX_READ_WAIT_S = 0.5
MAX_WRITE_WAIT_S = 1.0
TOO_LATE_S = 2.0
"""A request that waited this long before it was read would be answered too late; the client may be gone."""
_SMOOTHING = 0.02  # weight of the latest interval in the moving average
_READS = ("GET", "HEAD", "OPTIONS")
_METHODS = (*_READS, "POST", "PUT", "PATCH", "DELETE")


class LoadShedding:
    """ASGI middleware: queue requests above ``max_concurrent``, reject those that wait too long.

    A request takes its place when its body is complete, so slow clients take none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_concurrent: int = MAX_CONCURRENT,
        base_path: str = "",
        cors: Cors | None = None,
    ) -> None:
        self._app = app
        self.base_path = base_path
        self._cors = cors
        self._free = max_concurrent
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._interval_s = 0.0
        """Average time between two admissions while there is a queue."""
        self._admitted_at: float | None = None

    def refusal(self, method: str, path: str, headers: Headers, waited_s: float = 0.0) -> bytes | None:
        """The whole HTTP/1.1 answer that rejects a request early, or ``None`` to admit it.

        Rejected are requests that waited ``TOO_LATE_S`` before they were read, and those that are expected to
        wait for more than half of their maximum. The expectation is the longer of two: queue length times
        interval, and the wait of the first in the queue. The server asks before it parses anything further, so
        under three times the load most requests cost next to nothing.
        """
        if (waited_s < TOO_LATE_S and not self._waiting) or self._is_exempt(path):
            return None
        if waited_s < TOO_LATE_S and self._wait_s() <= _max_wait_s(method) / 2:
            return None
        fields, body = self._reject(method, path, headers)
        return http_1_answer(b"503 Service Unavailable", fields, b"" if method == "HEAD" else body)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_exempt(scope["path"]):
            await self._app(scope, receive, send)
            return
        whole = await _with_whole_body(scope, receive)
        if whole is None:
            return
        waited_s = scope.get("state", {}).get(WAITED, 0.0)
        with request_deadline(waited_s):
            if self._free > 0:
                self._free -= 1
            elif not await self._acquire(_max_wait_s(scope["method"]) - waited_s):
                fields, body = self._reject(scope["method"], sent_path(scope), scope["headers"])
                await send_answer(send, (Overloaded.status, fields, body))
                return
            admitted = True

            async def send_on(message: Message) -> None:
                nonlocal admitted
                if admitted and message["type"] == "http.response.start" and _is_stream(message["headers"]):
                    admitted = False
                    self._release()
                await send(message)

            try:
                await self._app(scope, whole, send_on if scope["method"] == "GET" else send)
            finally:
                if admitted:
                    self._release()

    def _is_exempt(self, path: str) -> bool:
        return path.removeprefix(self.base_path).startswith(NEVER_SHED)

    def _reject(self, method: str, path: str, headers: Headers) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Header fields and body of the ``Overloaded`` answer. Counts the request as shed."""
        REQUESTS_SHED.labels(method if method in _METHODS else "other").inc()
        fields, body = problem_answer(Overloaded(), path, request_id_of(headers), self.base_path)
        return [*fields, *(self._cors.fields(headers) if self._cors else ())], body

    def _wait_s(self) -> float:
        """The expected wait of one more request."""
        first_waited_s = asyncio.get_running_loop().time() - self._waiting[0][0]
        return max(first_waited_s, len(self._waiting) * self._interval_s)

    async def _acquire(self, max_wait_s: float) -> bool:
        """Wait for a free slot; ``False`` if that takes longer than ``max_wait_s``."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        place = (loop.time(), turn)
        self._waiting.append(place)
        try:
            async with asyncio.timeout(max_wait_s):
                await turn
        except TimeoutError:
            return not turn.cancelled()  # the slot may have come at the same moment
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._release()
            raise
        finally:
            if turn.cancelled() and place in self._waiting:
                self._waiting.remove(place)
            REQUESTS_WAITED.observe(loop.time() - place[0])
        return True

    def _release(self) -> None:
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._measure_interval()
                return
        self._admitted_at = None
        self._free += 1

    def _measure_interval(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._admitted_at is not None:
            self._interval_s += _SMOOTHING * (now - self._admitted_at - self._interval_s)
        self._admitted_at = now


def _is_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether the answer lasts as long as its reader stays; it then waits more than it works."""
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


def _max_wait_s(method: str) -> float:
    return MAX_READ_WAIT_S if method in _READS else MAX_WRITE_WAIT_S


async def _with_whole_body(scope: Any, receive: Receive) -> Receive | None:
    """Wait for the body, and return what receives it; ``None`` if the client has gone.

    A body that is too large is left to the application, which refuses it.
    """
    framing = [value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")]
    if not framing or (framing[0].isdigit() and not 0 < int(framing[0]) <= MAX_BODY_BYTES):
        return receive
    messages, size = deque[Any](), 0
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return None
        messages.append(message)
        size += len(message.get("body", b""))
        if not message.get("more_body") or size > MAX_BODY_BYTES:
            break

    async def received() -> Any:
        return messages.popleft() if messages else await receive()

    return received
