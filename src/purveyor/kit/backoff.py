"""Growing delays: after some failures the next attempt must wait, and after each further one twice as long.

An attempt counts as a failure from the moment it begins, and is taken back when it was none: of many at once no
more get through than of many one after the other.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Protocol

_MOST_DOUBLINGS = 40


@dataclass(frozen=True)
class Growth:
    """How delays grow, in seconds: none for the first ``free`` failures, then ``first_s`` and twice as long each
    time, up to ``longest_s``. ``forget_s`` after the last failure all are forgotten.
    """

    free: int
    first_s: float = 1.0
    longest_s: float = 900.0
    forget_s: float = 3600.0

    def delay_s(self, failures: int) -> float:
        """How long to wait after so many failures."""
        beyond = failures - self.free
        if beyond <= 0:
            return 0.0
        return float(min(self.longest_s, self.first_s * 2 ** min(beyond - 1, _MOST_DOUBLINGS)))


class Backoff(Protocol):
    """Counts failures by key. Atomic: of any number of attempts at once, exactly those that are free begin."""

    async def attempt(self, key: str, growth: Growth) -> float:
        """Begin an attempt: 0, and it counts as a failure; or the seconds to wait, and nothing is counted."""
        ...

    async def take_back(self, key: str) -> None:
        """One attempt that began was no failure: it no longer counts, and nobody waits because of it."""
        ...

    async def forget(self, key: str) -> None:
        """No failure of the key counts any more."""
        ...


class MemoryBackoff:
    """Counts in this process."""

    _MAX_KEYS: ClassVar[int] = 100_000

    def __init__(self) -> None:
        self._keys: OrderedDict[str, _Failures] = OrderedDict()

    async def attempt(self, key: str, growth: Growth) -> float:
        """See ``Backoff``. Never waits, so it is atomic in one event loop."""
        now = time.monotonic()
        found = self._keys.pop(key, None)
        if found is None or now >= found.forget_at:
            found = _Failures()
        if now >= found.until:
            found = _Failures(found.count + 1, now + growth.delay_s(found.count + 1), now + growth.forget_s)
            wait_s = 0.0
        else:
            wait_s = found.until - now
        self._keys[key] = found
        if len(self._keys) > self._MAX_KEYS:
            self._keys.popitem(last=False)  # whoever has been quiet for longest: memory stays bounded
        return wait_s

    async def take_back(self, key: str) -> None:
        """See ``Backoff``."""
        if (found := self._keys.get(key)) is not None:
            self._keys[key] = _Failures(max(0, found.count - 1), 0.0, found.forget_at)

    async def forget(self, key: str) -> None:
        """See ``Backoff``."""
        self._keys.pop(key, None)


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int = 0
    until: float = 0.0
    forget_at: float = 0.0
