"""The client's own record of the load, in JSON lines: written before a request and after its answer."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from purveyor_drill.observations import Attempt, AttemptKind, Purchase


class Planned(msgspec.Struct, frozen=True, tag=True):
    """An order is due."""

    key: str
    email: str
    due_at: float
    quantities: dict[int, int]


class Sending(msgspec.Struct, frozen=True, tag=True):
    """A request is about to be sent. Its outcome is unknown unless an ``Answered`` follows."""

    kind: AttemptKind
    key: str
    number: int
    process: str
    at: float


class Answered(msgspec.Struct, frozen=True, tag=True):
    """An attempt ended, with or without an answer."""

    attempt: Attempt


class Journal:
    """Appends to a file, unbuffered: a killed drill loses no entry. Also keeps the purchases."""

    def __init__(self, path: Path) -> None:
        self.purchases: list[Purchase] = []
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o644)
        self._encoder = msgspec.json.Encoder()

    def planned(self, purchase: Purchase) -> None:
        """Record an order that is due."""
        self.purchases.append(purchase)
        self._write(Planned(purchase.key, purchase.email, purchase.due_at, purchase.quantities))

    def sending(self, kind: AttemptKind, key: str, number: int, process: str, at: float) -> None:
        """Record a request before it is sent."""
        self._write(Sending(kind, key, number, process, at))

    def answered(self, purchase: Purchase, attempt: Attempt) -> None:
        """Record an answer, or that none came in time."""
        purchase.attempts.append(attempt)
        self._write(Answered(attempt))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def _write(self, entry: Planned | Sending | Answered) -> None:
        os.write(self._file, self._encoder.encode(entry) + b"\n")
