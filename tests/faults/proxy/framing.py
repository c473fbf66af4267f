"""Cuts a stream of bytes into the messages of a protocol that says their length at the front."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

_KEPT = 65_536

Measure = Callable[[bytearray], int | None]
"""The length of the message at the front, in bytes; ``None`` while too little of it is there to tell."""


class Part(NamedTuple):
    """A message, or a part of one that is longer than 64 KiB."""

    data: bytes
    first: bool
    last: bool


class Framing:
    """Keeps no more of a message than its first 64 KiB: the rest of a longer one goes on as it comes."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._pending = bytearray()
        self._missing = 0

    def feed(self, data: bytes) -> Iterator[Part]:
        """Take the next bytes; what has become whole, or long enough to go on."""
        self._pending += data
        while self._pending:
            length = self._missing or self._measure(self._pending)
            enough = length is not None and len(self._pending) >= min(length, _KEPT)
            if length is None or not (enough or self._missing):
                return
            first, part = not self._missing, bytes(self._pending[:length])
            del self._pending[:length]
            self._missing = length - len(part)
            yield Part(part, first, not self._missing)
