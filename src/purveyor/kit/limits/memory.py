"""Rate limits: a quota of requests in a window that starts with a key's first request.

A fixed window per key (not a leaky bucket) because the answer can then say exactly what is left and when it
comes back, in the terms of the IETF draft "RateLimit header fields for HTTP" 11.
"""

import math
import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from purveyor.kit.errors import Problem, TooManyRequests

_WINDOWS = {"second": 1, "minute": 60, "hour": 3600}


@dataclass(frozen=True)
class Rate:
    """``quota`` requests in ``window_s`` seconds; written ``60/minute``."""

    quota: int
    window_s: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``N/second``, ``N/minute`` or ``N/hour``; raises ``ValueError`` with what is allowed."""
        match = re.fullmatch(r"\s*([1-9][0-9]{0,8})\s*/\s*(second|minute|hour)\s*", text)
        if match is None:
            raise ValueError("expected N/second, N/minute or N/hour with N from 1 to 999999999")
        return cls(int(match[1]), _WINDOWS[match[2]])

    def __str__(self) -> str:
        unit = next(name for name, seconds in _WINDOWS.items() if seconds == self.window_s)
        return f"{self.quota}/{unit}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the limiter says of one request; ``reset_s`` is in seconds, rounded up."""

    policy: str
    rate: Rate
    remaining: int
    reset_s: int
    allowed: bool

    def headers(self) -> dict[str, str]:
        """The ``RateLimit`` fields, on success and refusal alike; ``Retry-After`` with a refusal."""
        fields = {
            "RateLimit-Policy": f'"{self.policy}";q={self.rate.quota};w={self.rate.window_s}',
            "RateLimit": f'"{self.policy}";r={self.remaining};t={self.reset_s}',
        }
        if not self.allowed:
            fields["Retry-After"] = str(self.reset_s)
        return fields

    def require(self) -> None:
        """Raise ``TooManyRequests`` unless the request is allowed."""
        if not self.allowed:
            raise TooManyRequests(
                f"At most {self.rate.quota} requests in {self.rate.window_s} s are allowed. Try again in "
                f"{self.reset_s} s.",
                headers=self.headers(),
            )

    @contextmanager
    def with_headers(self) -> Iterator[None]:
        """The ``RateLimit`` fields go with every ``Problem`` that is raised inside: it has cost quota as well."""
        try:
            yield
        except Problem as problem:
            own = copy(problem)  # one that several wait for is raised to all of them
            own.headers = {**problem.headers, **self.headers()}
            raise own from problem.__cause__


class Limiter(Protocol):
    """Counts requests. Atomic: of any number at once, exactly the quota is allowed."""

    async def hit(self, policy: str, key: str, rate: Rate) -> Decision:
        """Count one request of ``key`` under ``policy`` and say whether it is allowed."""
        ...


class MemoryLimiter:
    """Counts in this process. ``share`` processes divide the quota among them, and each tells of its own part.

    What does not divide is left over. A part is 1 at least: with a quota below the number of processes a key
    has as many requests as there are processes, where it meets all of them. Redis counts exactly.
    """

    _MAX_KEYS: ClassVar[int] = 100_000

    def __init__(self, share: int = 1) -> None:
        self._share = share
        self._windows: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    async def hit(self, policy: str, key: str, rate: Rate) -> Decision:
        """See ``Limiter``. Never waits, so it is atomic in one event loop."""
        now = time.monotonic()
        part = replace(rate, quota=max(1, rate.quota // self._share))
        ends, used = self._windows.get((policy, key), (0.0, 0))
        if now >= ends:
            self._windows.pop((policy, key), None)
            ends, used = now + rate.window_s, 0
        allowed = used < part.quota
        used += allowed
        self._windows[policy, key] = (ends, used)
        if len(self._windows) > self._MAX_KEYS:
            self._windows.popitem(last=False)  # the oldest window: memory stays bounded under an attack
        return Decision(policy, part, part.quota - used, max(1, math.ceil(ends - now)), allowed)


_MOST_DOUBLINGS = 40


@dataclass(frozen=True)
class BackoffPolicy:
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

    async def attempt(self, key: str, policy: BackoffPolicy) -> float:
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

    async def attempt(self, key: str, policy: BackoffPolicy) -> float:
        """See ``Backoff``. Never waits, so it is atomic in one event loop."""
        now = time.monotonic()
        found = self._keys.pop(key, None)
        if found is None or now >= found.forget_at:
            found = _Failures()
        if now >= found.until:
            found = _Failures(found.count + 1, now + policy.delay_s(found.count + 1), now + policy.forget_s)
            wait_s = 0.0
        else:
            wait_s = found.until - now
        self._keys[key] = found
        if len(self._keys) > self._MAX_KEYS:
            self._keys.popitem(last=False)  # whoever has been quiet for longest: memory stays bounded
        return wait_s

    async def take_back(self, key: str) -> None:
        if (found := self._keys.get(key)) is not None:
            self._keys[key] = _Failures(max(0, found.count - 1), 0.0, found.forget_at)

    async def forget(self, key: str) -> None:
        self._keys.pop(key, None)


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int = 0
    until: float = 0.0
    forget_at: float = 0.0
