"""The client's own record of the load: written before a request leaves and after its answer, one JSON a line."""

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
    """A request is about to leave. Without an ``Answered`` after it, its outcome is unknown."""

    kind: AttemptKind
    key: str
    number: int
    process: str
    at: float


class Answered(msgspec.Struct, frozen=True, tag=True):
    """An attempt ended, with or without an answer."""

    attempt: Attempt


class Journal:
    """Appends to a file, each entry in the kernel's hands before the call returns; keeps the purchases as well."""

    def __init__(self, path: Path) -> None:
        self.purchases: list[Purchase] = []
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o644)
        self._encoder = msgspec.json.Encoder()

    def planned(self, purchase: Purchase) -> None:
        """An order's moment has come."""
        self.purchases.append(purchase)
        self._write(Planned(purchase.key, purchase.email, purchase.due_at, purchase.quantities))

    def sending(self, kind: AttemptKind, key: str, number: int, process: str, at: float) -> None:
        """To be called before a request leaves."""
        self._write(Sending(kind, key, number, process, at))

    def answered(self, purchase: Purchase, attempt: Attempt) -> None:
        """To be called after the answer, or when none is waited for any longer."""
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
