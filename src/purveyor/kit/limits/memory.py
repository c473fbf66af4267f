"""Rate limits and login backoff, counted in this process.

A rate limit is a fixed window that starts with a key's first request. Unlike with a leaky bucket, the response can
state exactly how much quota is left and when it resets (IETF draft "RateLimit header fields for HTTP" 11).
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
    """``quota`` requests in ``window_s`` seconds, written as ``60/minute``."""

    quota: int
    window_s: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Parse ``N/second``, ``N/minute`` or ``N/hour``. Raises ``ValueError``."""
        match = re.fullmatch(r"\s*([1-9][0-9]{0,8})\s*/\s*(second|minute|hour)\s*", text)
        if match is None:
            raise ValueError("expected N/second, N/minute or N/hour with N from 1 to 999999999")
        return cls(int(match[1]), _WINDOWS[match[2]])

    def __str__(self) -> str:
        unit = next(name for name, seconds in _WINDOWS.items() if seconds == self.window_s)
        return f"{self.quota}/{unit}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The limiter's decision on one request; ``reset_s`` is rounded up."""

    policy: str
    rate: Rate
    remaining: int
    reset_s: int
    allowed: bool

    def headers(self) -> dict[str, str]:
        """Return the ``RateLimit`` fields, with ``Retry-After`` if the request is refused."""
        fields = {
            "RateLimit-Policy": f'"{self.policy}";q={self.rate.quota};w={self.rate.window_s}',
            "RateLimit": f'"{self.policy}";r={self.remaining};t={self.reset_s}',
        }
        if not self.allowed:
            fields["Retry-After"] = str(self.reset_s)
        return fields

    def require(self) -> None:
        if not self.allowed:
            raise TooManyRequests(
                f"At most {self.rate.quota} requests in {self.rate.window_s} s are allowed. Try again in "
                f"{self.reset_s} s.",
                headers=self.headers(),
            )

    @contextmanager
    def with_headers(self) -> Iterator[None]:
        """Add the ``RateLimit`` fields to a ``Problem`` raised inside, since it has used quota as well."""
        try:
            yield
        except Problem as problem:
            own = copy(problem)  # several waiters of one cache load share it
            own.headers = {**problem.headers, **self.headers()}
            raise own from problem.__cause__


class Limiter(Protocol):
    """Counts requests atomically: of concurrent requests, exactly the quota is allowed."""

    async def hit(self, policy: str, key: str, rate: Rate) -> Decision: ...

    async def give_back(self, policy: str, key: str, rate: Rate) -> None:
        """Uncount an allowed request, if its window has not ended."""

    async def forget(self, policy: str, key: str, rate: Rate) -> None:
        """End the key's window."""


class MemoryLimiter:
    """Counts in this process, which gets one of ``share`` equal parts of the quota.

    A part is at least 1, so a quota below the number of processes is exceeded. Redis counts exactly.
    """

    _MAX_KEYS: ClassVar[int] = 100_000

    def __init__(self, share: int = 1) -> None:
        self._share = share
        self._windows: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    async def hit(self, policy: str, key: str, rate: Rate) -> Decision:
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
            self._windows.popitem(last=False)  # the oldest window; bounds memory during an attack
        return Decision(policy, part, part.quota - used, max(1, math.ceil(ends - now)), allowed)

    async def give_back(self, policy: str, key: str, rate: Rate) -> None:
        ends, used = self._windows.get((policy, key), (0.0, 0))
        if used:
            self._windows[policy, key] = (ends, used - 1)

    async def forget(self, policy: str, key: str, rate: Rate) -> None:
        self._windows.pop((policy, key), None)


_MAX_EXPONENT = 40


@dataclass(frozen=True)
class BackoffPolicy:
    """Delays in seconds: none for the first ``free`` failures, then doubling from ``first_s`` to ``longest_s``.

    Failures are forgotten ``forget_s`` seconds after the last one.
    """

    free: int
    first_s: float = 1.0
    longest_s: float = 900.0
    forget_s: float = 3600.0

    def delay_s(self, failures: int) -> float:
        beyond = failures - self.free
        if beyond <= 0:
            return 0.0
        return float(min(self.longest_s, self.first_s * 2 ** min(beyond - 1, _MAX_EXPONENT)))


class Backoff(Protocol):
    """Counts failures by key atomically: of concurrent attempts, exactly the free ones start."""

    async def attempt(self, key: str, policy: BackoffPolicy) -> float:
        """Count an attempt as a failure and return 0, or return the seconds to wait without counting it."""

    async def take_back(self, key: str) -> None:
        """Uncount an attempt that did not fail, and end the current wait."""

    async def forget(self, key: str) -> None: ...


class MemoryBackoff:
    """Counts in this process."""

    _MAX_KEYS: ClassVar[int] = 100_000

    def __init__(self) -> None:
        self._keys: OrderedDict[str, _Failures] = OrderedDict()

    async def attempt(self, key: str, policy: BackoffPolicy) -> float:
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
            self._keys.popitem(last=False)  # the least recently used key; bounds memory
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
