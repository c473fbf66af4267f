"""Growing delays, counted in Redis for all processes together."""

import hashlib

from purveyor.kit.backoff import Backoff, Growth
from purveyor.kit.redis import RedisAway, RedisClient

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

    async def attempt(self, key: str, growth: Growth) -> float:
        """See ``Backoff``."""
        times_ms = [round(seconds * 1000) for seconds in (growth.first_s, growth.longest_s, growth.forget_s)]
        try:
            async with self._client.use() as redis:
                wait_ms = await redis.register_script(_ATTEMPT)(keys=[_name(key)], args=[growth.free, *times_ms])
        except RedisAway:
            return await self._fallback.attempt(key, growth)
        if not wait_ms:
            await self._fallback.attempt(key, growth)
        return float(wait_ms) / 1000

    async def take_back(self, key: str) -> None:
        """See ``Backoff``."""
        await self._fallback.take_back(key)
        try:
            async with self._client.use() as redis:
                await redis.register_script(_TAKE_BACK)(keys=[_name(key)])
        except RedisAway:
            return

    async def forget(self, key: str) -> None:
        """See ``Backoff``."""
        await self._fallback.forget(key)
        try:
            async with self._client.use() as redis:
                await redis.delete(_name(key))
        except RedisAway:
            return


def _name(key: str) -> str:
    """Hashed: no mail address stands in Redis."""
    return f"purveyor:backoff:{hashlib.blake2b(key.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"
