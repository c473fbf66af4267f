"""A loader in front of another one whose values all processes share: one load for everybody."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from purveyor.kit.cache import Lifetime, SharedCache

K = TypeVar("K")
V = TypeVar("V")
_LEASE_S = 0.4
"""How long others wait for a load: whoever waits must still have time for a load of their own."""
_POLL_S = 0.025
_SKEW_S = 5.0
"""How far the clocks of two machines may differ."""


class Dated(msgspec.Struct, Generic[V], frozen=True):
    """A value and when it was loaded, in seconds of Unix time."""

    value: V
    loaded_at: float


class SharedLoader(Generic[K, V]):
    """``load`` through a shared cache: ``self.load`` and ``self.lifetime`` are what a ``Cache`` needs.

    A value that another process loaded is served for the rest of its lifetime, and then, as long as it is
    not too old, when ``load`` raises ``stale_on``. While one process loads, the others wait up to 0.4 s for
    its value. What the decoder does not understand is loaded anew. Without a cache it only dates the values.
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
        """What is left of the lifetime."""
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
        """The shared value; one that is not fresh, or none, when the load is ours to do."""
        ends = time.monotonic() + _LEASE_S
        while True:
            found = self._read(await shared.get(name))
            if found is not None and self.lifetime(found).fresh_s > 0:
                return found
            if await shared.claim(_lease(name), _LEASE_S) or time.monotonic() > ends:
                return found
            await asyncio.sleep(_POLL_S)

    def _read(self, data: bytes | None) -> Dated[V] | None:
        """What is fit to be served, if only stale."""
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
