"""How PostgreSQL's protocol names what passes: see its manual, "Frontend/Backend Protocol", version 3."""

import struct
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from faults.proxy.conversation import Piece
from faults.proxy.framing import Framing

_PROTOCOL_3: Final = 196_608
_ASKS_ENCRYPTION: Final = (80_877_103, 80_877_104)
"""SSLRequest and GSSENCRequest: the server answers with one byte."""
_TEXT = 8192
_STATEMENTS = 1000
_TRANSACTION = 100


class Message(NamedTuple):
    """A message of the client, or a part of a long one; ``kind`` is empty before the connection is set up."""

    kind: str
    data: bytes
    first: bool = True

    @property
    def body(self) -> bytes:
        """Without kind and length."""
        return self.data[5:]


class FrontendMessages:
    """Reads one client's half of a connection, in pieces of any size. TLS cannot be read."""

    def __init__(self) -> None:
        self._started = False
        self._framing = Framing(self._length)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take the next bytes; the messages that ended in them."""
        for part in self._framing.feed(data):
            started, kind = self._started, chr(part.data[0]) if self._started and part.first else ""
            self._started = started or _startup_code(part.data) == _PROTOCOL_3
            yield Message(kind, part.data, part.first)

    def _length(self, pending: bytearray) -> int | None:
        return _length(pending, type_bytes=1 if self._started else 0)


def _length(pending: bytearray, type_bytes: int) -> int | None:
    if len(pending) < type_bytes + 4:
        return None
    return type_bytes + int(struct.unpack_from("!I", pending, type_bytes)[0])


def _startup_code(data: bytes) -> int:
    return int(struct.unpack_from("!I", data, 4)[0]) if len(data) >= 8 else 0


class Postgres:
    """An answer is about the SQL text of the statement, whether it was prepared before or not.

    Within a transaction it is about all statements so far: the answer to ``COMMIT`` is found by its whole
    transaction, such as ``update shop.outbox.*COMMIT``. It ends with ReadyForQuery, and by then what is
    committed is committed.
    """

    def __init__(self) -> None:
        self._frontend = FrontendMessages()
        self._backend = Framing(lambda pending: _length(pending, type_bytes=1))
        self._statements: dict[bytes, str] = {}
        self._portal = (b"", "")
        self._asked = ""
        self._executed: list[str] = []
        self._awaited: deque[str] = deque()
        self._transaction: deque[str] = deque(maxlen=_TRANSACTION)
        self._asked_encryption = False
        self._opaque = False

    def to_server(self, data: bytes) -> Iterator[Piece]:
        """See ``Conversation``. Only what has a statement done is about its text."""
        if self._opaque:
            yield Piece(data)
            return
        for message in self._frontend.feed(data):
            yield Piece(message.data, self._note(message))

    def to_client(self, data: bytes) -> Iterator[Piece]:
        """See ``Conversation``."""
        rest = data
        if self._asked_encryption and rest:
            self._asked_encryption = False
            self._opaque = rest[:1] != b"N"
            yield Piece(rest[:1])
            rest = rest[1:]
        if self._opaque:
            yield Piece(rest)
            return
        for part in self._backend.feed(rest):
            about = self._awaited[0] if self._awaited else ""
            ends = part.first and part.data[:1] == b"Z"
            if ends:
                self._answered(in_transaction=part.data[5:6] != b"I")
            yield Piece(part.data, about, ends)

    def _note(self, message: Message) -> str:
        """Remember what matters; the statement that this message has done."""
        text = ""
        match message.kind if message.first else None:
            case "":
                self._note_startup(_startup_code(message.data))
            case "P":
                self._note_statement(*message.body.split(b"\0", 2)[:2])
            case "B":
                portal, name = message.body.split(b"\0", 2)[:2]
                self._portal = portal, self._statements.get(name, "")
            case "E":
                portal, known = self._portal
                text = known if message.body.startswith(portal + b"\0") else ""
                if text not in self._executed:
                    self._executed.append(text)
            case "Q":
                text = _readable(message.body.rstrip(b"\0"))
                self._ask(text)
            case "S":
                self._ask("; ".join(self._executed))
                self._executed.clear()
            case "F":
                self._ask("function call")
        return text

    def _note_startup(self, code: int) -> None:
        self._asked_encryption = code in _ASKS_ENCRYPTION
        if code == _PROTOCOL_3:
            self._awaited.append("startup")

    def _note_statement(self, name: bytes, text: bytes) -> None:
        self._statements.pop(name, None)
        while len(self._statements) >= _STATEMENTS:
            del self._statements[next(iter(self._statements))]  # the oldest
        self._statements[name] = _readable(text)

    def _ask(self, text: str) -> None:
        self._awaited.append("; ".join([*self._transaction, text]))
        self._asked = text

    def _answered(self, *, in_transaction: bool) -> None:
        if self._awaited:
            self._awaited.popleft()
        if not in_transaction:
            self._transaction.clear()
        elif self._asked:
            self._transaction.append(self._asked)
        self._asked = ""


def _readable(text: bytes) -> str:
    return text[:_TEXT].decode(errors="replace")
