"""The HTTP server's side of a connection: receive deadlines, a bound on connections, an end that comes.

uvicorn alone waits for ever for the rest of a request, keeps a request head of any size, and on its way out waits
for every client to leave.
"""

import asyncio
import contextlib
import socket
import sys
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from purveyor.kit.errors import BadRequest, HeadTooLarge, Problem, RequestTimeout
from purveyor.kit.http.refusals import WAITED, http_1_answer, new_request_id, problem_answer
from purveyor.kit.metrics import CONNECTIONS_CUT

HEAD_WITHIN_S = 10.0
BODY_WITHIN_S = 15.0
READ_WITHIN_S = 15.0
LINGER_S = 1.0
MAX_HEAD_BYTES = 32 * 1024
_GRACE_S = 0.1
_MOST_CONNECTIONS = 20_000
Refusal = Callable[[str, str, list[tuple[bytes, bytes]], float], bytes | None]
"""From a request's method, path and headers, and how long it has waited in the system's buffer in seconds, to the
whole answer that turns it away, or ``None``."""
_LAST_RECEIVED = slice(52, 56)
"""``tcpi_last_data_recv`` in Linux's ``tcp_info``: for how many milliseconds nothing has come."""
_DEADLINES = {"head": HEAD_WITHIN_S, "body": BODY_WITHIN_S}
_LAST_WORDS: dict[str, type[Problem]] = {
    "head": RequestTimeout,
    "body": RequestTimeout,
    "large head": HeadTooLarge,
}
"""What a connection that is cut for this reason is told."""


class Connections:
    """The connections of one server. ``protocol`` is what makes one, for ``uvicorn.Config(http=...)``.

    ``most`` may be open at a time: beyond that, the one that has waited longest for a request is closed, as
    nginx does with its reusable connections. ``refusal`` gives the answer to a request that is not to begin.
    """

    def __init__(
        self, most: int | None = None, *, refusal: Refusal = lambda _method, _path, _headers, _waited_s: None
    ) -> None:
        self.most = most or _affordable()
        self.refusal = refusal
        self.open: set[_Connection] = set()
        self.waiting: dict[_Connection, None] = {}
        """Those without a complete request head, the longest first."""
        self.draining = False
        """The server ends: each answer is its connection's last, and no request is waited for over a second."""

    def protocol(self, **given: Any) -> asyncio.Protocol:
        """A connection that is yet to be made."""
        return _Connection(self, **given)

    def make_room(self) -> None:
        """Close waiting connections until there are as few as there may be."""
        while len(self.open) > self.most and self.waiting:
            next(iter(self.waiting)).cut("too many")


