"""What a proxy must know of a protocol: which bytes belong together, and what they are about."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol


class Piece(NamedTuple):
    """Some of the bytes that pass, in order and without a gap."""

    data: bytes
    about: str = ""
    """What it belongs to (``basic.ack``, or the text of the statement that it answers); empty: nothing known."""
    last: bool = True
    """Whether what it belongs to ends with it."""


class Conversation(Protocol):
    """Follows one connection from its first byte, in pieces of any size. Keeps little of what it sees."""

    def to_server(self, data: bytes) -> Iterable[Piece]:
        """What the client sent next."""
        ...

    def to_client(self, data: bytes) -> Iterable[Piece]:
        """What the server sent next."""
        ...


Speaks = Callable[[], Conversation]
"""Begins to follow a connection."""


class Opaque:
    """A protocol that nobody reads."""

    def to_server(self, data: bytes) -> Iterable[Piece]:
        """See ``Conversation``."""
        return (Piece(data),)

    def to_client(self, data: bytes) -> Iterable[Piece]:
        """See ``Conversation``."""
        return (Piece(data),)
