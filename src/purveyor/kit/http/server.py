"""uvicorn with receive deadlines, a limit on request heads and connections, and a bounded shutdown.

Without these uvicorn waits forever for the rest of a request, accepts a request head of any size, and on shutdown
waits for every client to leave.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from asyncio import TimerHandle
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from purveyor.kit.errors import BadRequest, HeadTooLarge, Problem, RequestTimeout
from purveyor.kit.http.middleware import LoadShedding
from purveyor.kit.http.refusals import WAITED, http_1_answer, new_request_id, problem_answer
from purveyor.kit.metrics import CONNECTIONS_CUT

HEAD_WITHIN_S = 10.0
BODY_WITHIN_S = 15.0
READ_WITHIN_S = 15.0
LINGER_S = 1.0
MAX_HEAD_BYTES = 32 * 1024
_SHUTDOWN_GRACE_S = 10
_TIMER_GRACE_S = 0.1
_MAX_CONNECTIONS = 20_000
Refusal = Callable[[str, str, list[tuple[bytes, bytes]], float], bytes | None]
"""Takes a request's method, path, headers and its wait in the socket buffer in seconds. Returns the whole answer
that rejects it, or ``None``."""
_LAST_RECEIVED = slice(52, 56)
"""``tcpi_last_data_recv`` in Linux's ``tcp_info``: milliseconds since data was last received."""
_DEADLINES = {"head": HEAD_WITHIN_S, "body": BODY_WITHIN_S}
_FINAL_PROBLEMS: dict[str, type[Problem]] = {
    "head": RequestTimeout,
    "body": RequestTimeout,
    "large head": HeadTooLarge,
}
"""The answer before a connection is closed for this reason."""


class Connections:
    """The connections of one server; ``protocol`` is the factory for ``uvicorn.Config(http=...)``.

    At most ``limit`` are open. Beyond that the one that has been idle longest is closed, as nginx does with its
    reusable connections. ``refusal`` may reject a request before it reaches the application. ``base_path`` is the
    path of ``PUBLIC_URL``.
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        refusal: Refusal = lambda _method, _path, _headers, _waited_s: None,
        base_path: str = "",
    ) -> None:
        self.limit = limit or _default_limit()
        self.refusal = refusal
        self.base_path = base_path
        self.open: set[_Connection] = set()
        self.waiting: dict[_Connection, None] = {}
        """Connections without a complete request head, the longest idle first."""
        self.draining = False
        """Shutting down: each answer is the last of its connection, and idle connections close after a second."""

    def protocol(self, **given: Any) -> asyncio.Protocol:
        """Create the protocol of a new connection."""
        return _Connection(self, **given)

    def make_room(self) -> None:
        """Close idle connections above the limit."""
        while len(self.open) > self.limit and self.waiting:
            next(iter(self.waiting)).cut("too many")


class Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._connections.draining = True  # also for connections that are accepted but not yet seen here
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def http_server(app: LoadShedding, listener: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Serve on a listening socket; on exit, finish the requests in progress. Yields the serving task."""
    connections = Connections(refusal=app.refusal, base_path=app.base_path)
    server = Server(uvicorn_config(app, connections), connections)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - a flag is all it offers
        await asyncio.sleep(0.01)
    try:
        yield serving
    finally:
        server.should_exit = True
        await asyncio.wait({serving})


