"""Commands and replies of an open SMTP connection (RFC 5321 section 4.2).

``aiosmtplib`` reads one reply for each command, so it cannot have several commands under way (RFC 2920). It makes
the connection, and ``Replies`` takes that over.
"""

import asyncio
from collections import deque
from typing import NamedTuple

_MAX_REPLY_BYTES = 32 * 1024


class Reply(NamedTuple):
    """The reply to a command. The lines of a longer one are joined by ``\\n``."""

    code: int
    text: str


class ConnectionLost(Exception):
    """The connection has ended, or the server sent something that is not a reply."""


class Replies(asyncio.Protocol):
    """Writes commands and reads their replies in order. What arrives without a command is ignored."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        """Take over the transport from its present protocol."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._rest = b""
        self._lines: list[bytes] = []
        self._size = 0
        self._expected = 0
        self._replies: deque[Reply] = deque()
        self._lost = ""
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """True as long as nothing has ended the connection."""
        return not (self._lost or self._transport.is_closing())

    def write(self, data: bytes, replies: int) -> None:
        """Write what makes the server send so many replies. Raises ``ConnectionLost``."""
        if not self.is_open:
            raise ConnectionLost(self._lost or "Connection lost")
        self._expected += replies
        self._transport.write(data)

    async def read(self, within_s: float) -> Reply:
        """Return the next reply. Raises ``TimeoutError`` and ``ConnectionLost``."""
        if not self._replies:
            if self._lost:
                raise ConnectionLost(self._lost)
            self._waiter = self._loop.create_future()
            self._set_deadline(within_s)
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._replies.popleft()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        """Close at once, discarding unsent data."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._size += len(data)
        for line in lines:
            self._take(line)
        if self._size > _MAX_REPLY_BYTES:
            self._end("the reply is too long")
        elif self._replies:
            self._wake(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc or "Connection lost"))
        if self._timer is not None:
            self._timer.cancel()

    def _take(self, line: bytes) -> None:
        """Add a line to the reply that it belongs to."""
        if not self._expected:
            self._size = len(self._rest)
            return
        code = line[:3]
        if not code.isdigit():
            self._end(f"not an SMTP reply: {line[:100].decode(errors='replace')}")
            return
        self._lines.append(line[4:].strip())
        if line[3:4] != b"-":
            self._replies.append(Reply(int(code), b"\n".join(self._lines).decode(errors="replace")))
            self._lines.clear()
            self._size = len(self._rest)
            self._expected -= 1

    def _end(self, why: str) -> None:
        self._lost = self._lost or why
        if not self._replies:
            self._wake(ConnectionLost(self._lost))

    def _wake(self, error: Exception | None) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if error is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(error)

    def _set_deadline(self, within_s: float) -> None:
        """Limit the time for the next reply. A timer that is due earlier stays and is set again when it is due."""
        self._deadline = self._loop.time() + within_s
        if self._timer is None or self._timer_at > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._start_timer()
        else:
            self._wake(TimeoutError())
