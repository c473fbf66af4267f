"""A connection to Redis that the network reset is found out by the next use, which must go on without it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from purveyor.kit.limits.memory import MemoryLimiter, Rate
from purveyor.kit.limits.redis import RedisLimiter, open_redis
from purveyor_drill.servers.redis import RedisServer


def _reset_once_after_its_check(connection: Any) -> None:
    """The pool looks whether a kept connection still lives; the reset comes between that look and the write."""
    look = connection.can_read

    async def spoiled() -> bool:
        connection.can_read = look
        alive = await look()
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        return alive

    connection.can_read = spoiled


async def _hit_over_reset_connections(url: str) -> int:
    """How many of 20 hits were allowed."""
    async with open_redis(url) as client:
        limiter = RedisLimiter(client, MemoryLimiter())
        assert (await limiter.hit("test", "warm", Rate(100, 60))).allowed
        for connection in client._pool._available_connections:
            _reset_once_after_its_check(connection)
        decisions = [await limiter.hit("test", "cold", Rate(100, 60)) for _ in range(20)]
        return sum(decision.allowed for decision in decisions)


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_reset_connection_fails_no_request(run):
    if reason := RedisServer.available():
        pytest.skip(f"no redis: {reason}")
    with RedisServer() as server, ThreadPoolExecutor(1) as beside:
        assert beside.submit(run, _hit_over_reset_connections(server.url)).result() == 20
