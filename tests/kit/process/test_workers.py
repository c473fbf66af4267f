"""Worker processes: replaced when they die, given up when they keep dying, ended together."""

import asyncio
import logging
import os
import signal
import sys
import time
from functools import partial

import pytest

from purveyor.kit.errors import StartupError
from purveyor.kit.process import supervisor as module
from purveyor.kit.process.supervisor import Workers
from waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks often: what is counted is the same."""
    monkeypatch.setattr(module, "_POLL_S", 0.02)
    monkeypatch.setattr(module, "_WINDOW_S", 10 * PATIENCE_S)


def ended(caplog: pytest.LogCaptureFixture) -> list[str]:
    """How workers ended that were replaced."""
    return [vars(record)["how"] for record in caplog.records if "starting another" in record.message]


def pids(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [pid for record in caplog.records for pid in vars(record).get("pids", ())]


async def test_the_sixth_death_in_a_minute_gives_up_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    made = Workers([partial(signal.raise_signal, signal.SIGKILL)], grace_s=5)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StartupError, match=r"^Workers died 6 times in a minute, most recently by SIGKILL\."):
            await made.run(asyncio.Event())

    assert ended(caplog) == ["by SIGKILL"] * 6


@pytest.mark.parametrize("code", [1, 2])
async def test_a_worker_that_has_said_why_ends_all(code: int) -> None:
    made = Workers([partial(sys.exit, code)] * 2, grace_s=5)
    async with asyncio.timeout(PATIENCE_S):
        assert await made.run(asyncio.Event()) == code


async def test_one_that_ended_in_order_is_replaced_any_number_of_times(caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(Workers([partial(int)], grace_s=5).run(stop))
    async with asyncio.timeout(PATIENCE_S):
        while len(ended(caplog)) < 8:
            await asyncio.sleep(0.01)
        stop.set()

        assert await running == 0
    assert set(ended(caplog)) == {"with exit code 0"}


async def test_told_to_stop_they_end_together(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stop = asyncio.Event()
    running = asyncio.create_task(Workers([partial(time.sleep, 600)] * 3, grace_s=5).run(stop))
    async with asyncio.timeout(PATIENCE_S):
        while not pids(caplog):
            await asyncio.sleep(0.01)
        stop.set()

        assert await running == 0
    for pid in pids(caplog):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
