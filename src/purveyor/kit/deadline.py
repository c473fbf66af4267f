"""The moment by which the request in hand must be answered: every wait on its way ends with it.

One request may wait in a queue, then for another role, for products, for a connection, for a statement; each of
these has a bound of its own, and only a common one keeps their sum within the promise (503 within 2.5 s).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ANSWER_WITHIN_S = 2.3
_LEAST_S = 0.2

_answer_by: ContextVar[float | None] = ContextVar("answer_by", default=None)


@contextmanager
def request_deadline(waited_s: float = 0.0) -> Iterator[None]:
    """Begin a request that came ``waited_s`` seconds ago: its answer is due ``ANSWER_WITHIN_S`` after that."""
    token = _answer_by.set(asyncio.get_running_loop().time() + ANSWER_WITHIN_S - waited_s)
    try:
        yield
    finally:
        _answer_by.reset(token)


@contextmanager
def no_deadline() -> Iterator[None]:
    """For what goes on after the answer has begun, such as a long document: only each wait's own bound counts."""
    token = _answer_by.set(None)
    try:
        yield
    finally:
        _answer_by.reset(token)


def seconds_left(most_s: float) -> float:
    """How long a wait may last: ``most_s``, or what the request has left, yet never under 0.2 s."""
    answer_by = _answer_by.get()
    if answer_by is None:
        return most_s
    return max(_LEAST_S, min(most_s, answer_by - asyncio.get_running_loop().time()))
