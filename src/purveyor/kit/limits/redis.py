"""Redis, shared by all processes, which may be gone at any time: its client, the rate limiter, the cache."""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from purveyor.kit.errors import RESET, ConfigError
from purveyor.kit.limits.memory import Backoff, BackoffPolicy, Decision, Limiter, Rate
from purveyor.kit.retry import RetrySchedule, retry

_log = logging.getLogger(__name__)
_LOST = (RedisError, *RESET)
_PATIENCE_S = 0.05
_GRACE_S = 0.01
_CONNECTIONS = 10
"""Enough for more than 10,000 uses per second."""
_PROBES = RetrySchedule(first_s=0.125, longest_s=1.25, jitter=0.4)
_HIT = """
local used = tonumber(redis.call('GET', KEYS[1]) or 0)
local allowed = used < tonumber(ARGV[1])
if allowed then used = redis.call('INCR', KEYS[1]) end
local ttl = redis.call('PTTL', KEYS[1])
if ttl < 0 then
  ttl = tonumber(ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ttl)
end
return {allowed and 1 or 0, used, ttl}
"""


class RedisAway(Exception):
    """Redis did not do it, or was not even asked: go on without it."""


class RedisClient:
    """A Redis that never keeps anyone waiting.

    A use has 60 ms in all, connecting included. After one that failed nobody tries any more: a background
    task asks, at most every 1.25 s, until Redis answers again.
    """

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool, self._client = pool, Redis.from_pool(pool)
        # Who waits for a connection is not yet on the clock: a burst is no reason to think that Redis left.
        self._slots = asyncio.Semaphore(pool.max_connections)
        self._probing: asyncio.Task[None] | None = None
        self._complaint = ""

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Redis]:
        """Lend the client for one short use. Raises ``RedisAway``, also for what fails inside the block."""
        async with self._slots:
            if self._is_away():
                raise RedisAway
            try:
                async with _patiently():
                    yield self._client
            except ResponseError as error:
                # It answered at once (full, read-only, a key of another type): the next use costs no time.
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    _log.warning("Redis refuses: %s", error)
                raise RedisAway from error
            except _LOST as error:
                self._leave(error)
                raise RedisAway from error

    async def start(self) -> None:
        """Connect, or begin to wait for Redis: the first request need not find out that it is away."""
        try:
            await self._connect()
        except _LOST as error:
            self._leave(error)

    async def check(self) -> str:
        """The server and its version, for example ``Redis 7.0.15``. Raises what Redis or the network raises.

        Writes, because a full server and a replica still answer questions.
        """
        await self._client.set("purveyor:check", b"", px=1000)
        info = await self._client.info("server")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"

    async def aclose(self) -> None:
        """Stop asking, and close the connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        with suppress(*_LOST):
            await self._client.aclose()

    def _is_away(self) -> bool:
        return self._probing is not None and not self._probing.done()

    def _leave(self, error: Exception) -> None:
        if not self._is_away():
            _log.warning("Redis is away, every process is on its own: %s", str(error) or "no answer")
            self._probing = asyncio.create_task(self._ask_until_back(), name="redis probe")

    async def _connect(self) -> None:
        async with _patiently():
            await self._client.ping()
        # All of them now: with TLS, a burst that connects takes longer than it has.
        async with AsyncExitStack() as stack:
            for _ in range(self._pool.max_connections):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                stack.push_async_callback(self._pool.release, connection)

    async def _ask_until_back(self) -> None:
        since = time.monotonic()
        await asyncio.sleep(_PROBES.pause_s(1))

        def tell(error: Exception, _failures: int, _pause_s: float) -> None:
            _log.debug("Redis is still away: %s", error)

        await retry(self._reconnect, _PROBES, on=lambda error: isinstance(error, _LOST), failed=tell)
        _log.info("Redis is back after %.1f s", time.monotonic() - since)

    async def _reconnect(self) -> None:
        # After a failover the idle connections lead nowhere, and each would be found out by a user.
        await self._pool.disconnect(inuse_connections=False)
        await self._connect()


@asynccontextmanager
async def _patiently() -> AsyncIterator[None]:
    """A deadline of 50 ms, and 10 ms more in which an answer that has arrived already is read.

    Without those, a loop that was held up itself (by a hash, by a busy machine) would take its own absence for
    the silence of Redis. Raises ``TimeoutError``.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as deadline:
        timer = loop.call_later(_PATIENCE_S, lambda: deadline.reschedule(loop.time() + _GRACE_S))
        try:
            yield
        finally:
            timer.cancel()


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[RedisClient]:
    """Open the Redis at a ``redis://``, ``rediss://`` or ``unix://`` URL, present or away.

    Raises ``ConfigError`` for a URL that can never work.
    """
    client = RedisClient(_pool(url))
    try:
        await client.start()
        yield client
    finally:
        await client.aclose()


