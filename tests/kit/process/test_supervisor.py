"""What dies is started again, more slowly each time; what keeps dying ends the process; a server is waited for."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest

from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.metrics import REGISTRY
from purveyor.kit.process import supervisor as module
from purveyor.kit.process.background import Background
from purveyor.kit.process.supervisor import Supervisor
from purveyor.kit.retry import RetrySchedule
from waiting import PATIENCE_S, until


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    made = Supervisor()
    yield made
    await made.stop()
    if made.failed.done():
        made.failed.exception()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds: what is counted is the same."""
    monkeypatch.setattr(module, "_RESTART", RetrySchedule(first_s=0.002, longest_s=0.002))
    monkeypatch.setattr(module, "_WINDOW_S", 10 * PATIENCE_S)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each pause would have been, in seconds; none is made."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": note}))
    return slept


class Task:
    """Runs as long as ``fails`` is an exception to raise; when there is none left it goes on for ever."""

    def __init__(self, fails: Callable[[int], Exception | None]) -> None:
        self._fails = fails
        self.starts = 0
        self.cleaned_up = False

    async def __call__(self) -> None:
        self.starts += 1
        if (error := self._fails(self.starts)) is not None:
            raise error
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            self.cleaned_up = True

    async def until(self, starts: int) -> None:
        await until(lambda: self.starts >= starts)


def times(count: int, kind: Callable[[str], Exception] = OSError) -> Callable[[int], Exception | None]:
    return lambda start: kind(f"death {start}") if start <= count else None


async def test_a_task_that_dies_is_started_again_and_its_role_is_in_trouble(supervisor: Supervisor) -> None:
    task, other = Task(times(1)), Task(times(0))
    supervisor.start("email", Background("sender", task))
    supervisor.start("auth", Background("sweeper", other))
    await task.until(2)

    assert supervisor.troubles() == {"email": "sender died: OSError: death 1"}
    assert REGISTRY.get_sample_value("purveyor_task_deaths_total", {"task": "email sender"}) == 1.0
    assert other.starts == 1
    assert not supervisor.failed.done()


async def test_each_pause_is_longer_than_the_one_before(supervisor: Supervisor, pauses: list[float]) -> None:
    task = Task(times(3))
    supervisor.start("email", Background("sender", task))
    await task.until(4)

    for pause, bound in zip(pauses, [0.2, 0.4, 0.8], strict=True):  # jitter takes up to half of it
        assert bound / 2 <= pause <= bound


@pytest.mark.usefixtures("hurried")
async def test_the_sixth_death_in_a_minute_gives_up_with_one_line(supervisor: Supervisor) -> None:
    task = Task(times(100))
    supervisor.start("email", Background("sender", task))
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StartupError) as given_up:
            await asyncio.shield(supervisor.failed)

    assert str(given_up.value) == "email: sender died 6 times in a minute, last of: death 6"
    await asyncio.sleep(0.05)
    assert task.starts == 6, "and is left alone then"


@pytest.mark.usefixtures("hurried")
async def test_five_deaths_are_survived(supervisor: Supervisor) -> None:
    task = Task(times(5))
    supervisor.start("email", Background("sender", task))
    await task.until(6)
    await asyncio.sleep(0.02)

    assert not supervisor.failed.done()


@pytest.mark.usefixtures("hurried")
async def test_deaths_that_lie_further_apart_do_not_add_up(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WINDOW_S", 0.0)
    task = Task(times(20))
    supervisor.start("email", Background("sender", task))
    await task.until(21)

    assert not supervisor.failed.done()


@pytest.mark.usefixtures("hurried")
async def test_two_tasks_are_counted_apart(supervisor: Supervisor) -> None:
    tasks = [Task(times(4)), Task(times(4))]
    for number, task in enumerate(tasks):
        supervisor.start("email", Background(f"sender {number}", task))
    for task in tasks:
        await task.until(5)

    assert not supervisor.failed.done()


@pytest.mark.usefixtures("hurried")
async def test_a_server_that_is_away_is_waited_for_for_ever(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    task = Task(times(50, Unavailable))
    with caplog.at_level(logging.WARNING):
        supervisor.start("email", Background("sender", task))
        await task.until(51)

    assert not supervisor.failed.done()
    assert supervisor.troubles() == {"email": "sender waits: death 50"}
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert not any(record.exc_info for record in caplog.records), "no traceback for what is no bug"


async def test_waiting_for_a_server_does_not_become_a_hot_loop(
    supervisor: Supervisor, pauses: list[float]
) -> None:
    task = Task(times(20, Unavailable))
    supervisor.start("email", Background("sender", task))
    await task.until(21)

    assert len(pauses) == 20
    assert min(pauses) >= 0.1
    assert max(pauses) <= module._RESTART.longest_s
    assert min(pauses[6:]) >= module._RESTART.longest_s / 2


async def test_trouble_fades(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(times(1))
    supervisor.start("email", Background("sender", task))
    await task.until(2)
    assert supervisor.troubles()
    monkeypatch.setattr(module, "_TROUBLE_SHOWN_S", 0.0)

    assert supervisor.troubles() == {}


@pytest.mark.usefixtures("hurried")
async def test_a_task_that_ends_by_itself_is_not_started_again(supervisor: Supervisor) -> None:
    starts: list[int] = []

    async def once() -> None:
        starts.append(1)

    supervisor.start("email", Background("once", once))
    await asyncio.sleep(0.05)

    assert starts == [1]
    assert supervisor.troubles() == {}


@pytest.mark.usefixtures("hurried")
async def test_a_cancellation_that_nobody_asked_for_is_a_death(supervisor: Supervisor) -> None:
    """Libraries let one escape now and then: the task must not be gone in silence."""

    def escaped(start: int) -> Exception | None:
        if start == 1:
            raise asyncio.CancelledError
        return None

    task = Task(escaped)
    supervisor.start("email", Background("sender", task))
    await task.until(2)

    assert "sender died" in supervisor.troubles()["email"]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("error", [Unavailable, OSError])
async def test_stop_ends_a_task_that_raises_another_error_when_cancelled(error: type[Exception]) -> None:
    supervisor = Supervisor()
    starts: list[None] = []

    async def run() -> None:
        starts.append(None)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error("connection closed") from None

    supervisor.start("email", Background("sender", run))
    await until(lambda: asyncio.sleep(0, bool(starts)))
    async with asyncio.timeout(PATIENCE_S):
        await supervisor.stop()

    assert len(starts) == 1


async def test_stop_waits_until_every_task_has_cleaned_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RESTART", RetrySchedule(first_s=3600.0, longest_s=3600.0))
    supervisor = Supervisor()
    running, dying, waiting = Task(times(0)), Task(times(100)), Task(times(100, Unavailable))
    for name, task in {"running": running, "dying": dying, "waiting": waiting}.items():
        supervisor.start("email", Background(name, task))
    for task in (running, dying, waiting):
        await task.until(1)
    async with asyncio.timeout(PATIENCE_S):  # a pause is not waited out
        await supervisor.stop()

    assert running.cleaned_up
    assert (dying.starts, waiting.starts) == (1, 1)
    assert not supervisor.failed.done()
    await supervisor.stop()


async def test_stop_before_a_task_began() -> None:
    supervisor = Supervisor()
    task = Task(times(0))
    supervisor.start("email", Background("sender", task))
    await supervisor.stop()

    assert task.starts == 0
