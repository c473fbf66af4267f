"""In-process cache with soft and hard expiry, one load at a time per key and an LRU bound; shared loads."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from purveyor.kit.deadline import no_deadline, seconds_left


class SharedCache(Protocol):
    """Bytes by key, kept for all processes. Never raises: what cannot be had is absent."""

    async def get(self, key: str) -> bytes | None:
        """The value, ``None`` when there is none."""
        ...

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value for ``ttl_s`` seconds at most."""
        ...

    async def claim(self, key: str, ttl_s: float) -> bool:
        """Take a key for ``ttl_s`` seconds unless it is taken; whether it is ours. True without a cache."""
        ...

    async def drop(self, key: str) -> None:
        """Forget a key."""
        ...


K = TypeVar("K")
V = TypeVar("V")
_RETRY_S = 1.0
"""How long a stale value counts as fresh after a load failed: else each caller in turn would wait for the next."""
_LONGEST_S = 60.0
"""For those who wait without a request's deadline; a load ends long before."""
_LEASE_S = 0.4
"""How long other processes wait for a load; a waiter needs time for a load of its own afterwards."""
_POLL_S = 0.025
_SKEW_S = 5.0
"""How far the clocks of two machines may differ."""


class Lifetime(NamedTuple):
    """Seconds from the load on: until ``fresh_s`` a value is served as it is, until ``stale_s`` on errors."""

    fresh_s: float
    stale_s: float


class _Entry(NamedTuple, Generic[V]):
    value: V
    fresh_until: float
    stale_until: float


class Cache(Generic[K, V]):
    """Values by key from ``load``; ``lifetime`` says how long a value is good (RFC 5861, stale-if-error).

    All callers of a key that is loading wait for that one load; cancelling one of them does not cancel it. When a
    load raises ``stale_on``, callers get the stale value while it is not too old. Any other exception is raised to
    all who wait and drops the stale value. Failures are not cached. ``load`` needs a deadline of its own. A waiter
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
        """The value of one key; see ``get_many``."""
        if (entry := self._fresh(key, self._clock())) is not None:
            return entry.value
        if not self._share_loads:
            return await self._load_and_keep(key)
        return (await self.get_many((key,)))[key]

    async def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The values of all the keys, in one wait; does not suspend when all of them are fresh.

        Raises what a load raised, and ``stale_on`` at the request's deadline, when there is no value to fall back
        on.
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
            # wait() and not gather() or shield(): it leaves the loads alone when the caller is cancelled.
            await asyncio.wait(flights.values(), timeout=seconds_left(_LONGEST_S))
            for key, flight in flights.items():
                values[key] = self._landed(key, flight)
        return values

    async def aclose(self) -> None:
        """Cancel the loads under way, and with them whoever still waits for one."""
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
            with no_deadline():  # the load is everybody's, not only the first caller's
                flight = self._flights[key] = asyncio.create_task(self._load_and_keep(key))
            flight.add_done_callback(lambda done: self._forget_flight(key, done))
        return flight

    async def _load_and_keep(self, key: K) -> V:
        try:
            value = await self._load(key)
        except self._stale_on:
            if (entry := self._last(key)) is None:
                raise
            self._entries[key] = entry._replace(fresh_until=min(self._clock() + _RETRY_S, entry.stale_until))
            return entry.value
        except Exception:
            self._entries.pop(key, None)  # an answer like any other: the stale value is no longer true
            raise
        now, (fresh_s, stale_s) = self._clock(), self._lifetime(value)
        fresh_s = min(max(fresh_s, _RETRY_S), stale_s)  # a loader may have fallen back on an old value of its own
        self._entries[key] = _Entry(value, now + fresh_s, now + stale_s)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        return value

    def _forget_flight(self, key: K, flight: asyncio.Task[V]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # seen: asyncio need not complain where every caller was cancelled

    def _last(self, key: K) -> _Entry[V] | None:
        """What there is to fall back on."""
        entry = self._entries.get(key)
        return entry if entry is not None and self._clock() < entry.stale_until else None

    def _landed(self, key: K, flight: asyncio.Task[V]) -> V:
        if flight.done():
            return flight.result()
        if (entry := self._last(key)) is None:
            raise self._stale_on
        return entry.value


class Dated(msgspec.Struct, Generic[V], frozen=True):
    """A value and when it was loaded, in seconds of Unix time."""

    value: V
    loaded_at: float


class SharedLoader(Generic[K, V]):
    """Loads through a cache that processes share; provides ``load`` and ``lifetime`` for a ``Cache``.

    A value that another process loaded is used for the rest of its lifetime, and while it is not too old when
    ``load`` raises ``stale_on``. While one process loads, the others wait up to 0.4 s for its value. A value that
    cannot be decoded is loaded again. Without a shared cache, values are only dated.
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
        """The rest of a value's lifetime."""
        age_s = max(0.0, time.time() - dated.loaded_at)
        fresh_s, stale_s = self._lifetime(dated.value)
        return Lifetime(fresh_s - age_s, stale_s - age_s)

    async def load(self, key: K) -> Dated[V]:
        """The value of a key; raises what the loader raises."""
        if self._shared is None:
            return Dated(await self._load(key), time.time())
        name = f"{self._prefix}:{key}"
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
        await self._shared.put(name, msgspec.msgpack.encode(loaded), self._lifetime(loaded.value).stale_s)
        return loaded

    async def _find_or_claim(self, shared: SharedCache, name: str) -> Dated[V] | None:
        """The shared value; a stale one or ``None`` when this process has to load."""
        ends = time.monotonic() + _LEASE_S
        while True:
            found = self._read(await shared.get(name))
            if found is not None and self.lifetime(found).fresh_s > 0:
                return found
            if await shared.claim(_lease(name), _LEASE_S) or time.monotonic() > ends:
                return found
            await asyncio.sleep(_POLL_S)

    def _read(self, data: bytes | None) -> Dated[V] | None:
        """A value that may be used, fresh or stale."""
        if data is None:
            return None
        try:
            found = self._decoder.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        sane = found.loaded_at < time.time() + _SKEW_S and self.lifetime(found).stale_s > 0
        return found if sane else None


def _lease(name: str) -> str:
    return f"{name}:lease"
