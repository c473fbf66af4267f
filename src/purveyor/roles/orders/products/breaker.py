"""Circuit breaker: stops calls to a failing service, and probes it with single calls."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar

_log = logging.getLogger(__name__)
_SLOTS = 10
_counted: ContextVar["set[tuple[Breaker, bool]] | None"] = ContextVar("counted", default=None)
"""The outcomes of calls inside ``as_one``, shared with tasks that were started there."""


class BreakerOpen(Exception):
    """The call was not made. ``retry_after_s`` is in whole seconds, at least 1."""

    def __init__(self, name: str, wait_s: float) -> None:
        super().__init__(f"the circuit breaker of {name} is open")
        self.retry_after_s = max(1, math.ceil(wait_s))


class Breaker:
    """Opens when ``ratio`` of at least ``min_calls`` calls of the last ``window_s`` seconds failed.

    Also opens after ``in_a_row`` consecutive failures, because slow sequential calls are never many in a window.
    It stays open for ``open_s`` seconds, then half-opens: one call goes through as the probe and closes or
    re-opens the circuit, while others wait for it. Only the exception types in ``failures`` are failures; any
    other exception means that the service answered. Cancelled calls do not count.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: tuple[type[Exception], ...],
        ratio: float = 0.5,
        min_calls: int = 20,
        window_s: float = 10.0,
        in_a_row: int = 5,
        open_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._failures, self._clock = name, failures, clock
        self._ratio, self._min_calls, self._window_s, self._open_s = ratio, min_calls, window_s, open_s
        self._in_a_row = in_a_row
        self._slots: deque[tuple[int, list[int]]] = deque(maxlen=_SLOTS)
        self._failed_in_a_row = 0
        self._open_until: float | None = None
        self._probe_ended: asyncio.Event | None = None

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Count all calls made inside, also in tasks started there, as at most one failure and one success."""
        token = _counted.set(set())
        try:
            yield
        finally:
            _counted.reset(token)

    @asynccontextmanager
    async def call(self, wait_s: float) -> AsyncIterator[None]:
        """Guard one call: ``async with breaker.call(wait_s=2): ...``. Raises ``BreakerOpen`` when open.

        Waits for a running probe, at most ``wait_s`` seconds.
        """
        probe = await self._admit(wait_s)
        try:
            yield
        except self._failures:
            self._ended(probe, failed=True)
            raise
        except Exception:
            self._ended(probe, failed=False)
            raise
        except BaseException:
            if probe:
                self._end_probe()  # cancelled: the next call may probe instead
            raise
        self._ended(probe, failed=False)

    async def _admit(self, wait_s: float) -> bool:
        """Return whether the call is the probe."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._open_until is not None:
                    open_s = self._open_until - self._clock()
                    if open_s > 0:
                        raise BreakerOpen(self._name, open_s)
                    if self._probe_ended is None:
                        self._probe_ended = asyncio.Event()
                        return True
                    await self._probe_ended.wait()
                return False
        raise BreakerOpen(self._name, 0)

    def _end_probe(self) -> None:
        if self._probe_ended is not None:
            self._probe_ended.set()
            self._probe_ended = None

    def _ended(self, probe: bool, *, failed: bool) -> None:  # noqa: FBT001
        if probe:
            self._end_probe()
            self._open() if failed else self._close()
        elif self._open_until is None:  # ignores calls that started before the circuit opened
            self._count(failed=failed)

    def _count(self, *, failed: bool) -> None:
        if not failed:
            self._failed_in_a_row = 0
        counted = _counted.get()
        if counted is not None:
            if (self, failed) in counted:
                return
            counted.add((self, failed))
        self._failed_in_a_row += failed
        calls, failures = self._add(failed=failed)
        often = calls >= self._min_calls and failures >= self._ratio * calls
        if often or self._failed_in_a_row >= self._in_a_row:
            self._open()

    def _add(self, *, failed: bool) -> tuple[int, int]:
        """Count a call; returns the calls of the window and how many failed."""
        slot = math.floor(self._clock() / self._window_s * _SLOTS)
        while self._slots and self._slots[0][0] <= slot - _SLOTS:
            self._slots.popleft()
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, [0, 0]))
        counts = self._slots[-1][1]
        counts[0] += 1
        counts[1] += failed
        return sum(counts[0] for _, counts in self._slots), sum(counts[1] for _, counts in self._slots)

    def _open(self) -> None:
        self._open_until = self._clock() + self._open_s
        self._slots.clear()
        self._failed_in_a_row = 0
        _log.debug("%s keeps failing: not called for %g s", self._name, self._open_s)

    def _close(self) -> None:
        self._open_until = None
        _log.debug("%s is called again", self._name)