class Server(uvicorn.Server):
    """A server that leaves the signals to its caller."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See ``uvicorn.Server``."""
        self._connections.draining = True  # also for those that the system has accepted and we have not seen
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See ``uvicorn.Server``."""
        yield


class _Connection(HttpToolsProtocol):
    """``_awaited``: the part of a request that has begun and is not here yet, ``head`` or ``body``, or none.

    ``_head_bytes``: what has come of a request until its head was complete, the rest of that piece included.
    """

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._all = connections
        self._awaited = self._timed = ""
        self._head_bytes = 0
        self._refused: bytes | None = None
        self._turned_away = self._leaves = False
        self._timer: TimerHandle | None = None
        self._writing: TimerHandle | None = None
        self._socket: socket.socket | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket") if sys.platform == "linux" else None
        self._all.open.add(self)
        self._all.waiting[self] = None
        self._expect("silent", HEAD_WITHIN_S)
        self._all.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._forget()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._awaited != "body":
            self._head_bytes += len(data)
        super().data_received(data)
        begun = self in self._all.waiting and not self._turned_away  # after a refusal nothing has begun
        awaited = self._awaited or ("head" if begun else "")
        if awaited == "head" and self._head_bytes > MAX_HEAD_BYTES:
            self.cut("large head")
        elif awaited != self._timed:  # most requests come whole, and need no timer
            self._expect(awaited, _DEADLINES.get(awaited))

    def on_message_begin(self) -> None:
        """See ``httptools``."""
        super().on_message_begin()
        self._awaited = "head"
        self._turned_away = False

    def on_headers_complete(self) -> None:
        """See ``httptools``."""
        self._awaited = "body"
        self._all.waiting.pop(self, None)
        if self.cycle is None or self.cycle.response_complete:
            if self._head_bytes > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
                self._refused, self._leaves = self._farewell(HeadTooLarge()), True
                return
            path = self.url.partition(b"?")[0].decode("ascii", "replace")
            method, waited_s = self.parser.get_method().decode("ascii"), self._waited_s()
            self._refused = self._all.refusal(method, path, self.headers, waited_s)
            if self._refused is not None:
                return
            self.scope["state"][WAITED] = waited_s
        super().on_headers_complete()
        self.headers = deque(maxlen=0)  # type: ignore[assignment]  # what comes after the body is no header field
        if self._all.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """See ``httptools``."""
        self._awaited = ""
        self._head_bytes = 0
        if self._refused is not None:
            self._refuse(self._refused)
            return
        super().on_message_complete()
        self._rest()

    def on_body(self, body: bytes) -> None:
        """See ``httptools``."""
        if self._refused is None:
            super().on_body(body)

    def _refuse(self, answer: bytes) -> None:
        self._refused = None
        self._turned_away = True
        self.transport.write(answer)
        if self._all.draining or self._leaves or not self.parser.should_keep_alive():
            self.transport.close()
        else:
            self._all.waiting[self] = None
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.cut, "idle")

    def send_400_response(self, msg: str) -> None:
        """See ``uvicorn``: what is no HTTP gets an answer all the same, and the connection ends."""
        self.transport.write(self._farewell(BadRequest(msg)))
        self.transport.close()

    def _farewell(self, problem: Problem) -> bytes:
        """The last answer of this connection. Which request it is for may not be known: there is no instance."""
        fields, body = problem_answer(problem, "", new_request_id())
        status = HTTPStatus(problem.status)
        line = f"{status.value} {status.phrase}".encode()
        return http_1_answer(line, [*fields, (b"connection", b"close")], body)

    def _waited_s(self) -> float:
        """For how long what was read last had been there; 0 where the system does not tell (see tcp(7))."""
        if self._socket is None:
            return 0.0
        try:
            about = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_RECEIVED.stop)
        except OSError:  # no TCP, or no Linux
            self._socket = None
            return 0.0
        return int.from_bytes(about[_LAST_RECEIVED], sys.byteorder) / 1000

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def on_response_complete(self) -> None:
        """See ``uvicorn``."""
        super().on_response_complete()
        self._rest()

    def _rest(self) -> None:
        """Wait for the next request, when the one before is here as a whole and answered."""
        if not self._awaited and self.cycle.response_complete and not self.transport.is_closing():
            self._all.waiting[self] = None

    def shutdown(self) -> None:
        """See ``uvicorn``. A request in hand is answered; one that does not come is not waited for."""
        self._all.draining = True
        if self.cycle is not None:
            self.cycle.keep_alive = False
        if self._awaited or self in self._all.waiting:
            self._expect("stopping", LINGER_S)

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        super().pause_writing()
        self._writing = self.loop.call_later(READ_WITHIN_S, self.cut, "slow reader")

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
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
        elif reason in _LAST_WORDS and (self.cycle is None or not _answering(self.cycle)):
            self.transport.write(self._farewell(_LAST_WORDS[reason]()))
        CONNECTIONS_CUT.labels(reason).inc()
        self.transport.close()

    def _forget(self) -> None:
        self._all.open.discard(self)
        self._all.waiting.pop(self, None)
        self._expect("", None)

    def _expect(self, what: str, within_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = what
        if within_s is not None:
            patience_s = LINGER_S if self._all.draining else within_s
            self._timer = self.loop.call_later(patience_s, self._late, what)

    def _late(self, what: str) -> None:
        """A process that was stopped finds its timers due before what came meanwhile is read: that goes first."""
        self._timer = self.loop.call_later(_GRACE_S, self.cut, what)


def _answering(cycle: Any) -> bool:
    return bool(cycle.response_started and not cycle.response_complete)


def _affordable() -> int:
    """As many connections as leave a third of the process's file descriptors to everything else."""
    if sys.platform == "win32":
        return _MOST_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MOST_CONNECTIONS, soft * 2 // 3)
