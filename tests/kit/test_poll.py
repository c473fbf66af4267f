"""Background loops, stepped by the test: no test waits for time to pass."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from purveyor.kit.errors import Unavailable
from purveyor.kit.poll import MORE, Poll, regularly, wait_until_set


class Steps:
    """Records in order what a loop did; ends it after ``last`` steps."""

    def __init__(self, last: int) -> None:
        self.seen: list[object] = []
        self._last = last

    def note(self, step: object) -> None:
        self.seen.append(step)
        if len(self.seen) >= self._last:
            raise asyncio.CancelledError

    async def wait(self, event: asyncio.Event, within_s: float | None) -> None:
        self.note(("woken" if event.is_set() else "waits", within_s))

    async def sleep(self, seconds: float) -> None:
        self.note(("sleeps", seconds))


async def run(steps: Steps, every_s: float | Callable[[], float | None], *answers: float | None) -> list[object]:
    poll, left = Poll(every_s, wait=steps.wait, sleep=steps.sleep), list(answers)

    async def work() -> float | None:
        steps.note("works")
        return left.pop(0)

    with suppress(asyncio.CancelledError):
        await poll.run(work)
    return steps.seen


async def test_work_is_done_at_once_and_after_each_poll() -> None:
    assert await run(Steps(4), 2.0, None, None) == ["works", ("waits", 2.0), "works", ("waits", 2.0)]


async def test_more_work_is_done_without_waiting() -> None:
    assert await run(Steps(4), 2.0, MORE, MORE, None) == ["works", "works", "works", ("waits", 2.0)]


async def test_pause_is_slept_through_whatever_wakes() -> None:
    assert await run(Steps(3), 2.0, 7.0, None) == ["works", ("sleeps", 7.0), "works"]


async def test_poll_interval_can_change_and_can_be_none() -> None:
    pauses = [1.0, None]
    seen = await run(Steps(4), lambda: pauses.pop(0), None, None)

    assert seen == ["works", ("waits", 1.0), "works", ("waits", None)]


async def test_wake_during_the_work_leads_to_another_round_and_counts_once() -> None:
    steps = Steps(4)
    poll = Poll(9.0, wait=steps.wait)

    async def work() -> None:
        steps.note("works")
        if len(steps.seen) == 1:
            poll.wake()
            poll.wake()

    with suppress(asyncio.CancelledError):
        await poll.run(work)
    assert steps.seen == ["works", ("woken", 9.0), "works", ("waits", 9.0)]


async def test_wake_ends_a_wait_that_has_begun() -> None:
    worked, poll = asyncio.Semaphore(0), Poll(lambda: None)

    async def work() -> None:
        worked.release()

    running = asyncio.create_task(poll.run(work))
    await worked.acquire()
    await asyncio.sleep(0)  # now it waits
    poll.wake()
    await worked.acquire()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_failure_of_the_work_ends_the_loop() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Poll(1.0).run(work)


async def test_wait_ends_with_the_time_when_nothing_happens() -> None:
    await wait_until_set(asyncio.Event(), 0)


async def test_every_purge_is_run_at_once_and_regularly() -> None:
    steps = Steps(6)

    async def first() -> None:
        steps.note("first")

    async def second() -> int:
        steps.note("second")
        return 2

    with suppress(asyncio.CancelledError):
        await regularly(600.0, first, second, sleep=steps.sleep)
    assert steps.seen == ["first", "second", ("sleeps", 600.0)] * 2


@pytest.mark.parametrize(
    ("error", "level"), [(Unavailable("away"), "WARNING"), (ZeroDivisionError("bug"), "ERROR")]
)
@pytest.mark.parametrize(("every_s", "again_s"), [(600.0, 5.0), (2.0, 2.0)])
async def test_purge_that_fails_is_logged_and_tried_again_soon_and_stops_no_other(
    error: Exception, level: str, every_s: float, again_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps(4)

    async def first() -> None:
        if not caplog.records:
            raise error
        steps.note("first")

    async def second() -> None:
        steps.note("second")

    with suppress(asyncio.CancelledError):
        await regularly(every_s, first, second, sleep=steps.sleep)
    assert steps.seen == ["second", ("sleeps", again_s), "first", "second"]
    assert [(record.levelname, record.reason) for record in caplog.records] == [(level, repr(error))]  # type: ignore[attr-defined]
