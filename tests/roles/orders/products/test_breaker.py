"""The circuit breaker: when it opens, how it probes, and what it does not count."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from purveyor.roles.orders.products.breaker import Breaker, BreakerOpen

WAIT_S = 5.0


class Down(Exception):
    pass


class Refused(Exception):
    pass


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("the thing", failures=(Down,), clock=clock)


async def call(breaker: Breaker, error: type[BaseException] | None = None) -> None:
    try:
        async with breaker.call(WAIT_S):
            if error is not None:
                raise error
    except (Down, Refused, asyncio.CancelledError):
        pass


async def is_open(breaker: Breaker) -> bool:
    try:
        await call(breaker, asyncio.CancelledError)  # counts for nothing
    except BreakerOpen:
        return True
    return False


async def opened(breaker: Breaker) -> Breaker:
    for _ in range(5):
        await call(breaker, Down)
    assert await is_open(breaker)
    return breaker


async def fail_in_turn(breaker: Breaker, times: int) -> None:
    """Failures with as many successes, so that there are never two failures in a row."""
    for _ in range(times):
        await call(breaker)
        await call(breaker, Down)


async def test_opens_at_five_failures_in_a_row_however_slow(breaker: Breaker, clock: Clock) -> None:
    for _ in range(4):
        await call(breaker, Down)
        clock.now += 60
    assert not await is_open(breaker)
    await call(breaker)
    for _ in range(4):
        await call(breaker, Down)
    assert not await is_open(breaker), "a success begins the row anew"
    await call(breaker, Down)
    assert await is_open(breaker)


async def test_opens_only_from_the_twentieth_call_on(breaker: Breaker) -> None:
    await fail_in_turn(breaker, 9)
    await call(breaker)
    assert not await is_open(breaker)
    await call(breaker, Down)
    assert await is_open(breaker)


@pytest.mark.parametrize(("failures", "opens"), [(14, False), (15, True)])
async def test_opens_at_half_of_the_calls(breaker: Breaker, failures: int, opens: bool) -> None:
    calls = [None] * (25 - failures) + [None, Down, Down, Down] * 5
    for outcome in calls[:30]:
        await call(breaker, outcome)
    assert await is_open(breaker) is opens


async def test_forgets_what_is_older_than_the_window(breaker: Breaker, clock: Clock) -> None:
    await fail_in_turn(breaker, 9)
    clock.now += 11
    await fail_in_turn(breaker, 9)
    assert not await is_open(breaker)


async def test_counts_over_the_whole_window(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10):
        await fail_in_turn(breaker, 1)
        clock.now += 0.9
    assert await is_open(breaker)


async def test_other_errors_and_cancellations_are_no_failures(breaker: Breaker) -> None:
    for _ in range(50):
        await call(breaker, Refused)
        await call(breaker, asyncio.CancelledError)
    assert not await is_open(breaker)


async def test_what_belongs_together_fails_once(breaker: Breaker) -> None:
    for _ in range(4):
        with breaker.as_one():
            await asyncio.gather(*(call(breaker, Down) for _ in range(30)))
    assert not await is_open(breaker)
    with breaker.as_one():
        await call(breaker, Down)
    assert await is_open(breaker)


async def test_what_belongs_together_succeeds_once(breaker: Breaker) -> None:
    for _ in range(10):
        with breaker.as_one():
            for _ in range(30):
                await call(breaker)
            await call(breaker, Down)
    assert await is_open(breaker)


async def test_tells_how_long_to_wait(breaker: Breaker, clock: Clock) -> None:
    await opened(breaker)
    clock.now += 1.5
    with pytest.raises(BreakerOpen, match="the thing") as refused:
        async with breaker.call(WAIT_S):
            pytest.fail("entered an open circuit")
    assert refused.value.retry_after_s == 4


async def begin(breaker: Breaker, calls: int) -> list[asyncio.Task[None]]:
    """Calls that have come as far as they can."""
    tasks = [asyncio.create_task(call(breaker)) for _ in range(calls)]
    await asyncio.sleep(0.01)
    return tasks


async def test_half_open_lets_one_call_through_and_the_others_wait_for_it(breaker: Breaker, clock: Clock) -> None:
    await opened(breaker)
    clock.now += 5
    async with breaker.call(WAIT_S):
        others = await begin(breaker, 10)
        assert not any(other.done() for other in others)
    await asyncio.gather(*others)
    assert not await is_open(breaker)


async def test_failed_probe_refuses_those_who_waited(breaker: Breaker, clock: Clock) -> None:
    await opened(breaker)
    clock.now += 5
    with suppress(Down):
        async with breaker.call(WAIT_S):
            others = await begin(breaker, 10)
            raise Down
    outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [BreakerOpen] * 10


async def test_nobody_waits_for_a_probe_without_end(breaker: Breaker, clock: Clock) -> None:
    await opened(breaker)
    clock.now += 5
    async with breaker.call(WAIT_S):
        with pytest.raises(BreakerOpen) as refused:
            async with breaker.call(0.01):
                pytest.fail("entered beside the probe")
    assert refused.value.retry_after_s == 1


async def test_failed_probe_opens_again_for_the_whole_time(breaker: Breaker, clock: Clock) -> None:
    await opened(breaker)
    clock.now += 5
    await call(breaker, Down)
    clock.now += 4.9
    assert await is_open(breaker)
    clock.now += 0.1
    await call(breaker)
    assert not await is_open(breaker)


async def test_probe_that_meets_another_error_closes(breaker: Breaker, clock: Clock) -> None:
    await opened(breaker)
    clock.now += 5
    await call(breaker, Refused)
    for _ in range(4):
        await call(breaker, Down)
    assert not await is_open(breaker), "the count starts anew"


async def test_cancelled_probe_leaves_the_probe_to_the_next(breaker: Breaker, clock: Clock) -> None:
    await opened(breaker)
    clock.now += 5
    with suppress(asyncio.CancelledError):
        async with breaker.call(WAIT_S):
            others = await begin(breaker, 2)
            raise asyncio.CancelledError
    await asyncio.gather(*others)
    assert not await is_open(breaker)


@pytest.mark.parametrize("error", [None, Down])
async def test_late_ends_of_earlier_calls_change_nothing(
    breaker: Breaker, clock: Clock, error: type[Exception] | None
) -> None:
    with suppress(Down):
        async with AsyncExitStack() as calls:
            for _ in range(20):
                await calls.enter_async_context(breaker.call(WAIT_S))
            await opened(breaker)
            clock.now += 4.9
            if error is not None:
                raise error
    assert await is_open(breaker)
    clock.now += 0.1
    assert not await is_open(breaker)
