"""The client's own record of the load, in JSON lines: written before a request and after its answer."""

import os
from pathlib import Path
from typing import Self

import msgspec

from purveyor_drill.observations import Attempt, AttemptKind, Operation, Purchase


class Journal:
    """Appends to a file, unbuffered: a killed drill loses no entry. Also keeps the purchases and the operations.

    The types of entries are ``Planned``, ``Sending`` and ``Answered`` for purchases, ``Invoked`` and ``Completed``
    for operations. A request without an ``Answered`` or ``Completed`` after it has an unknown outcome.
    """

    def __init__(self, path: Path) -> None:
        self.purchases: list[Purchase] = []
        self.operations: list[Operation] = []
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o644)
        self._encoder = msgspec.json.Encoder()

    def planned(self, purchase: Purchase) -> None:
        self.purchases.append(purchase)
        self._write("Planned", purchase=purchase)

    def sending(self, kind: AttemptKind, key: str, number: int, process: str, at: float) -> None:
        """Record a request before it is sent."""
        self._write("Sending", kind=kind, key=key, number=number, process=process, at=at)

    def answered(self, purchase: Purchase, attempt: Attempt) -> None:
        """Record an answer, or that none came in time."""
        purchase.attempts.append(attempt)
        self._write("Answered", attempt=attempt)

    def invoked(self, operation: Operation) -> None:
        """Record an operation before it is sent, as one with an unknown outcome."""
        self._write("Invoked", operation=operation)

    def completed(self, operation: Operation) -> None:
        """Record the outcome of an operation."""
        self.operations.append(operation)
        self._write("Completed", operation=operation)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _write(self, entry: str, **values: object) -> None:
        os.write(self._file, self._encoder.encode({"type": entry, **values}) + b"\n")
