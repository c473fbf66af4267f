"""Growing delays: one suite over both implementations, then what Redis may do to the shared one."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio

from purveyor.kit.ids import new_id
from purveyor.kit.limits import redis as module
from purveyor.kit.limits.memory import Backoff, BackoffPolicy, MemoryBackoff
from purveyor.kit.limits.redis import RedisBackoff, RedisClient, open_redis
from purveyor_drill.servers.redis import RedisServer

SLOW = BackoffPolicy(free=3, first_s=60, longest_s=900)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if reason := RedisServer.available():
        pytest.skip(reason)
    with RedisServer() as running:
        yield running


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no Redis that is away."""
    monkeypatch.setattr(module, "_PATIENCE_S", 1.0)


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[RedisClient]:
    async with open_redis(server.url) as opened:
        yield opened


@pytest.fixture(params=["memory", "redis"])
def backoff(request: pytest.FixtureRequest) -> Backoff:
    if request.param == "memory":
        return MemoryBackoff()
    return RedisBackoff(request.getfixturevalue("client"), MemoryBackoff())


@pytest.fixture
def key() -> str:
    return f"account {new_id()}@example.com"


async def began(backoff: Backoff, key: str, policy: BackoffPolicy, attempts: int) -> int:
    waits = await asyncio.gather(*(backoff.attempt(key, policy) for _ in range(attempts)))
    return sum(wait == 0 for wait in waits)


# What every implementation does


async def test_of_many_at_once_the_free_ones_begin_and_one_more(backoff: Backoff, key: str) -> None:
    """The one more is the first whose successor must wait."""
    assert await began(backoff, key, SLOW, 500) == 4


async def test_each_further_failure_doubles_the_wait(backoff: Backoff, key: str) -> None:
    policy = BackoffPolicy(free=1, first_s=0.5, longest_s=1.6)
    waits = []
    assert await backoff.attempt(key, policy) == 0
    for _ in range(4):
        assert await backoff.attempt(key, policy) == 0
        waits.append(await backoff.attempt(key, policy))
        await asyncio.sleep(waits[-1] + 0.02)

    for wait, most in zip(waits, [0.5, 1.0, 1.6, 1.6], strict=True):
        assert most / 4 < wait <= most, waits


async def test_waiting_in_vain_does_not_prolong_the_wait(backoff: Backoff, key: str) -> None:
    await began(backoff, key, SLOW, 4)
    first = await backoff.attempt(key, SLOW)
    for _ in range(20):
        last = await backoff.attempt(key, SLOW)

    assert 0 < last <= first <= 60


async def test_success_forgets_all_failures(backoff: Backoff, key: str) -> None:
    await began(backoff, key, SLOW, 10)
    await backoff.forget(key)

    assert await began(backoff, key, SLOW, 10) == 4
    await backoff.forget(f"{key} of nobody")


async def test_an_attempt_that_was_none_counts_no_more(backoff: Backoff, key: str) -> None:
    for _ in range(20):
        assert await backoff.attempt(key, SLOW) == 0
        await backoff.take_back(key)
    await began(backoff, key, SLOW, 10)
    await backoff.take_back(key)

    assert await began(backoff, key, SLOW, 10) == 1, "the failures before it still count"
    await backoff.take_back(f"{key} of nobody")
    assert await began(backoff, f"{key} of nobody", SLOW, 10) == 4, "nobody gets more than is free"


async def test_failures_are_forgotten_after_a_quiet_time(backoff: Backoff, key: str) -> None:
    policy = BackoffPolicy(free=2, first_s=60, longest_s=60, forget_s=1.5)
    assert await began(backoff, key, policy, 10) == 3
    await asyncio.sleep(1.6)

    assert await began(backoff, key, policy, 10) == 3


async def test_keys_do_not_share(backoff: Backoff, key: str) -> None:
    await began(backoff, key, SLOW, 10)

    assert await began(backoff, f"{key}x", SLOW, 10) == 4
    assert await began(backoff, "\udc80\n" + key * 5000, SLOW, 10) == 4


def test_no_number_of_failures_makes_a_wait_longer_than_the_longest() -> None:
    policy = BackoffPolicy(free=10)

    assert [policy.delay_s(failures) for failures in (0, 10, 11, 12, 13)] == [0, 0, 1, 2, 4]
    assert policy.delay_s(21) == 900
    assert policy.delay_s(10**9) == 900


async def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr(MemoryBackoff, "_MAX_KEYS", 10)
    backoff = MemoryBackoff()
    for number in range(50):
        await began(backoff, f"{key}{number}", SLOW, 5)

    assert len(backoff._keys) == 10
    assert await backoff.attempt(f"{key}49", SLOW) > 0


# What Redis adds

ATTEMPTS = """
import asyncio, sys
from purveyor.kit.limits.memory import BackoffPolicy, MemoryBackoff
from purveyor.kit.limits import redis as module
from purveyor.kit.limits.redis import RedisBackoff, open_redis

async def main(url, key):
    async with open_redis(url) as client:
        backoff = RedisBackoff(client, MemoryBackoff())
        policy = BackoffPolicy(free=20, first_s=600)
        waits = await asyncio.gather(*(backoff.attempt(key, policy) for _ in range(40)))
        print(sum(wait == 0 for wait in waits))

module._PATIENCE_S = 60.0
asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_share_what_is_free(server: RedisServer, key: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", ATTEMPTS, server.url, key, env=environment, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    outputs = [output for output, _ in [await process.communicate() for process in processes]]

    assert sum(int(output) for output in outputs) == 21


async def test_redis_holds_a_short_name_and_a_limited_time(server: RedisServer, client: RedisClient) -> None:
    async with redis.asyncio.from_url(server.url) as raw:
        await raw.flushall()
        await RedisBackoff(client, MemoryBackoff()).attempt("account ann@example.org" * 99, SLOW)
        (name,) = [name async for name in raw.scan_iter("*")]
        assert len(name) < 80
        assert b"ann" not in name
        assert 3_590_000 < await raw.pttl(name) <= 3_600_000


async def test_who_was_waiting_goes_on_waiting_when_redis_leaves(server: RedisServer, key: str) -> None:
    if not server.ours:
        pytest.skip(f"{server.variable} gives a server that is not ours")
    async with open_redis(server.url) as client:
        backoff = RedisBackoff(client, MemoryBackoff())
        assert await began(backoff, key, SLOW, 10) == 4
        server.kill()
        try:
            assert await began(backoff, key, SLOW, 10) == 0
            assert await began(backoff, f"{key}x", SLOW, 10) == 4
            await backoff.forget(key)
            await backoff.take_back(f"{key}x")
            assert await began(backoff, key, SLOW, 10) == 4
        finally:
            server.restart()
