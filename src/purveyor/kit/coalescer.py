"""Coalesces concurrent calls, so that one round trip or one commit serves all of them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import wraps
from typing import Generic, TypeVar

from purveyor.kit.errors import Unavailable

C = TypeVar("C")
A = TypeVar("A")
RunGroup = Callable[[Sequence[C]], Awaitable[Sequence[A | Exception]]]


def alone_after_failure(run: RunGroup[C, A]) -> RunGroup[C, A]:
    """Make ``run`` repeat the calls of a failed group one by one, so that a bad call fails only itself.

    A failed group must have had no effect, except after ``Unavailable``: then nothing is repeated, and the calls
    that are left get the same error.
    """

    @wraps(run)
    async def run_group(calls: Sequence[C]) -> Sequence[A | Exception]:
        try:
            return await run(calls)
        except Exception as error:
            if len(calls) == 1 or isinstance(error, Unavailable):
                return [error] * len(calls)
        answers: list[A | Exception] = []
        for call in calls:
            answers += await run_group([call])
            if isinstance(answers[-1], Unavailable):
                break
        return answers + answers[-1:] * (len(calls) - len(answers))

    return run_group


class Coalescer(Generic[C, A]):
    """Collects calls while groups of earlier calls are running, then runs them as the next group.

    A call that finds fewer than ``max_running`` groups running starts one at once, so coalescing adds no delay to
    an idle system. Groups start in the order of the calls, with at most ``max_size`` calls each.

    ``run`` returns one answer per call, in order. An ``Exception`` among them is raised to its caller, and one
    that ``run`` raises to all of the group. ``run`` needs a deadline of its own and sees no context variables of
    its callers. Cancelling a caller withdraws a call that has not started and does not affect the others.
    """

    def __init__(self, run: RunGroup[C, A], *, max_size: int, max_running: int = 1) -> None:
        self._run, self._max_size, self._max_running = run, max_size, max_running
        self._waiting: deque[tuple[C, asyncio.Future[A]]] = deque()
        self._runners: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """True if no group is running and none is about to start."""
        return not self._runners

    async def call(self, call: C) -> A:
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if len(self._waiting) == 1:  # for the others a runner is already about to start, or all are busy
            self._add_runner()
        return await answer

    async def aclose(self) -> None:
        """Cancel the calls in progress, and with them their callers."""
        runners = list(self._runners)
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)
        self._runners.clear()
        self._abandon_waiting()  # a runner that is cancelled before its first step does not get there

    def _add_runner(self) -> None:
        if len(self._runners) < self._max_running:
            self._runners.add(asyncio.create_task(self._run_groups(), name="coalescer", context=Context()))

    async def _run_groups(self) -> None:
        group: list[tuple[C, asyncio.Future[A]]] = []
        try:
            while group := self._next_group():
                if self._waiting:
                    self._add_runner()
                answers = await self._answers([call for call, _ in group])
                for (_, future), answer in zip(group, answers, strict=True):
                    _settle(future, answer)
        finally:
            self._runners.discard(asyncio.current_task())
            for _, future in group:
                future.cancel()
            if not self._runners:
                self._abandon_waiting()

    def _next_group(self) -> list[tuple[C, asyncio.Future[A]]]:
        group: list[tuple[C, asyncio.Future[A]]] = []
        while self._waiting and len(group) < self._max_size:
            waiting = self._waiting.popleft()
            if not waiting[1].done():
                group.append(waiting)
        return group

    async def _answers(self, calls: Sequence[C]) -> Sequence[A | Exception]:
        try:
            answers = await self._run(calls)
            if len(answers) != len(calls):
                raise RuntimeError(f"{len(calls)} calls were run and {len(answers)} answered")  # noqa: TRY301
        except Exception as error:
            return [error] * len(calls)
        return answers

    def _abandon_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft()[1].cancel()


class Gathering:
    """Releases its callers together, so that their next calls share a group."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._leaves: asyncio.Event | None = None

    async def join(self) -> None:
        """Wait until all callers are released, ``within_s`` seconds after the first of them joined."""
        if self._leaves is None:
            self._leaves = asyncio.Event()
            asyncio.get_running_loop().call_later(self._within_s, self._leave)
        await self._leaves.wait()

    def _leave(self) -> None:
        if self._leaves is not None:
            self._leaves.set()
        self._leaves = None


def _settle(future: asyncio.Future[A], answer: A | Exception) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
        future.exception()  # marks it as retrieved, or asyncio would log it when the caller is cancelled now
    else:
        future.set_result(answer)
