"""Background loops: working whenever there is something to do, and work that is due regularly."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from purveyor.kit.errors import Unavailable
from purveyor.kit.retry import Sleep

log = logging.getLogger(__name__)

MORE = 0.0
"""What work returns when there may be more to do at once."""
_AGAIN_S = 5.0

Wait = Callable[[asyncio.Event, float | None], Awaitable[None]]


async def wait_until_set(event: asyncio.Event, within_s: float | None) -> None:
    """Wait for an event, at most so many seconds; ``None``: for ever."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()


class Poll:
    """Does work when woken, and every ``every_s`` seconds anyway.

    Being woken is a hint for speed, the poll is the guarantee: work may come from another process. ``every_s`` may
    be a function that is asked each time; ``None`` then means to wait until woken.
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
        """Say that there may be work."""
        self._woken.set()

    async def run(self, work: Callable[[], Awaitable[float | None]]) -> None:
        """Work until cancelled.

        ``work`` returns ``None`` when it has done all there was, ``MORE`` to be called again at once, or the
        seconds to pause whatever wakes it meanwhile.
        """
        while True:
            self._woken.clear()  # before the work: what comes while it runs wakes it again
            pause_s = await work()
            if pause_s is None:
                await self._wait(self._woken, self._every_s())
            elif pause_s > 0:
                await self._sleep(pause_s)


async def regularly(
    every_s: float, *purges: Callable[[], Awaitable[object]], sleep: Sleep = asyncio.sleep
) -> None:
    """Run each of these now and every ``every_s`` seconds, until cancelled.

    One that fails is logged, keeps none of the others from running, and is tried again in 5 s at the latest.
    """
    while True:
        failed = False
        for purge in purges:
            try:
                await purge()
            except Exception as error:
                failed = True
                level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
                extra = {"task": getattr(purge, "__qualname__", repr(purge)), "reason": repr(error)}
                log.log(level, "regular task failed, will try again", extra=extra)
        await sleep(min(every_s, _AGAIN_S) if failed else every_s)
