"""The faults in force at a proxy: which hold now, how often they may still strike, how often they have."""

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar, cast

from purveyor_drill.proxy.faults import Blackhole, Direction, Fault

F = TypeVar("F", bound=Fault)


class Armed(Generic[F]):
    """A fault in force, and how often it may still strike; ``number`` counts the calls of ``set``."""

    def __init__(self, fault: F, number: int) -> None:
        self.fault = fault
        self.number = number
        self._left: int | None = getattr(fault, "times", None)

    @property
    def spent(self) -> bool:
        """Whether it has no strike left."""
        return self._left == 0

    def take(self) -> None:
        """Use up one strike."""
        if self._left:
            self._left -= 1


class InForce:
    """The faults in force; its connections look here before every byte."""

    def __init__(self) -> None:
        self._armed: Sequence[Armed[Fault]] = ()
        self.number = 0
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self.strikes = 0

    def set(self, faults: Sequence[Fault]) -> None:
        """Put these in the place of those before; strikes count from zero again."""
        self.number += 1
        self._armed = [Armed(fault, self.number) for fault in faults]
        self.strikes = 0
        self._changed.set()
        self._changed = asyncio.Event()

    def find(self, kind: type[F], direction: Direction | None = None) -> Armed[F] | None:
        """The fault of this kind that holds for this direction, if it has a strike left."""
        for armed in self._armed:
            fault = armed.fault
            if isinstance(fault, kind) and not armed.spent:
                side = getattr(fault, "side", "both")
                if direction is None or side in {"both", direction}:
                    return cast("Armed[F]", armed)
        return None

    def blackhole(self, direction: Direction, born: int) -> Armed[Blackhole] | None:
        """The one that holds a connection which was made when ``number`` was ``born``."""
        armed = self.find(Blackhole, direction)
        return None if armed is None or (armed.fault.old_only and born >= armed.number) else armed

    async def changed(self) -> None:
        """Wait for the next ``set``."""
        await self._changed.wait()

    def strike(self) -> None:
        """Count one strike."""
        self.strikes += 1
        self._news.set()
        self._news = asyncio.Event()

    async def struck(self, times: int) -> None:
        """Wait until there were so many strikes since the last ``set``."""
        while self.strikes < times:
            await self._news.wait()
