"""A task that runs as long as its actor."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Background:
    """A named task; the host restarts it when it dies."""

    name: str
    run: Callable[[], Awaitable[None]]
