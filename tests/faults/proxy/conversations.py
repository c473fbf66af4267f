"""How SMTP and the protocols that answer in turn (HTTP/1.1, Redis, MongoDB) name what passes."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from faults.proxy.conversation import Piece

_VERBS: Final = re.compile(rb"(EHLO|HELO|STARTTLS|AUTH|MAIL|RCPT|DATA|RSET|NOOP|QUIT)\b", re.IGNORECASE)
_END_OF_CONTENT: Final = b"\r\n.\r\n"
_HEAD = 4096
_LINE = 65_536


class Smtp:
    """SMTP (RFC 5321): a reply is about its command, such as ``MAIL``, or ``dot`` for that to the content.

    Commands are about themselves. Pipelining (RFC 2920) is followed; after STARTTLS nothing is known any more.
    """

    def __init__(self) -> None:
        self._commands: deque[str] = deque(["greeting"])
        self._line = bytearray()
        self._reply = bytearray()
        self._tail: bytes | None = None  # the last bytes of the content, while there is some
        self._opaque = False

    def to_server(self, data: bytes) -> Iterator[Piece]:
        """See ``Conversation``."""
        rest = data
        while rest and not self._opaque:
            if self._tail is not None:
                piece, rest = self._content(rest, self._tail)
                yield piece
                continue
            line, rest = _split_line(self._line, rest)
            if line is None:
                return
            verb = _VERBS.match(line)
            self._commands.append(verb[1].decode().upper() if verb else "")
            yield Piece(line, self._commands[-1])
        if rest:
            yield Piece(rest)

    def _content(self, data: bytes, tail: bytes) -> tuple[Piece, bytes]:
        seen = tail + data
        end = seen.find(_END_OF_CONTENT)
        if end < 0:
            self._tail = seen[1 - len(_END_OF_CONTENT) :]
            return Piece(data, "content", last=False), b""
        self._tail = None
        self._commands.append("dot")
        size = end + len(_END_OF_CONTENT) - len(tail)
        return Piece(data[:size], "content"), data[size:]

    def to_client(self, data: bytes) -> Iterator[Piece]:
        """See ``Conversation``."""
        rest = data
        while rest and not self._opaque:
            line, rest = _split_line(self._reply, rest)
            if line is None:
                return
            last = line[3:4] != b"-"
            about = self._commands[0] if self._commands else ""
            if last and self._commands:
                self._commands.popleft()
                self._answered(about, line)
            yield Piece(line, about, last)
        if rest:
            yield Piece(rest)

    def _answered(self, about: str, line: bytes) -> None:
        if about == "DATA" and line.startswith(b"3"):
            self._tail = b"\r\n"
        self._opaque = about == "STARTTLS" and line.startswith(b"2")


def _split_line(pending: bytearray, data: bytes) -> tuple[bytes | None, bytes]:
    """The line that begins in ``pending`` if it ends in ``data``, and what follows it."""
    line, newline, rest = data.partition(b"\n")
    pending += line + newline
    if not newline and len(pending) < _LINE:
        return None, b""
    whole = bytes(pending)
    pending.clear()
    return whole, rest


class InTurn:
    """HTTP/1.1, Redis, MongoDB: each answer is about the head (4 KiB, as ISO 8859-1) of the request before it.

    For clients that wait for each answer before they ask again. The first bytes of an answer are all of it:
    a server that begins to answer has done what it was asked.
    """

    def __init__(self) -> None:
        self._head = ""
        self._answered = False

    def to_server(self, data: bytes) -> Iterable[Piece]:
        """See ``Conversation``."""
        if self._answered:
            self._head, self._answered = "", False
        self._head += data[: _HEAD - len(self._head)].decode("latin-1")
        return (Piece(data, self._head),)

    def to_client(self, data: bytes) -> Iterable[Piece]:
        """See ``Conversation``."""
        self._answered = True
        return (Piece(data, self._head),)
