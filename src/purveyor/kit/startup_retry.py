"""Waiting at start for a server that may be away."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from purveyor.kit.errors import ServerAway, StartupError

T = TypeVar("T")

log = logging.getLogger(__name__)


async def reach(connect: Callable[[], Awaitable[T]], within_s: float) -> T:
    """Call until it raises ``ServerAway`` no more, but not for longer; then raise ``StartupError``."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await connect()
        except ServerAway as away:
            if time.monotonic() > deadline:
                waited = f" Gave up after {within_s:g} s." if within_s else ""
                raise StartupError(f"{away}{waited}") from away
            log.warning("waiting: %s", away)
            await asyncio.sleep(random.uniform(0.5, 1.0))  # noqa: S311 - jitter


def stand_in(trouble: StartupError) -> Any:
    """In place of what could not be reached, where that is to be found out: every method raises why."""

    class StandIn:
        server = ""  # the trouble says it

        def __getattr__(self, name: str) -> Any:
            async def say_why(*_: object) -> None:
                raise trouble

            return say_why

    return StandIn()
