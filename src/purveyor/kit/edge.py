"""The outermost layer of every process that speaks HTTP: request id, trace, client address, log, metrics."""

import ipaddress
import logging
import random
import re
import time
from collections.abc import Sequence
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from purveyor.kit import log, tracing
from purveyor.kit.metrics import HTTP_REQUESTS, HTTP_SECONDS

logger = logging.getLogger("purveyor.access")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = Sequence[tuple[bytes, bytes]]

NO_STORE = (b"cache-control", b"no-store")
NOSNIFF = (b"x-content-type-options", b"nosniff")

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_QUIET = ("/health/", "/metrics", "/static/")


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
        level = logging.DEBUG if scope["path"].startswith(_QUIET) else logging.INFO
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


def new_request_id() -> str:
    """For a request that came without one: 128 random bits.

    They need not be secret: asking the system for each would cost a call into the kernel.
    """
    return f"{random.getrandbits(128):032x}"


def request_id_of(headers: Headers) -> str:
    """The request id that the client sent, or a new one for a client that sent none or an odd one."""
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode("ascii") if _SANE_ID.fullmatch(value) else new_request_id()
    return new_request_id()


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
