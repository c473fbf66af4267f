"""Rate limiter, login backoff and cache in Redis, shared by all processes; Redis may be down at any time."""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from purveyor.kit.coalescer import Coalescer
from purveyor.kit.errors import RESET, ConfigError
from purveyor.kit.limits.memory import Backoff, BackoffPolicy, Decision, Limiter, Rate
from purveyor.kit.retry import RetrySchedule, retry

_log = logging.getLogger(__name__)
_LOST = (RedisError, *RESET)
_PATIENCE_S = 0.05
_GRACE_S = 0.01
_CONNECTIONS = 10
"""Enough for more than 10,000 uses per second."""
_MAX_CALLS = 100
"""Maximum number of script calls that share a pipeline and its deadline."""
_PROBES = RetrySchedule(first_s=0.125, longest_s=1.25, jitter=0.4)


class Script:
    """A Lua script and the digest under which Redis caches it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class _Call(NamedTuple):
    script: Script
    key: str
    args: tuple[int, ...]

    def by_digest(self) -> Sequence[str | int]:
        return ("EVALSHA", self.script.digest, 1, self.key, *self.args)

    def by_source(self) -> Sequence[str | int]:
        return ("EVAL", self.script.source, 1, self.key, *self.args)


_HIT = Script("""
local used = tonumber(redis.call('GET', KEYS[1]) or 0)
local allowed = used < tonumber(ARGV[1])
if allowed then used = redis.call('INCR', KEYS[1]) end
local ttl = redis.call('PTTL', KEYS[1])
if ttl < 0 then
  ttl = tonumber(ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ttl)
end
return {allowed and 1 or 0, used, ttl}
""")
_GIVE_BACK = Script("""
if tonumber(redis.call('GET', KEYS[1]) or 0) > 0 then redis.call('DECR', KEYS[1]) end
""")


class RedisAway(Exception):
    """Redis failed or is known to be down; continue without it."""


class RedisClient:
    """Redis client with a deadline of 60 ms per use, connecting included.

    After a failed use, all uses fail at once, while a background task probes Redis at least every 1.25 s.
    """

    def __init__(self, pool: BlockingConnectionPool) -> None:
        self._pool, self._client = pool, Redis.from_pool(pool)
        # Waiting for a connection does not count towards the deadline: a burst does not mean that Redis is down.
        self._slots = asyncio.Semaphore(pool.max_connections)
        self._probing: asyncio.Task[None] | None = None
        self._last_refusal = ""
        self._calls = Coalescer(self._run_pipeline, max_size=_MAX_CALLS)

    async def run(self, script: Script, key: str, *args: int) -> Any:
        """Run a script on a key. Calls that wait at the same moment share a pipeline. Raises ``RedisAway``."""
        if self._is_away():
            raise RedisAway
        return await self._calls.call(_Call(script, key, args))

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Redis]:
        """Lend the client for one short use. Errors of Redis inside the block are raised as ``RedisAway``."""
        async with self._slots:
            if self._is_away():
                raise RedisAway
            try:
                async with _deadline():
                    yield self._client
            except ResponseError as error:
                raise self._refused(error) from error
            except _LOST as error:
                self._leave(error)
                raise RedisAway from error

    async def start(self) -> None:
        """Connect, or start probing."""
        try:
            await self._connect()
        except _LOST as error:
            self._leave(error)

    async def check(self) -> str:
        """Return the server and its version, such as ``Redis 7.0.15``. Raises errors of Redis and the network.

        Writes, because a full server or a replica still answers reads.
        """
        await self._client.set("purveyor:check", b"", px=1000)
        info = await self._client.info("server")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"

    async def aclose(self) -> None:
        await self._calls.aclose()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        with suppress(*_LOST):
            await self._client.aclose()

    async def _run_pipeline(self, calls: Sequence[_Call]) -> Sequence[Any]:
        """Answer each call, with ``RedisAway`` for one that Redis refused."""
        async with self.use():
            answers = await self._exchange([call.by_digest() for call in calls])
            # Redis knows no script at first, and none after a restart or SCRIPT FLUSH. EVAL caches it again.
            unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if unknown:
                again = await self._exchange([calls[place].by_source() for place in unknown])
                for place, answer in zip(unknown, again, strict=True):
                    answers[place] = answer
        return [self._refused(answer) if isinstance(answer, ResponseError) else answer for answer in answers]

    async def _exchange(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        """Send commands at once and return their replies, refusals included.

        A ``Pipeline`` of redis-py makes a call that is alone a third more expensive.
        """
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            return [await _reply(connection) for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)  # replies may be left to read
            raise
        finally:
            await self._pool.release(connection)

    def _refused(self, error: ResponseError) -> RedisAway:
        """Redis answered (full, read-only, key of another type), so the next use need not be skipped."""
        if str(error) != self._last_refusal:
            self._last_refusal = str(error)
            _log.warning("Redis refuses: %s", error)
        return RedisAway()

    def _is_away(self) -> bool:
        return self._probing is not None and not self._probing.done()

    def _leave(self, error: Exception) -> None:
        if not self._is_away():
            _log.warning("Redis is away, every process is on its own: %s", str(error) or "no answer")
            self._probing = asyncio.create_task(self._probe(), name="redis probe")

    async def _connect(self) -> None:
        async with _deadline():
            await self._client.ping()
        # Open all connections now: with TLS, connecting in a burst takes longer than the deadline.
        async with AsyncExitStack() as stack:
            for _ in range(self._pool.max_connections):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                stack.push_async_callback(self._pool.release, connection)

    async def _probe(self) -> None:
        since = time.monotonic()
        await asyncio.sleep(_PROBES.pause_s(1))

        def report(error: Exception, _failures: int, _pause_s: float) -> None:
            _log.debug("Redis is still away: %s", error)

        await retry(self._reconnect, _PROBES, on=lambda error: isinstance(error, _LOST), failed=report)
        _log.info("Redis is back after %.1f s", time.monotonic() - since)

    async def _reconnect(self) -> None:
        # Idle connections are dead after a failover.
        await self._pool.disconnect(inuse_connections=False)
        await self._connect()


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """Raise ``TimeoutError`` after 50 ms, plus 10 ms to read an answer that has already arrived.

    Otherwise an event loop that was blocked itself (by a password hash, by a busy machine) would blame Redis.
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
    """Open a client for a ``redis://``, ``rediss://`` or ``unix://`` URL, even while Redis is down.

    Raises ``ConfigError`` for an invalid URL.
    """
    client = RedisClient(_pool(url))
    try:
        await client.start()
        yield client
    finally:
        await client.aclose()


