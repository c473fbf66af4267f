"""Supervision of background tasks and worker processes: restart with backoff, up to 5 deaths per minute.

A task that ends with ``Unavailable`` waits for its server and does not count as dead.
"""

import asyncio
import logging
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess

from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.metrics import TASK_DEATHS
from purveyor.kit.poll import wait_until_set
from purveyor.kit.process.background import Background
from purveyor.kit.process.exit_codes import NOT_THERE, WRONG_USE
from purveyor.kit.retry import RetrySchedule

log = logging.getLogger(__name__)
_MAX_DEATHS = 5
_WINDOW_S = 60.0
_RESTART = RetrySchedule(first_s=0.2, longest_s=5.0)
_TROUBLE_SHOWN_S = 10.0


class Deaths:
    """Counts deaths in the last minute."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque(maxlen=_MAX_DEATHS + 1)

    def add(self) -> int:
        """Add a death and return how many there were in the last minute."""
        self._moments.append(time.monotonic())
        return sum(self._moments[-1] - moment < _WINDOW_S for moment in self._moments)


class Supervisor:
    """Runs background tasks by role. ``failed`` is set when a task dies more than 5 times in a minute."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._deaths: dict[str, tuple[float, str]] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, role: str, background: Background) -> None:
        self._tasks.append(asyncio.create_task(self._keep(role, background), name=f"{role} {background.name}"))

    def troubles(self) -> dict[str, str]:
        """Return the roles with a task that died or waited in the last 10 s, and the reason."""
        now = time.monotonic()
        return {role: why for role, (when, why) in self._deaths.items() if now - when < _TROUBLE_SHOWN_S}

    async def stop(self) -> None:
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
                if _is_stopping():
                    raise
                waits = 1 if time.monotonic() - started > _RESTART.longest_s else waits + 1
                self._deaths[role] = (time.monotonic(), f"{background.name} waits: {away}")
                log.warning(
                    "waiting for a server", extra={"role": role, "task": background.name, "why": str(away)}
                )
                await asyncio.sleep(_RESTART.pause_s(waits))
            except (Exception, asyncio.CancelledError) as error:
                if _is_stopping():
                    raise
                recent = deaths.add()
                self._note(role, background.name, error)
                if recent > _MAX_DEATHS:
                    self._give_up(f"{role}: {background.name} died {recent} times in a minute, last of: {error}")
                    return
                await asyncio.sleep(_RESTART.pause_s(recent))
            else:
                return

    def _note(self, role: str, task: str, error: BaseException) -> None:
        self._deaths[role] = (time.monotonic(), f"{task} died: {type(error).__name__}: {error}")
        TASK_DEATHS.labels(f"{role} {task}").inc()
        log.error("background task died, restarting", exc_info=error, extra={"role": role, "task": task})

    def _give_up(self, line: str) -> None:
        if not self.failed.done():
            self.failed.set_exception(StartupError(line))


def _is_stopping() -> bool:
    """Return whether ``stop`` cancelled the task. A library may then raise its own error, such as a lost server.

    A ``CancelledError`` that leaked from a library counts as a death.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


_POLL_S = 1.0


class Workers:
    """A process for each of the picklable functions ``mains``; they have ``grace_s`` seconds to end."""

    def __init__(self, mains: Sequence[Callable[[], object]], *, grace_s: float) -> None:
        self._mains, self._grace_s = mains, grace_s
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[BaseProcess] = []

    async def run(self, stop: asyncio.Event) -> int:
        """Replace dead workers until ``stop`` is set; return the exit code.

        When a worker exits with code 1 or 2, it has reported an error, and all end with its code. Raises
        ``StartupError`` when a worker died more than 5 times in a minute.
        """
        self._workers += [self._spawn(main) for main in self._mains]
        log.info("workers started", extra={"pids": [worker.pid for worker in self._workers]})
        deaths = [Deaths() for _ in self._workers]
        try:
            while not stop.is_set():
                await wait_until_set(stop, _POLL_S)
                for place, worker in enumerate(self._workers):
                    if worker.is_alive() or stop.is_set():
                        continue
                    if worker.exitcode in (NOT_THERE, WRONG_USE):  # a new one would fail the same way
                        return worker.exitcode
                    self._replace(place, deaths[place])
            return 0
        finally:
            await self._end()

    def kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _replace(self, place: int, deaths: Deaths) -> None:
        worker = self._workers[place]
        how = _exit_reason(worker.exitcode or 0)
        log.error("a worker ended, starting another", extra={"pid": worker.pid, "how": how})
        if worker.exitcode:  # 0: it was asked to end
            recent = deaths.add()
            if recent > _MAX_DEATHS:
                raise StartupError(
                    f"Workers died {recent} times in a minute, most recently {how}. See the log for the cause."
                )
        self._workers[place] = self._spawn(self._mains[place])

    def _spawn(self, main: Callable[[], object]) -> BaseProcess:
        worker = self._context.Process(target=main, name="purveyor worker")
        worker.start()
        return worker

    async def _end(self) -> None:
        for worker in self._workers:
            if worker.is_alive():
                worker.terminate()
        deadline = asyncio.get_running_loop().time() + self._grace_s
        while any(worker.is_alive() for worker in self._workers):
            if asyncio.get_running_loop().time() > deadline:
                self.kill()
            await asyncio.sleep(0.05)


async def starter_gone() -> None:
    """Wait in a worker until its parent process has ended; elsewhere for ever.

    Uses the sentinel, a pipe that the parent holds open. Comparing parent process ids would miss a parent that
    died while the worker was still importing.
    """
    starter = multiprocessing.parent_process()
    if starter is None:
        await asyncio.Event().wait()
        return
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(starter.sentinel, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(starter.sentinel)


def _exit_reason(exitcode: int) -> str:
    if exitcode >= 0:
        return f"with exit code {exitcode}"
    with suppress(ValueError):
        return f"by {signal.Signals(-exitcode).name}"
    return f"by signal {-exitcode}"
