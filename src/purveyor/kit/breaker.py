"""Circuit breaker: stops calling what keeps failing, and lets a single probe find out when it is back."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)
_SLOTS = 10


class BreakerOpen(Exception):
    """Refused without a call; ``retry_after_s`` is in whole seconds, at least 1."""

    def __init__(self, name: str, wait_s: float) -> None:
        super().__init__(f"the circuit breaker of {name} is open")
        self.retry_after_s = max(1, math.ceil(wait_s))


class Breaker:
    """Opens when ``ratio`` of at least ``min_calls`` calls of the last ``window_s`` seconds failed.

    It stays open for ``open_s`` seconds, then half-opens: one call goes through as the probe, and its end
    closes or re-opens the circuit. Only the exception types in ``failures`` are failures; any other means
    that the other side answered. A call that was cancelled says nothing.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: tuple[type[Exception], ...],
        ratio: float = 0.5,
        min_calls: int = 20,
        window_s: float = 10.0,
        open_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._failures, self._clock = name, failures, clock
        self._ratio, self._min_calls, self._window_s, self._open_s = ratio, min_calls, window_s, open_s
        self._slots: deque[tuple[int, list[int]]] = deque(maxlen=_SLOTS)
        self._open_until: float | None = None
        self._probing = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Guard one call: ``with breaker.call(): ...``. Raises ``BreakerOpen`` instead of entering."""
        probe = self._admit()
        try:
            yield
        except self._failures:
            self._ended(probe, failed=True)
            raise
        except Exception:
            self._ended(probe, failed=False)
            raise
        except BaseException:
            self._probing = self._probing and not probe  # cancelled: the next call may probe instead
            raise
        self._ended(probe, failed=False)

    def _admit(self) -> bool:
        """Whether the call is the probe."""
        if self._open_until is None:
            return False
        wait_s = self._open_until - self._clock()
        if wait_s > 0 or self._probing:
            raise BreakerOpen(self._name, wait_s)
        self._probing = True
        return True

    def _ended(self, probe: bool, *, failed: bool) -> None:  # noqa: FBT001
        if probe:
            self._probing = False
            self._open() if failed else self._close()
        elif self._open_until is None:  # the late end of a call from before the opening is no news
            self._count(failed=failed)

    def _count(self, *, failed: bool) -> None:
        slot = math.floor(self._clock() / self._window_s * _SLOTS)
        while self._slots and self._slots[0][0] <= slot - _SLOTS:
            self._slots.popleft()
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, [0, 0]))
        counts = self._slots[-1][1]
        counts[0] += 1
        counts[1] += failed
        calls = sum(counts[0] for _, counts in self._slots)
        failures = sum(counts[1] for _, counts in self._slots)
        if calls >= self._min_calls and failures >= self._ratio * calls:
            self._open()

    def _open(self) -> None:
        self._open_until = self._clock() + self._open_s
        self._slots.clear()
        _log.warning("%s keeps failing: not called for %g s", self._name, self._open_s)

    def _close(self) -> None:
        self._open_until = None
        _log.info("%s is back", self._name)