def _pool(url: str) -> BlockingConnectionPool:
    # RESP2 and no driver info: connecting needs no round trip, which matters in a burst.
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
    """Counts in Redis for all processes, and in ``fallback`` while Redis is down.

    The fallback also counts every allowed request, so that used quota stays used when Redis fails.
    """

    def __init__(self, client: RedisClient, fallback: Limiter) -> None:
        self._client, self._fallback = client, fallback

    async def hit(self, policy: str, key: str, rate: Rate) -> Decision:
        name = self._name(policy, key, rate)
        try:
            allowed, used, ttl_ms = await self._client.run(_HIT, name, rate.quota, rate.window_s * 1000)
        except RedisAway:
            return await self._fallback.hit(policy, key, rate)
        if allowed:
            await self._fallback.hit(policy, key, rate)
        reset_s = max(1, math.ceil(ttl_ms / 1000))
        return Decision(policy, rate, max(0, rate.quota - used), reset_s, bool(allowed))

    async def give_back(self, policy: str, key: str, rate: Rate) -> None:
        await self._fallback.give_back(policy, key, rate)
        with suppress(RedisAway):
            await self._client.run(_GIVE_BACK, self._name(policy, key, rate))

    async def forget(self, policy: str, key: str, rate: Rate) -> None:
        await self._fallback.forget(policy, key, rate)
        with suppress(RedisAway):
            async with self._client.use() as redis:
                await redis.delete(self._name(policy, key, rate))

    @staticmethod
    def _name(policy: str, key: str, rate: Rate) -> str:
        # With the window in the name, a change of the rate takes effect at once.
        return f"purveyor:limit:{policy}:{rate.window_s}:{_digest(key)}"


class RedisCache:
    """``SharedCache`` in Redis; empty while Redis is down."""

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


# A hash with the number of failures and the end of the wait, by the clock of Redis, since those of processes
# differ.
_ATTEMPT = Script("""
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
""")
_TAKE_BACK = Script("""
if tonumber(redis.call('HGET', KEYS[1], 'failures') or 0) > 0 then
  redis.call('HINCRBY', KEYS[1], 'failures', -1)
  redis.call('HDEL', KEYS[1], 'until')
end
""")


class RedisBackoff:
    """Counts in Redis, and in ``fallback`` while Redis is down; the fallback also counts every attempt."""

    def __init__(self, client: RedisClient, fallback: Backoff) -> None:
        self._client, self._fallback = client, fallback

    async def attempt(self, key: str, policy: BackoffPolicy) -> float:
        times_ms = [round(seconds * 1000) for seconds in (policy.first_s, policy.longest_s, policy.forget_s)]
        try:
            wait_ms = await self._client.run(_ATTEMPT, _name(key), policy.free, *times_ms)
        except RedisAway:
            return await self._fallback.attempt(key, policy)
        if not wait_ms:
            await self._fallback.attempt(key, policy)
        return float(wait_ms) / 1000

    async def take_back(self, key: str) -> None:
        await self._fallback.take_back(key)
        with suppress(RedisAway):
            await self._client.run(_TAKE_BACK, _name(key))

    async def forget(self, key: str) -> None:
        await self._fallback.forget(key)
        with suppress(RedisAway):
            async with self._client.use() as redis:
                await redis.delete(_name(key))


def _name(key: str) -> str:
    return f"purveyor:backoff:{_digest(key)}"


def _digest(key: str) -> str:
    """Hash a key, so that its length is bounded and no email address is stored in Redis."""
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
