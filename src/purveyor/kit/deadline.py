"""The deadline of the current request, which bounds all of its waits.

A request may wait in a queue, for another role, for products, for a connection and for a statement. Each wait has
a bound of its own; the common deadline keeps their sum within the guarantee (503 within 2.5 s).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ANSWER_WITHIN_S = 2.2
_MIN_WAIT_S = 0.2

_answer_by: ContextVar[float | None] = ContextVar("answer_by", default=None)


@contextmanager
def request_deadline(waited_s: float = 0.0) -> Iterator[None]:
    """Set the deadline of a request that arrived ``waited_s`` seconds ago."""
    with deadline_at(asyncio.get_running_loop().time() + ANSWER_WITHIN_S - waited_s):
        yield


@contextmanager
def deadline_at(moment: float) -> Iterator[None]:
    """Set a deadline, by the clock of the event loop, for work on behalf of several requests."""
    token = _answer_by.set(moment)
    try:
        yield
    finally:
        _answer_by.reset(token)


@contextmanager
def no_deadline() -> Iterator[None]:
    """Suspend the deadline, for work that outlives the answer or streams it."""
    token = _answer_by.set(None)
    try:
        yield
    finally:
        _answer_by.reset(token)


def seconds_left(most_s: float) -> float:
    """Return how long a wait may last: ``most_s`` or the request's remaining time, but at least 0.2 s."""
    answer_by = _answer_by.get()
    if answer_by is None:
        return most_s
    return max(_MIN_WAIT_S, min(most_s, answer_by - asyncio.get_running_loop().time()))
