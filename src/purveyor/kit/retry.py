"""Retries with exponential backoff and a limit on attempts or time."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from purveyor.kit.errors import ServerAway, StartupError

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[object]]
OnFailure = Callable[[Exception, int, float], None]

log = logging.getLogger(__name__)

_MAX_EXPONENT = 30


class RetrySchedule(msgspec.Struct, frozen=True):
    """Pauses that grow by ``factor`` from ``first_s`` to ``longest_s``, in seconds.

    ``jitter`` is the random share of each pause, from 0 to 1. It keeps processes from retrying all at once.
    """

    first_s: float
    longest_s: float
    factor: float = 2.0
    jitter: float = 0.5

    def pause_s(self, failures: int) -> float:
        """Return the pause after so many failures in a row, counted from 1."""
        whole_s = min(self.longest_s, self.first_s * self.factor ** min(failures - 1, _MAX_EXPONENT))
        return whole_s * random.uniform(1 - self.jitter, 1)  # noqa: S311 - no secret


async def retry(
    attempt: Callable[[], Awaitable[T]],
    schedule: RetrySchedule,
    *,
    on: type[Exception] | Callable[[Exception], bool],
    attempts: int | None = None,
    within_s: float | None = None,
    failed: OnFailure | None = None,
    sleep: Sleep = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Call ``attempt`` until it succeeds. Only errors that ``on`` names or accepts are retried.

    Raises the last error after ``attempts`` failures, or when the next attempt would start more than ``within_s``
    seconds from now. ``failed`` is called with each retried error, its number and the pause in seconds.
    """
    ends = None if within_s is None else clock() + within_s
    failures = 0
    while True:
        try:
            return await attempt()
        except Exception as error:
            failures += 1
            pause_s = schedule.pause_s(failures)
            retried = isinstance(error, on) if isinstance(on, type) else on(error)
            if not retried or failures == attempts or (ends is not None and clock() + pause_s > ends):
                raise
            if failed is not None:
                failed(error, failures, pause_s)
        await sleep(pause_s)


_STARTUP = RetrySchedule(first_s=1.0, longest_s=1.0)


async def wait_for_server(
    connect: Callable[[], Awaitable[T]], within_s: float, *, sleep: Sleep = asyncio.sleep
) -> T:
    """Retry a connection at startup for ``within_s`` seconds. Raises ``StartupError`` when the time is up."""

    def warn(away: Exception, _failures: int, _pause_s: float) -> None:
        log.warning("waiting: %s", away)

    try:
        return await retry(connect, _STARTUP, on=ServerAway, within_s=within_s, failed=warn, sleep=sleep)
    except ServerAway as away:
        waited = f" Gave up after {within_s:g} s." if within_s else ""
        raise StartupError(f"{away}{waited}") from away


def stand_in(trouble: StartupError) -> Any:
    """Return a substitute for an unavailable client. Its methods raise ``trouble``, for the checks to report."""

    class StandIn:
        server = ""  # the error names it

        def __getattr__(self, name: str) -> Any:
            async def fail(*_: object) -> None:
                raise trouble

            return fail

    return StandIn()
