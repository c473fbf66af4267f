"""LRU cache with soft and hard expiry and one load at a time per key, and a loader that processes share."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from purveyor.kit.deadline import no_deadline, seconds_left


class SharedCache(Protocol):
    """Cache of bytes that all processes share. Never raises: an unavailable cache looks empty."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, ttl_s: float) -> None: ...

    async def claim(self, key: str, ttl_s: float) -> bool:
        """Set the key unless it is set; return whether this call set it. ``True`` without a cache."""

    async def drop(self, key: str) -> None: ...


K = TypeVar("K")
V = TypeVar("V")
_RETRY_S = 1.0
"""Seconds for which a stale value counts as fresh after a failed load, to spare callers another wait."""
_MAX_WAIT_S = 60.0
"""Limit for waiters without a request deadline; a load ends long before."""
_LEASE_S = 0.4
"""Seconds for which other processes wait for a load. A waiter still has time to load the value itself."""
_POLL_S = 0.025
_MAX_CLOCK_SKEW_S = 5.0


class Lifetime(NamedTuple):
    """Seconds after the load for which a value is served, and for which it is served when a load fails."""

    fresh_s: float
    stale_s: float


class _Entry(NamedTuple, Generic[V]):
    value: V
    fresh_until: float
    stale_until: float


class Cache(Generic[K, V]):
    """Cache of the values that ``load`` returns, with stale-if-error (RFC 5861).

    Concurrent callers of a key share one load; cancelling a caller does not cancel it. When a load raises
    ``stale_on``, callers get the stale value while ``lifetime`` allows. Any other exception is raised to all
    callers and drops the stale value. Failures are not cached. ``load`` needs a deadline of its own. A waiter
    stops at its request deadline and gets the stale value or ``stale_on``; the load continues.

    With ``share_loads=False`` each caller of ``get`` loads for itself. This saves a task per load and fits cheap
    loads that rarely coincide.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        *,
        lifetime: Callable[[V], Lifetime],
        stale_on: type[Exception],
        max_entries: int,
        clock: Callable[[], float] = time.monotonic,
        share_loads: bool = True,
    ) -> None:
        self._load, self._lifetime, self._stale_on = load, lifetime, stale_on
        self._max_entries, self._clock, self._share_loads = max_entries, clock, share_loads
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._flights: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: K) -> V:
        if (entry := self._fresh(key, self._clock())) is not None:
            return entry.value
        if not self._share_loads:
            return await self._load_and_keep(key)
        return (await self.get_many((key,)))[key]

    async def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Get several values in one wait. Does not suspend when all of them are fresh.

        Raises a load's exception, or ``stale_on`` at the request deadline, when there is no stale value.
        """
        now = self._clock()
        values: dict[K, V] = {}
        flights: dict[K, asyncio.Task[V]] = {}
        for key in keys:
            if (entry := self._fresh(key, now)) is not None:
                values[key] = entry.value
            else:
                flights[key] = self._flight(key)
        if flights:
            # wait() rather than gather(): it does not cancel the loads when the caller is cancelled.
            await asyncio.wait(flights.values(), timeout=seconds_left(_MAX_WAIT_S))
            for key, flight in flights.items():
                values[key] = self._result(key, flight)
        return values

    def peek(self, key: K) -> V | None:
        """The value in the cache, fresh or stale, without a load."""
        entry = self._stale(key)
        return None if entry is None else entry.value

    def put(self, key: K, value: V) -> None:
        """Store a value that was loaded in another way."""
        now, (fresh_s, stale_s) = self._clock(), self._lifetime(value)
        fresh_s = min(max(fresh_s, _RETRY_S), stale_s)  # a loader may return an old value
        self._entries[key] = _Entry(value, now + fresh_s, now + stale_s)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def aclose(self) -> None:
        """Cancel the loads in progress, and with them their waiters."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _fresh(self, key: K, now: float) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry is None or now >= entry.fresh_until:
            return None
        self._entries.move_to_end(key)
        return entry

    def _flight(self, key: K) -> asyncio.Task[V]:
        flight = self._flights.get(key)
        if flight is None:
            with no_deadline():  # the load also serves callers with later deadlines
                flight = self._flights[key] = asyncio.create_task(self._load_and_keep(key))
            flight.add_done_callback(lambda done: self._forget_flight(key, done))
        return flight

    async def _load_and_keep(self, key: K) -> V:
        try:
            value = await self._load(key)
        except self._stale_on:
            if (entry := self._stale(key)) is None:
                raise
            self._entries[key] = entry._replace(fresh_until=min(self._clock() + _RETRY_S, entry.stale_until))
            return entry.value
        except Exception:
            self._entries.pop(key, None)  # the error is an answer, such as "not found"
            raise
        self.put(key, value)
        return value

    def _forget_flight(self, key: K, flight: asyncio.Task[V]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # marks it as retrieved, or asyncio would log it when every caller was cancelled

    def _stale(self, key: K) -> _Entry[V] | None:
        entry = self._entries.get(key)
        return entry if entry is not None and self._clock() < entry.stale_until else None

    def _result(self, key: K, flight: asyncio.Task[V]) -> V:
        if flight.done():
            return flight.result()
        if (entry := self._stale(key)) is None:
            raise self._stale_on
        return entry.value


class Dated(msgspec.Struct, Generic[V], frozen=True):
    """A value and the Unix time of its load in seconds."""

    value: V
    loaded_at: float


class SharedLoader(Generic[K, V]):
    """``load`` and ``lifetime`` for a ``Cache`` whose values all processes share.

    A value loaded by another process is used for the rest of its lifetime, and as a stale value when ``load``
    raises ``stale_on``. While one process loads, the others wait up to 0.4 s. A value that cannot be decoded is
    loaded again. Without a shared cache, values are only dated.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        shared: SharedCache | None,
        *,
        prefix: str,
        decoder: msgspec.msgpack.Decoder[Dated[V]],
        lifetime: Callable[[V], Lifetime],
        stale_on: type[Exception],
    ) -> None:
        self._load, self._shared, self._prefix = load, shared, prefix
        self._decoder, self._lifetime, self._stale_on = decoder, lifetime, stale_on

    def lifetime(self, dated: Dated[V]) -> Lifetime:
        age_s = max(0.0, time.time() - dated.loaded_at)
        fresh_s, stale_s = self._lifetime(dated.value)
        return Lifetime(fresh_s - age_s, stale_s - age_s)

    async def load(self, key: K) -> Dated[V]:
        if self._shared is None:
            return Dated(await self._load(key), time.time())
        name = self._name(key)
        found = await self._find_or_claim(self._shared, name)
        if found is not None and self.lifetime(found).fresh_s > 0:
            return found
        try:
            loaded = Dated(await self._load(key), time.time())
        except self._stale_on:
            await self._shared.drop(_lease(name))
            if found is None:
                raise
            return found
        await self.share(key, loaded)
        return loaded

    async def share(self, key: K, loaded: Dated[V]) -> None:
        """Give other processes a value that was just loaded."""
        if self._shared is not None:
            stale_s = self._lifetime(loaded.value).stale_s
            await self._shared.put(self._name(key), msgspec.msgpack.encode(loaded), stale_s)

    def _name(self, key: K) -> str:
        return f"{self._prefix}:{key!r}"  # 1 and "1" are different keys

    async def _find_or_claim(self, shared: SharedCache, name: str) -> Dated[V] | None:
        """Return a fresh value, or a stale one or ``None`` when this process has to load."""
        ends = time.monotonic() + _LEASE_S
        while True:
            found = self._read(await shared.get(name))
            if found is not None and self.lifetime(found).fresh_s > 0:
                return found
            if await shared.claim(_lease(name), _LEASE_S) or time.monotonic() > ends:
                return found
            await asyncio.sleep(_POLL_S)

    def _read(self, data: bytes | None) -> Dated[V] | None:
        if data is None:
            return None
        try:
            found = self._decoder.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        usable = found.loaded_at < time.time() + _MAX_CLOCK_SKEW_S and self.lifetime(found).stale_s > 0
        return found if usable else None


def _lease(name: str) -> str:
    return f"{name}:lease"
