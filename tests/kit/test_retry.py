"""Pauses between attempts, and trying until it works: with a clock of the test's own."""

from collections.abc import Callable

import pytest

from purveyor.kit.errors import ServerAway, StartupError
from purveyor.kit.retry import RetrySchedule, retry, stand_in, wait_for_server

EVEN = RetrySchedule(first_s=1.0, longest_s=8.0, jitter=0.0)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


class Flaky:
    """Fails with these errors, then answers; with ``for_ever`` the last error stays."""

    def __init__(self, *errors: Exception, for_ever: bool = False) -> None:
        self.calls = 0
        self._errors = list(errors)
        self._for_ever = for_ever

    async def __call__(self) -> str:
        self.calls += 1
        if self._errors:
            raise self._errors[0] if self._for_ever and len(self._errors) == 1 else self._errors.pop(0)
        return "answer"


@pytest.mark.parametrize(
    ("schedule", "pauses"),
    [
        (EVEN, [1, 2, 4, 8, 8, 8]),
        (RetrySchedule(first_s=0.5, longest_s=0.5, jitter=0.0), [0.5] * 6),
        (RetrySchedule(first_s=0.1, longest_s=3.0, factor=4.0, jitter=0.0), [0.1, 0.4, 1.6, 3, 3, 3]),
    ],
)
def test_pauses_grow_up_to_the_longest(schedule: RetrySchedule, pauses: list[float]) -> None:
    assert [schedule.pause_s(failures) for failures in range(1, 7)] == pytest.approx(pauses)
    assert schedule.pause_s(10_000) == schedule.longest_s


def test_jitter_only_shortens_a_pause_by_its_share_at_most() -> None:
    schedule = RetrySchedule(first_s=4.0, longest_s=60.0, jitter=0.25)
    pauses = [schedule.pause_s(1) for _ in range(500)]

    assert 3.0 <= min(pauses) < 3.1
    assert 3.9 < max(pauses) <= 4.0


async def test_attempts_go_on_until_one_succeeds() -> None:
    clock, attempt = Clock(), Flaky(OSError("1"), OSError("2"), OSError("3"))
    told: list[tuple[Exception, int, float]] = []

    answer = await retry(
        attempt,
        EVEN,
        on=OSError,
        failed=lambda error, number, pause: told.append((str(error), number, pause)),
        sleep=clock.sleep,
    )

    assert answer == "answer"
    assert clock.pauses == [1, 2, 4]
    assert [(str(error), *rest) for error, *rest in told] == [("1", 1, 1), ("2", 2, 2), ("3", 3, 4)]


@pytest.mark.parametrize("on", [OSError, lambda error: isinstance(error, OSError)])
async def test_other_errors_are_raised_at_once(on: type[Exception] | Callable[[Exception], bool]) -> None:
    clock, attempt = Clock(), Flaky(OSError("again"), ValueError("never again"))

    with pytest.raises(ValueError, match="never again"):
        await retry(attempt, EVEN, on=on, sleep=clock.sleep)
    assert attempt.calls == 2


async def test_last_error_is_raised_after_so_many_attempts() -> None:
    clock, attempt = Clock(), Flaky(OSError("1"), OSError("2"), OSError("3"))

    with pytest.raises(OSError, match="3"):
        await retry(attempt, EVEN, on=OSError, attempts=3, sleep=clock.sleep)
    assert clock.pauses == [1, 2]


@pytest.mark.parametrize(("within_s", "pauses"), [(0, []), (0.9, []), (1, [1]), (6.9, [1, 2]), (7, [1, 2, 4])])
async def test_no_attempt_begins_after_the_time_is_up(within_s: float, pauses: list[float]) -> None:
    clock, attempt = Clock(), Flaky(OSError("away"), for_ever=True)

    with pytest.raises(OSError, match="away"):
        await retry(attempt, EVEN, on=OSError, within_s=within_s, sleep=clock.sleep, clock=clock)
    assert clock.pauses == pauses


async def test_server_that_comes_up_during_the_start_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    clock, connect = Clock(), Flaky(ServerAway("no"), ServerAway("not yet"))

    assert await wait_for_server(connect, 3600, sleep=clock.sleep) == "answer"
    assert all(0.5 <= pause <= 1 for pause in clock.pauses)
    assert [record.message for record in caplog.records] == ["waiting: no", "waiting: not yet"]


@pytest.mark.parametrize(
    ("within_s", "line"), [(0.0, "Redis is away."), (0.1, "Redis is away. Gave up after 0.1 s.")]
)
async def test_server_that_stays_away_ends_the_start(within_s: float, line: str) -> None:
    with pytest.raises(StartupError) as failed:
        await wait_for_server(Flaky(ServerAway("Redis is away."), for_ever=True), within_s)
    assert str(failed.value) == line


async def test_stand_in_says_in_every_method_why_the_server_is_missing() -> None:
    missing = stand_in(StartupError("MongoDB is away"))

    with pytest.raises(StartupError, match="MongoDB is away"):
        await missing.check()
    assert missing.server == ""