def _is_not_cancellation(record: logging.LogRecord) -> bool:
    """Drops tracebacks of requests that uvicorn cancels at shutdown; it logs their number."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def uvicorn_config(app: Any, connections: Connections | None = None) -> uvicorn.Config:
    """The configuration of the HTTP server in every shape."""
    logging.getLogger("uvicorn.error").addFilter(_is_not_cancellation)
    return uvicorn.Config(
        app,
        loop="none",
        http=(connections or Connections()).protocol,  # type: ignore[arg-type]  # any factory of a protocol
        ws="none",
        interface="asgi3",
        lifespan="off",
        access_log=False,
        server_header=False,
        date_header=True,
        log_config=None,
        proxy_headers=False,
        timeout_graceful_shutdown=_SHUTDOWN_GRACE_S,
        timeout_keep_alive=75,
        limit_concurrency=None,
    )


class _Connection(HttpToolsProtocol):
    """One connection.

    ``_incomplete`` is the incomplete part of the current request, ``head`` or ``body``, or empty. ``_head_bytes``
    counts what was received until the head was complete, including the rest of that segment.
    """

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._connections = connections
        self._incomplete = self._timed = ""
        self._head_bytes = 0
        self._answering: RequestResponseCycle | None = None
        """The request in hand. ``cycle`` is the latest one received, which may wait in the pipeline."""
        self._rejection: bytes | None = None
        self._rejected = self._closing = False
        self._timer: TimerHandle | None = None
        self._writing: TimerHandle | None = None
        self._socket: socket.socket | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket") if sys.platform == "linux" else None
        self._connections.open.add(self)
        self._connections.waiting[self] = None
        self._set_timer("silent", HEAD_WITHIN_S)
        self._connections.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self.resume_writing()
        self.pipeline.clear()
        if self._answering is not None:  # uvicorn tells only the latest of several pipelined requests
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._incomplete != "body":
            self._head_bytes += len(data)
        super().data_received(data)
        begun = self in self._connections.waiting and not self._rejected  # a rejected request has not begun
        awaited = self._incomplete or ("head" if begun else "")
        if awaited == "head" and self._head_bytes > MAX_HEAD_BYTES:
            self.cut("large head")
        elif awaited != self._timed:  # most requests arrive whole and need no timer
            self._set_timer(awaited, _DEADLINES.get(awaited))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._incomplete = "head"
        self._rejected = False

    def on_headers_complete(self) -> None:
        self._incomplete = "body"
        self._connections.waiting.pop(self, None)
        if self.cycle is None or self.cycle.response_complete:
            if self._head_bytes > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
                self._rejection, self._closing = self._final_answer(HeadTooLarge()), True
                return
            path = self.url.partition(b"?")[0].decode("ascii", "replace")
            method, waited_s = self.parser.get_method().decode("ascii"), self._waited_s()
            self._rejection = self._connections.refusal(method, path, self.headers, waited_s)
            if self._rejection is not None:
                return
            self.scope["state"][WAITED] = waited_s
        super().on_headers_complete()
        self.cycle.transport = _JoinedWrites(self.transport, self.loop)  # type: ignore[assignment]
        self.headers = deque(maxlen=0)  # type: ignore[assignment]  # trailers are not header fields
        if self._connections.draining:
            self.cycle.keep_alive = False
        if self.scope["http_version"] == "1.0":
            _end_by_closing(self.cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore the offer of another protocol, as RFC 9110 section 7.8 allows; uvicorn would log two warnings."""

    def on_message_complete(self) -> None:
        self._incomplete = ""
        self._head_bytes = 0
        if self._rejection is not None:
            self._reject(self._rejection)
            return
        super().on_message_complete()
        self._mark_idle()

    def on_body(self, body: bytes) -> None:
        if self._rejection is None:
            super().on_body(body)

    def _reject(self, answer: bytes) -> None:
        self._rejection = None
        self._rejected = True
        self.transport.write(answer)
        if self._connections.draining or self._closing or not self.parser.should_keep_alive():
            self.transport.close()
        else:
            self._connections.waiting[self] = None
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.cut, "idle")

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem too, and close."""
        self.transport.write(self._final_answer(BadRequest(msg)))
        self.transport.close()

    def _final_answer(self, problem: Problem) -> bytes:
        """The last answer of this connection, without ``instance``: the request may not be known."""
        fields, body = problem_answer(problem, "", new_request_id(), self._connections.base_path)
        status = HTTPStatus(problem.status)
        line = f"{status.value} {status.phrase}".encode()
        return http_1_answer(line, [*fields, (b"connection", b"close")], body)

    def _waited_s(self) -> float:
        """Seconds that the last data read had been in the socket buffer; 0 if unknown (see tcp(7))."""
        if self._socket is None:
            return 0.0
        try:
            about = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_RECEIVED.stop)
        except OSError:  # not TCP, or not Linux
            self._socket = None
            return 0.0
        return int.from_bytes(about[_LAST_RECEIVED], sys.byteorder) / 1000

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._mark_idle()

    def _mark_idle(self) -> None:
        """Mark the connection as idle if the last request is complete and answered."""
        if not self._incomplete and self.cycle.response_complete and not self.transport.is_closing():
            self._connections.waiting[self] = None

    def shutdown(self) -> None:
        """Answer the request in progress, then close; do not wait for another one."""
        self._connections.draining = True
        if self.cycle is not None:
            self.cycle.keep_alive = False
        if self._incomplete or self in self._connections.waiting:
            self._set_timer("stopping", LINGER_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self.loop.call_later(READ_WITHIN_S, self.cut, "slow reader")

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def cut(self, reason: str) -> None:
        """Close the connection now."""
        self._forget()
        if reason == "slow reader":
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif reason in _FINAL_PROBLEMS and (self.cycle is None or not _is_answering(self.cycle)):
            self.transport.write(self._final_answer(_FINAL_PROBLEMS[reason]()))
        CONNECTIONS_CUT.labels(reason).inc()
        self.transport.close()

    def _forget(self) -> None:
        self._connections.open.discard(self)
        self._connections.waiting.pop(self, None)
        self._set_timer("", None)

    def _set_timer(self, what: str, within_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = what
        if within_s is not None:
            delay_s = LINGER_S if self._connections.draining else within_s
            self._timer = self.loop.call_later(delay_s, self._on_timer, what)

    def _on_timer(self, what: str) -> None:
        """Cut a little later. After the process was suspended, timers fire before received data is read."""
        self._timer = self.loop.call_later(_TIMER_GRACE_S, self.cut, what)


class _JoinedWrites:
    """The transport of one answer, to which its head and body go in one system call.

    The first of two writes waits for the second, at most until the next round of the event loop.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held = b""

    def write(self, data: bytes) -> None:
        if self._held:
            self._held += data
            self._flush()
        elif data:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._held:
            self._transport.write(self._held)
            self._held = b""


def _end_by_closing(cycle: RequestResponseCycle) -> None:
    """Send an answer of unknown length without chunks, which HTTP/1.0 does not know (RFC 9112 section 6.1)."""
    framed, has_length = cycle.send, True

    async def send(message: Any) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            cycle.chunked_encoding = None if has_length else False
        elif not has_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await framed(message)

    cycle.send = send  # type: ignore[method-assign]


def _is_answering(cycle: Any) -> bool:
    return bool(cycle.response_started and not cycle.response_complete)


def _default_limit() -> int:
    """The default limit; leaves a third of the file descriptors to everything else."""
    if sys.platform == "win32":
        return _MAX_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MAX_CONNECTIONS, soft * 2 // 3)
