"""Background loops: polling for work with a wake-up signal, and periodic tasks."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from purveyor.kit.errors import Unavailable
from purveyor.kit.retry import Sleep

log = logging.getLogger(__name__)

MORE = 0.0
"""Returned by work that should be called again at once."""
_RETRY_S = 5.0

Wait = Callable[[asyncio.Event, float | None], Awaitable[None]]


async def wait_until_set(event: asyncio.Event, within_s: float | None) -> None:
    """Wait for an event, at most ``within_s`` seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()


class Poll:
    """Runs work when woken and every ``every_s`` seconds, since work may also come from another process.

    A function for ``every_s`` is called each time; ``None`` means to wait until woken.
    """

    def __init__(
        self,
        every_s: float | Callable[[], float | None],
        *,
        wait: Wait = wait_until_set,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._every_s = every_s if callable(every_s) else lambda: every_s
        self._wait = wait
        self._sleep = sleep
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self, work: Callable[[], Awaitable[float | None]]) -> None:
        """Call ``work`` until cancelled.

        It returns ``None`` when nothing is left, ``MORE`` to be called again at once, or the seconds to pause,
        which a wake-up does not shorten.
        """
        while True:
            self._woken.clear()  # before the work, so that a wake-up during it is not lost
            pause_s = await work()
            if pause_s is None:
                await self._wait(self._woken, self._every_s())
            elif pause_s > 0:
                await self._sleep(pause_s)


async def regularly(every_s: float, *tasks: Callable[[], Awaitable[object]], sleep: Sleep = asyncio.sleep) -> None:
    """Run all tasks now and every ``every_s`` seconds, until cancelled.

    A task that fails is logged, does not stop the others, and makes the next run start after 5 s at most.
    """
    while True:
        failed = False
        for task in tasks:
            try:
                await task()
            except Exception as error:
                failed = True
                level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
                extra = {"task": getattr(task, "__qualname__", repr(task)), "reason": repr(error)}
                log.log(level, "regular task failed, will try again", extra=extra)
        await sleep(min(every_s, _RETRY_S) if failed else every_s)
