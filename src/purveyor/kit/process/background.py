"""Background tasks of an actor."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Background:
    """A task that runs as long as its actor and is restarted when it dies."""

    name: str
    run: Callable[[], Awaitable[None]]
