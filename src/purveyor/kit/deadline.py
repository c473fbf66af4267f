"""The deadline of the current request, which bounds all of its waits.

A request may wait in a queue, for another role, for products, for a connection and for a statement. Each wait has
a bound of its own; the common deadline keeps their sum within the guarantee (503 within 2.5 s).
"""

import asyncio
from contextvars import ContextVar

ANSWER_WITHIN_S = 2.2
_MIN_WAIT_S = 0.2

_answer_by: ContextVar[float | None] = ContextVar("answer_by", default=None)


class deadline_at:  # noqa: N801 - a context manager
    """Set a deadline, by the clock of the event loop, for work on behalf of several requests."""

    __slots__ = ("_moment", "_token")

    def __init__(self, moment: float | None) -> None:
        self._moment = moment

    def __enter__(self) -> None:
        self._token = _answer_by.set(self._moment)

    def __exit__(self, *_: object) -> None:
        _answer_by.reset(self._token)


def request_deadline(waited_s: float = 0.0) -> deadline_at:
    """Set the deadline of a request that arrived ``waited_s`` seconds ago."""
    return deadline_at(asyncio.get_running_loop().time() + ANSWER_WITHIN_S - waited_s)


def no_deadline() -> deadline_at:
    """Suspend the deadline, for work that outlives the answer or streams it."""
    return deadline_at(None)


def seconds_left(most_s: float) -> float:
    """Return how long a wait may last: ``most_s`` or the request's remaining time, but at least 0.2 s."""
    answer_by = _answer_by.get()
    if answer_by is None:
        return most_s
    return max(_MIN_WAIT_S, min(most_s, answer_by - asyncio.get_running_loop().time()))