def _pool(url: str) -> BlockingConnectionPool:
    # RESP2 and no driver info: connecting takes no round trip at all, which a burst of them would feel.
    options: dict[str, Any] = {"protocol": 2, "driver_info": None, "max_connections": _CONNECTIONS}
    options |= {"socket_timeout": None, "socket_connect_timeout": None}  # the deadlines are ours
    try:
        options |= parse_url(url)
        if not url.startswith("unix:"):
            int(urlsplit(url).path.strip("/") or 0)  # the parser passes over a database that is not a number
        # No retry: a command that timed out may have been done, and would be done twice.
        pool = BlockingConnectionPool(**options | {"retry": Retry(NoBackoff(), 0), "decode_responses": False})
        pool.connection_class(**pool.connection_kwargs)  # an unknown option in the URL shows only here
    except (TypeError, ValueError, RedisError) as error:
        # Neither the value nor the error is shown: they may hold the password.
        raise ConfigError(
            "REDIS_URL: expected redis://[user:password@]host[:port][/database], rediss:// for TLS, or "
            "unix:///path. Percent-encode special characters in the password."
        ) from error
    return pool


class RedisLimiter:
    """Counts in Redis for all processes together; while it is away, in ``fallback``, so limits never go away.

    The fallback hears of every allowed request, so that what was used up stays used up when Redis leaves.
    """

    def __init__(self, client: RedisClient, fallback: Limiter) -> None:
        self._client, self._fallback = client, fallback

    async def hit(self, policy: str, key: str, rate: Rate) -> Decision:
        # Hashed: keys of one length, whatever a client sends, and no mail address stands in Redis. The window
        # belongs to the name: after a change of the rate nobody waits for the end of a longer one.
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        name = f"purveyor:limit:{policy}:{rate.window_s}:{digest}"
        try:
            async with self._client.use() as redis:
                hit = redis.register_script(_HIT)  # loads itself again after SCRIPT FLUSH or a restart
                allowed, used, ttl_ms = await hit(keys=[name], args=[rate.quota, rate.window_s * 1000])
        except RedisAway:
            return await self._fallback.hit(policy, key, rate)
        if allowed:
            await self._fallback.hit(policy, key, rate)
        reset_s = max(1, math.ceil(ttl_ms / 1000))
        return Decision(policy, rate, max(0, rate.quota - used), reset_s, bool(allowed))


class RedisCache:
    """``SharedCache`` in Redis; one that is away is as good as empty."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def get(self, key: str) -> bytes | None:
        with suppress(RedisAway):
            async with self._client.use() as redis:
                found = await redis.get(key)
                return found if isinstance(found, bytes) else None
        return None

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        with suppress(RedisAway):
            async with self._client.use() as redis:
                await redis.set(key, value, px=round(ttl_s * 1000))

    async def claim(self, key: str, ttl_s: float) -> bool:
        with suppress(RedisAway):
            async with self._client.use() as redis:
                return bool(await redis.set(key, b"", px=round(ttl_s * 1000), nx=True))
        return True

    async def drop(self, key: str) -> None:
        with suppress(RedisAway):
            async with self._client.use() as redis:
                await redis.delete(key)


# Times by the clock of Redis: those of the processes may differ. A hash with the failures and the end of the wait.
_ATTEMPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = tonumber(redis.call('HGET', KEYS[1], 'until') or 0)
if now < ends then return ends - now end
local beyond = redis.call('HINCRBY', KEYS[1], 'failures', 1) - tonumber(ARGV[1])
if beyond > 0 then
  local delay = math.min(tonumber(ARGV[3]), tonumber(ARGV[2]) * 2 ^ math.min(beyond - 1, 40))
  redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + delay))
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 0
"""
_TAKE_BACK = """
if tonumber(redis.call('HGET', KEYS[1], 'failures') or 0) > 0 then
  redis.call('HINCRBY', KEYS[1], 'failures', -1)
  redis.call('HDEL', KEYS[1], 'until')
end
"""


class RedisBackoff:
    """Counts in Redis; while it is away, in ``fallback``, which hears of every attempt that began."""

    def __init__(self, client: RedisClient, fallback: Backoff) -> None:
        self._client, self._fallback = client, fallback

    async def attempt(self, key: str, policy: BackoffPolicy) -> float:
        times_ms = [round(seconds * 1000) for seconds in (policy.first_s, policy.longest_s, policy.forget_s)]
        try:
            async with self._client.use() as redis:
                wait_ms = await redis.register_script(_ATTEMPT)(keys=[_name(key)], args=[policy.free, *times_ms])
        except RedisAway:
            return await self._fallback.attempt(key, policy)
        if not wait_ms:
            await self._fallback.attempt(key, policy)
        return float(wait_ms) / 1000

    async def take_back(self, key: str) -> None:
        await self._fallback.take_back(key)
        try:
            async with self._client.use() as redis:
                await redis.register_script(_TAKE_BACK)(keys=[_name(key)])
        except RedisAway:
            return

    async def forget(self, key: str) -> None:
        await self._fallback.forget(key)
        try:
            async with self._client.use() as redis:
                await redis.delete(_name(key))
        except RedisAway:
            return


def _name(key: str) -> str:
    """Hashed: no mail address stands in Redis."""
    return f"purveyor:backoff:{hashlib.blake2b(key.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"
