"""Who has to wait for a Redis that may be away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from purveyor.kit.limits import redis


def noted_waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From now on, the names of the tasks that have waited for an answer; without the probe in the background."""
    found: list[str] = []
    patiently = redis._deadline

    @asynccontextmanager
    async def noted() -> AsyncIterator[None]:
        if (task := asyncio.current_task()) and task.get_name() != "redis probe":
            found.append(task.get_name())
        async with patiently():
            yield

    monkeypatch.setattr(redis, "_deadline", noted)
    return found
