"""The circuit breaker: when it opens, how it probes, and what it does not count."""

import asyncio
from contextlib import ExitStack, suppress

import pytest

from purveyor.kit.breaker import Breaker, BreakerOpen


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


def call(breaker: Breaker, error: type[BaseException] | None = None) -> None:
    try:
        with breaker.call():
            if error is not None:
                raise error
    except (Down, Refused, asyncio.CancelledError):
        pass


def is_open(breaker: Breaker) -> bool:
    try:
        call(breaker, asyncio.CancelledError)  # counts for nothing
    except BreakerOpen:
        return True
    return False


def opened(breaker: Breaker) -> Breaker:
    for _ in range(20):
        call(breaker, Down)
    assert is_open(breaker)
    return breaker


def test_opens_only_from_the_twentieth_call_on(breaker: Breaker) -> None:
    for _ in range(19):
        call(breaker, Down)
    assert not is_open(breaker)
    call(breaker, Down)
    assert is_open(breaker)


@pytest.mark.parametrize(("failures", "opens"), [(14, False), (15, True)])
def test_opens_at_half_of_the_calls(breaker: Breaker, failures: int, opens: bool) -> None:
    for _ in range(30 - failures):
        call(breaker)
    for _ in range(failures):
        call(breaker, Down)
    assert is_open(breaker) is opens


def test_forgets_what_is_older_than_the_window(breaker: Breaker, clock: Clock) -> None:
    for _ in range(19):
        call(breaker, Down)
    clock.now += 11
    call(breaker, Down)
    assert not is_open(breaker)


def test_counts_over_the_whole_window(breaker: Breaker, clock: Clock) -> None:
    for _ in range(20):
        call(breaker, Down)
        clock.now += 0.45
    assert is_open(breaker)


def test_other_errors_and_cancellations_are_no_failures(breaker: Breaker) -> None:
    for _ in range(50):
        call(breaker, Refused)
        call(breaker, asyncio.CancelledError)
    assert not is_open(breaker)


def test_tells_how_long_to_wait(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 1.5
    with pytest.raises(BreakerOpen, match="the thing") as refused, breaker.call():
        pytest.fail("entered an open circuit")
    assert refused.value.retry_after_s == 4


def test_half_open_lets_exactly_one_call_through(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 5
    with breaker.call():
        for _ in range(10):
            assert is_open(breaker)
    assert not is_open(breaker)


def test_failed_probe_opens_again_for_the_whole_time(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 5
    call(breaker, Down)
    clock.now += 4.9
    assert is_open(breaker)
    clock.now += 0.1
    call(breaker)
    assert not is_open(breaker)


def test_probe_that_meets_another_error_closes(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 5
    call(breaker, Refused)
    call(breaker, Down)
    assert not is_open(breaker), "the count starts anew"


def test_cancelled_probe_leaves_the_probe_to_the_next(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 5
    call(breaker, asyncio.CancelledError)
    with breaker.call():
        assert is_open(breaker)


@pytest.mark.parametrize("error", [None, Down])
def test_late_ends_of_earlier_calls_change_nothing(
    breaker: Breaker, clock: Clock, error: type[Exception] | None
) -> None:
    with suppress(Down), ExitStack() as calls:
        for _ in range(20):
            calls.enter_context(breaker.call())
        opened(breaker)
        clock.now += 4.9
        if error is not None:
            raise error
    assert is_open(breaker)
    clock.now += 0.1
    assert not is_open(breaker)
