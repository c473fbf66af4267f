"""Several processes that do the same: one that dies is replaced, and they end together."""

import asyncio
import logging
import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess

from purveyor.kit.errors import StartupError
from purveyor.kit.exits import NOT_THERE, WRONG_USE
from purveyor.kit.supervisor import Deaths

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


class Workers:
    """``count`` processes that run ``main``, a function that can be pickled; ``grace_s`` to end in, in seconds."""

    def __init__(self, main: Callable[[], object], count: int, *, grace_s: float) -> None:
        self._main, self._count, self._grace_s = main, count, grace_s
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[BaseProcess] = []

    async def run(self, stop: asyncio.Event) -> int:
        """Keep them until told to stop; the exit code.

        A worker that ends with exit code 1 or 2 has said why, and all end with its code. Raises ``StartupError``
        when one died more than 5 times in a minute.
        """
        self._workers += [self._spawn() for _ in range(self._count)]
        log.info("workers started", extra={"pids": [worker.pid for worker in self._workers]})
        deaths = [Deaths() for _ in self._workers]
        try:
            while not stop.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await stop.wait()
                for place, worker in enumerate(self._workers):
                    if worker.is_alive() or stop.is_set():
                        continue
                    if worker.exitcode in (NOT_THERE, WRONG_USE):  # it would say it again
                        return worker.exitcode
                    self._replace(place, deaths[place])
            return 0
        finally:
            await self._end()

    def kill(self) -> None:
        """End them at once."""
        for worker in self._workers:
            worker.kill()

    def _replace(self, place: int, deaths: Deaths) -> None:
        worker = self._workers[place]
        how = _how(worker.exitcode or 0)
        log.error("a worker ended, starting another", extra={"pid": worker.pid, "how": how})
        if worker.exitcode:  # one that was asked to end has not died
            recent = deaths.add()
            if deaths.too_many(recent):
                raise StartupError(f"A worker died {recent} times in a minute, last {how}.")
        self._workers[place] = self._spawn()

    def _spawn(self) -> BaseProcess:
        worker = self._context.Process(target=self._main, name="purveyor worker")
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
    """In a worker, wait until the process that started it has ended, however it did; elsewhere for ever.

    No comparing of parent process ids: who was orphaned while it was still importing would compare with the
    wrong one. The sentinel is a pipe whose other end the starter holds, so it tells also what has already been.
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


def _how(exitcode: int) -> str:
    if exitcode >= 0:
        return f"with exit code {exitcode}"
    with suppress(ValueError):
        return f"by {signal.Signals(-exitcode).name}"
    return f"by signal {-exitcode}"
