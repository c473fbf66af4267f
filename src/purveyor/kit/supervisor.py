"""Keeps background tasks alive: restarts what dies, with backoff, and gives up on what keeps dying.

A server that is away (``Unavailable``) is waited for as long as it takes; every other death counts.
"""

import asyncio
import logging
import random
import time
from collections import deque

from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.metrics import TASK_DEATHS
from purveyor.kit.role import Background

log = logging.getLogger(__name__)

_MAX_DEATHS = 5
_WINDOW_S = 60.0
_LONGEST_PAUSE_S = 5.0
_TROUBLE_FADES_S = 10.0


class Deaths:
    """The rule of what is started again: more than 5 deaths in a minute are too many."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque(maxlen=_MAX_DEATHS + 1)

    def add(self) -> int:
        """One more; how many there were in the last minute."""
        self._moments.append(time.monotonic())
        return sum(self._moments[-1] - moment < _WINDOW_S for moment in self._moments)

    @staticmethod
    def too_many(recent: int) -> bool:
        """Whether to give up."""
        return recent > _MAX_DEATHS


class Supervisor:
    """Runs background tasks by role. ``failed`` is set when one died more than 5 times in a minute."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._deaths: dict[str, tuple[float, str]] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, role: str, background: Background) -> None:
        """Run a task until ``stop``."""
        self._tasks.append(asyncio.create_task(self._keep(role, background), name=f"{role} {background.name}"))

    def troubles(self) -> dict[str, str]:
        """Roles with a task that died in the last 10 s, and why."""
        now = time.monotonic()
        return {role: why for role, (when, why) in self._deaths.items() if now - when < _TROUBLE_FADES_S}

    async def stop(self) -> None:
        """Cancel every task and wait until each has cleaned up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, role: str, background: Background) -> None:
        deaths = Deaths()
        waits = 0
        while True:
            started = time.monotonic()
            try:
                await background.run()
            except Unavailable as away:
                waits = 1 if time.monotonic() - started > _LONGEST_PAUSE_S else waits + 1
                self._deaths[role] = (time.monotonic(), f"{background.name} waits: {away}")
                log.warning(
                    "waiting for a server", extra={"role": role, "task": background.name, "why": str(away)}
                )
                await _pause(waits)
            except (Exception, asyncio.CancelledError) as error:
                if _was_asked_for(error):
                    raise
                recent = deaths.add()
                self._note(role, background.name, error)
                if deaths.too_many(recent):
                    self._give_up(f"{role}: {background.name} died {recent} times in a minute, last of: {error}")
                    return
                await _pause(recent)
            else:
                return

    def _note(self, role: str, task: str, error: BaseException) -> None:
        self._deaths[role] = (time.monotonic(), f"{task} died: {type(error).__name__}: {error}")
        TASK_DEATHS.labels(f"{role} {task}").inc()
        log.error("background task died, restarting", exc_info=error, extra={"role": role, "task": task})

    def _give_up(self, line: str) -> None:
        if not self.failed.done():
            self.failed.set_exception(StartupError(line))


def _was_asked_for(error: BaseException) -> bool:
    """Whether it is the cancellation of ``stop``: one that escaped from a library is a death like another."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


async def _pause(times: int) -> None:
    """Back off: from 0.2 s, doubled each time, at most 5 s, with jitter."""
    await asyncio.sleep(min(_LONGEST_PAUSE_S, 0.1 * 2 ** min(times, 10)) * random.uniform(0.5, 1.0))  # noqa: S311
