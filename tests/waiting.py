"""How long a test waits for something to happen."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar, cast

PATIENCE_S = 120.0
"""The one deadline of the suite. It ends what would never come; how fast something comes is measured elsewhere."""
_POLL_S = 0.02

T = TypeVar("T")


class Missing:
    """A condition that holds when nothing is missing any more; a failure says what was."""

    def __init__(self, what: Iterable[object]) -> None:
        self._what = list(what)

    def __bool__(self) -> bool:
        return not self._what

    def __repr__(self) -> str:
        return f"missing {self._what}"


async def until(condition: Callable[[], T | Awaitable[T]]) -> T:
    """Wait until the condition holds, and return what it gave; ``TimeoutError`` when it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        given = condition()
        value = cast("T", await given if inspect.isawaitable(given) else given)
        if value:
            return value
        _check(deadline, value)
        await asyncio.sleep(_POLL_S)


def wait_until(condition: Callable[[], T]) -> T:
    """Wait as ``until`` does, where there is no event loop."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        _check(deadline, value)
        time.sleep(_POLL_S)
    return value


def _check(deadline: float, value: object) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"still {value!r} after {PATIENCE_S:g} s")
