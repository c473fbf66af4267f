"""Rate limits: one suite over both limiters, then what Redis may do to the shared one."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio

from purveyor.kit.errors import ConfigError, TooManyRequests, Unavailable
from purveyor.kit.ids import new_id
from purveyor.kit.limits import redis as module
from purveyor.kit.limits.memory import Limiter, MemoryLimiter, Rate
from purveyor.kit.limits.redis import RedisAway, RedisClient, RedisLimiter, open_redis
from purveyor_drill.servers.redis import RedisServer
from redis_waits import noted_waits
from waiting import PATIENCE_S, until

MINUTE = 60


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if reason := RedisServer.available():
        pytest.skip(reason)
    with RedisServer() as running:
        yield running


@pytest.fixture
def own(server: RedisServer) -> Iterator[RedisServer]:
    """The server, to be emptied, killed and frozen; it is well again at the end."""
    if not server.ours:
        pytest.skip(f"{server.variable} gives a server that is not ours")
    yield server
    server.restart()


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no Redis that is away. Where it is, somebody waits for so long."""
    monkeypatch.setattr(module, "_PATIENCE_S", 1.0 if "own" in request.fixturenames else PATIENCE_S)


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[RedisClient]:
    async with open_redis(server.url) as opened:
        yield opened


@pytest.fixture
async def raw(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(server.url) as connected:
        yield connected


@pytest.fixture(params=["memory", "redis"])
def limiter(request: pytest.FixtureRequest) -> Limiter:
    if request.param == "memory":
        return MemoryLimiter()
    return RedisLimiter(request.getfixturevalue("client"), MemoryLimiter())


@pytest.fixture
def key() -> str:
    return str(new_id())


async def count_allowed(limiter: Limiter, key: str, rate: Rate, hits: int) -> int:
    decisions = await asyncio.gather(*(limiter.hit("test", key, rate) for _ in range(hits)))
    return sum(decision.allowed for decision in decisions)


# What every limiter does


async def test_allows_exactly_the_quota_of_many_at_once(limiter: Limiter, key: str) -> None:
    assert await count_allowed(limiter, key, Rate(50, MINUTE), hits=1500) == 50


async def test_counts_down_and_tells(limiter: Limiter, key: str) -> None:
    first, second = [await limiter.hit("orders", key, Rate(2, MINUTE)) for _ in range(2)]
    assert first.headers() == {"RateLimit-Policy": '"orders";q=2;w=60', "RateLimit": '"orders";r=1;t=60'}
    assert second.headers() == {"RateLimit-Policy": '"orders";q=2;w=60', "RateLimit": '"orders";r=0;t=60'}
    second.require()


async def test_refusal_tells_when_to_come_back(limiter: Limiter, key: str) -> None:
    await limiter.hit("orders", key, Rate(1, MINUTE))
    refusal = await limiter.hit("orders", key, Rate(1, MINUTE))
    with pytest.raises(TooManyRequests) as raised:
        refusal.require()
    assert raised.value.headers == {
        "RateLimit-Policy": '"orders";q=1;w=60',
        "RateLimit": '"orders";r=0;t=60',
        "Retry-After": "60",
    }


async def test_window_starts_with_the_first_request(limiter: Limiter, key: str) -> None:
    rate = Rate(2, 4)
    await limiter.hit("test", key, rate)
    await asyncio.sleep(2.2)
    await limiter.hit("test", key, rate)
    assert not (await limiter.hit("test", key, rate)).allowed
    await asyncio.sleep(2.0)
    assert await count_allowed(limiter, key, rate, hits=5) == 2


async def test_refused_requests_neither_count_nor_prolong(limiter: Limiter, key: str) -> None:
    assert await count_allowed(limiter, key, Rate(2, 4), hits=100) == 2
    await asyncio.sleep(2.2)
    assert await count_allowed(limiter, key, Rate(2, 4), hits=100) == 0
    await asyncio.sleep(2.0)
    assert await count_allowed(limiter, key, Rate(2, 4), hits=5) == 2


async def test_keys_and_policies_do_not_share(limiter: Limiter, key: str) -> None:
    for policy, name in [
        ("login", key),
        ("orders", key),
        ("login", key + "x"),
        ("login", "\udc80\n" + key * 5000),
    ]:
        assert (await limiter.hit(policy, name, Rate(1, MINUTE))).allowed
        assert not (await limiter.hit(policy, name, Rate(1, MINUTE))).allowed


async def test_processes_that_cannot_talk_divide_the_quota(key: str) -> None:
    assert await count_allowed(MemoryLimiter(share=4), key, Rate(10, MINUTE), hits=20) == 2
    assert await count_allowed(MemoryLimiter(share=40), key, Rate(10, MINUTE), hits=20) == 1


async def test_processes_that_cannot_talk_tell_of_their_part(key: str) -> None:
    fields = (await MemoryLimiter(share=4).hit("orders", key, Rate(10, MINUTE))).headers()
    assert fields == {"RateLimit-Policy": '"orders";q=2;w=60', "RateLimit": '"orders";r=1;t=60'}


async def test_what_goes_wrong_tells_of_the_quota_it_cost(limiter: Limiter, key: str) -> None:
    shared = Unavailable("Not now.", retry_after_s=7)
    for left in (2, 1):
        decision = await limiter.hit("orders", key, Rate(3, MINUTE))
        with pytest.raises(Unavailable, match="Not now") as raised, decision.with_headers():
            raise shared from KeyError("the cause")
        assert raised.value.headers == {
            "RateLimit-Policy": '"orders";q=3;w=60',
            "RateLimit": f'"orders";r={left};t=60',
            "Retry-After": "7",
        }
        assert isinstance(raised.value.__cause__, KeyError)
    assert shared.headers == {"Retry-After": "7"}, "others are told of it too, and of their own quota"


async def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr(MemoryLimiter, "_MAX_KEYS", 10)
    limiter = MemoryLimiter()
    for number in range(50):
        await limiter.hit("test", f"{key}{number}", Rate(1, MINUTE))
    assert len(limiter._windows) == 10
    assert not (await limiter.hit("test", f"{key}49", Rate(1, MINUTE))).allowed


# What Redis adds

HITS = """
import asyncio, sys
from purveyor.kit.limits import redis as module
from purveyor.kit.limits.memory import MemoryLimiter, Rate
from purveyor.kit.limits.redis import RedisLimiter, open_redis

async def main(url, key):
    async with open_redis(url) as client:
        limiter = RedisLimiter(client, MemoryLimiter())
        decisions = await asyncio.gather(*(limiter.hit("test", key, Rate(100, 60)) for _ in range(90)))
        print(sum(decision.allowed for decision in decisions))

module._PATIENCE_S = 60.0
asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_share_exactly_the_quota(server: RedisServer, key: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", HITS, server.url, key, env=environment, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    allowed = [int(output) for output, _ in [await process.communicate() for process in processes]]
    assert sum(allowed) == 100


async def test_redis_holds_a_short_name_and_a_limited_time(
    own: RedisServer, client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    await raw.flushall()
    await RedisLimiter(client, MemoryLimiter()).hit("login", "account ann@example.org" * 99, Rate(5, MINUTE))
    (name,) = [name async for name in raw.scan_iter("purveyor:limit:*")]
    assert name.startswith(b"purveyor:limit:login:60:")
    assert len(name) < 80
    assert b"ann" not in name
    assert 30_000 < await raw.pttl(name) <= 60_000


async def test_counter_that_lost_its_expiry_locks_nobody_out(
    client: RedisClient, raw: redis.asyncio.Redis, key: str
) -> None:
    limiter = RedisLimiter(client, MemoryLimiter())
    await count_allowed(limiter, key, Rate(2, 1), hits=2)
    for name in await raw.keys("purveyor:limit:test:1:*"):
        await raw.persist(name)
    assert not (await limiter.hit("test", key, Rate(2, 1))).allowed
    await asyncio.sleep(1.05)
    assert (await limiter.hit("test", key, Rate(2, 1))).allowed


async def test_script_flush_goes_unnoticed(client: RedisClient, raw: redis.asyncio.Redis, key: str) -> None:
    limiter = RedisLimiter(client, MemoryLimiter())
    await limiter.hit("test", key, Rate(9, MINUTE))
    await raw.script_flush()
    assert (await RedisLimiter(client, MemoryLimiter()).hit("test", key, Rate(9, MINUTE))).remaining == 7


async def test_script_flush_in_the_middle_of_a_burst_goes_unnoticed(
    client: RedisClient, raw: redis.asyncio.Redis, key: str
) -> None:
    limiter = RedisLimiter(client, MemoryLimiter(share=1000))
    burst = asyncio.create_task(count_allowed(limiter, key, Rate(200, MINUTE), hits=500))
    await raw.script_flush()
    assert await burst == 200


async def test_refused_call_does_not_hurt_its_neighbors(
    client: RedisClient, raw: redis.asyncio.Redis, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    limiter, rate = RedisLimiter(client, MemoryLimiter(share=9)), Rate(9, MINUTE)
    await raw.rpush(limiter._name("test", f"{key} list", rate), "no counter")
    for _ in range(2):
        quotas = [
            decision.rate.quota
            for decision in await asyncio.gather(
                *(limiter.hit("test", f"{key} {name}", rate) for name in ("first", "list", "last"))
            )
        ]
        assert quotas == [9, 1, 9], "the refused one is counted by this process alone"
    assert [record.levelname for record in caplog.records if "refuses" in record.message] == ["WARNING"]


async def test_hits_at_the_same_moment_share_a_wait(client: RedisClient, key: str, waits: list[str]) -> None:
    limiter = RedisLimiter(client, MemoryLimiter())
    assert (
        await count_allowed(limiter, key, Rate(500, MINUTE), hits=2 * module._MAX_CALLS) == 2 * module._MAX_CALLS
    )
    assert len(waits) == 2


async def test_cancelled_group_leaves_every_answer_with_its_question(client: RedisClient) -> None:
    numbers, echo = random.Random(7), module.Script("return KEYS[1]")
    for number in range(100):
        group = asyncio.create_task(client._run_pipeline([module._Call(echo, f"cancelled {number}", ())] * 5))
        await asyncio.sleep(numbers.random() / 1000)
        group.cancel()
        await asyncio.gather(group, return_exceptions=True)
        answers = await asyncio.gather(*(client.run(echo, f"own {each}") for each in range(5)))
        assert answers == [f"own {each}".encode() for each in range(5)]


async def test_cancelled_hits_leave_every_answer_with_its_question(
    client: RedisClient, raw: redis.asyncio.Redis
) -> None:
    numbers = random.Random(7)
    limiter = RedisLimiter(client, MemoryLimiter())
    for number in range(300):
        hit = asyncio.create_task(limiter.hit("test", f"cancelled {number}", Rate(9, MINUTE)))
        await asyncio.sleep(numbers.random() / 1000)
        hit.cancel()
    await raw.mset({f"own {number}": number for number in range(100)})

    async def get(number: int) -> int:
        async with client.use() as connected:
            return int(await connected.get(f"own {number}") or -1)

    assert await asyncio.gather(*map(get, range(100))) == list(range(100))


# When Redis is not well


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return noted_waits(monkeypatch)


async def is_there(client: RedisClient) -> bool:
    try:
        async with client.use() as connected:
            await connected.ping()
    except RedisAway:
        return False
    return True


@pytest.mark.parametrize("fault", ["freeze", "kill", "halt"])
async def test_redis_that_leaves_costs_one_short_wait(
    own: RedisServer, client: RedisClient, key: str, waits: list[str], fault: str
) -> None:
    limiter = RedisLimiter(client, MemoryLimiter())
    assert await count_allowed(limiter, key, Rate(20, MINUTE), hits=5) == 5
    getattr(own, fault)()
    waits.clear()

    allowed = [(await limiter.hit("test", key, Rate(20, MINUTE))).allowed for _ in range(60)]

    assert sum(allowed) == 15, "the fallback knows what was used up before"
    assert len(waits) == 1
    assert not await is_there(client)


async def test_everybody_who_is_in_the_middle_waits_once(
    own: RedisServer, client: RedisClient, key: str, waits: list[str]
) -> None:
    limiter = RedisLimiter(client, MemoryLimiter())
    own.freeze()
    assert await count_allowed(limiter, key, Rate(20, MINUTE), hits=500) == 20
    assert 1 <= len(waits) <= module._CONNECTIONS


@pytest.mark.parametrize("fault", ["freeze", "kill", "halt"])
async def test_comes_back_by_itself(own: RedisServer, client: RedisClient, key: str, fault: str) -> None:
    limiter = RedisLimiter(client, MemoryLimiter())
    await count_allowed(limiter, key, Rate(20, MINUTE), hits=50)
    getattr(own, fault)()
    await limiter.hit("test", key, Rate(20, MINUTE))
    await asyncio.sleep(1.5)
    assert not await is_there(client)
    own.thaw() if fault == "freeze" else own.restart()
    await until(lambda: is_there(client))
    async with redis.asyncio.from_url(own.url) as raw:
        await raw.flushall()
        await count_allowed(limiter, key, Rate(20, MINUTE), hits=50)
        assert len(await raw.keys("purveyor:limit:*")) == 1


async def test_redis_that_forgot_doubles_a_limit_at_most(
    own: RedisServer, client: RedisClient, raw: redis.asyncio.Redis, key: str
) -> None:
    limiter = RedisLimiter(client, MemoryLimiter())
    before = await count_allowed(limiter, key, Rate(10, MINUTE), hits=30)
    await raw.flushall()
    assert (before, await count_allowed(limiter, key, Rate(10, MINUTE), hits=30)) == (10, 10)


async def test_full_redis_refuses_and_the_limit_stays(
    own: RedisServer,
    client: RedisClient,
    raw: redis.asyncio.Redis,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await raw.config_set("maxmemory", "1")
    limiter = RedisLimiter(client, MemoryLimiter(share=2))
    monkeypatch.setattr(module, "_PATIENCE_S", 10 * PATIENCE_S)  # a refusal is not waited for
    async with asyncio.timeout(PATIENCE_S):
        allowed = [(await limiter.hit("test", key, Rate(10, MINUTE))).allowed for _ in range(30)]
    assert sum(allowed) == 5, "the share of this process"
    assert await is_there(client)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        await client.check()
    await raw.config_set("maxmemory", "0")
    assert await count_allowed(RedisLimiter(client, MemoryLimiter(share=2)), key, Rate(10, MINUTE), hits=30) == 10


async def test_opens_though_redis_is_away_and_finds_it_later(own: RedisServer, key: str, waits: list[str]) -> None:
    own.kill()
    async with open_redis(own.url) as client:
        limiter = RedisLimiter(client, MemoryLimiter())
        assert await count_allowed(limiter, key, Rate(10, MINUTE), hits=30) == 10
        assert len(waits) == 1
        with pytest.raises(redis.exceptions.ConnectionError):
            await client.check()
        own.restart()
        await until(lambda: is_there(client))


async def test_check_names_the_server(client: RedisClient) -> None:
    assert (await client.check()).startswith(("Redis ", "Valkey "))


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:port",
        "redis://host/zero",
        "redis://user:pass/word@host",
        "redis://host?cluster=yes",
        "http://host",
    ],
)
async def test_impossible_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL") as refused:
        async with open_redis(url):
            pytest.fail("opened")
    assert url not in str(refused.value)
    assert "pass/" not in str(refused.value)


async def test_request_that_is_given_back_does_not_count(limiter: Limiter, key: str) -> None:
    rate = Rate(1, MINUTE)
    for _ in range(3):
        assert (await limiter.hit("test", key, rate)).allowed
        await limiter.give_back("test", key, rate)
    await limiter.give_back("test", key, rate)  # of nothing
    assert (await limiter.hit("test", key, rate)).allowed
    assert not (await limiter.hit("test", key, rate)).allowed
    await limiter.forget("test", key, rate)
    assert (await limiter.hit("test", key, rate)).allowed
