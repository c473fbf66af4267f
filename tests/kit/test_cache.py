"""The loading cache: freshness, stale on error, one load per key, cancellation, the bound."""

import asyncio

import pytest

from purveyor.kit import deadline
from purveyor.kit.cache import Cache, Lifetime


class Down(Exception):
    pass


class Source:
    """What is loaded from: counts loads, fails or waits when told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.loads: list[str] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, key: str) -> str:
        self.loads.append(key)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return f"{key}{len(self.loads)}"

    def cache(self, max_entries: int = 10, *, share_loads: bool = True) -> Cache[str, str]:
        return Cache(
            self.load,
            lifetime=lambda value: Lifetime(10, 10) if value.startswith("brief") else Lifetime(60, 600),
            stale_on=Down,
            max_entries=max_entries,
            clock=lambda: self.now,
            share_loads=share_loads,
        )


@pytest.fixture
def source() -> Source:
    return Source()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_fresh_until_the_soft_expiry(source: Source) -> None:
    cache = source.cache()
    assert await cache.get("a") == "a1"
    source.now += 59.9
    assert await cache.get("a") == "a1"
    source.now += 0.1
    assert await cache.get("a") == "a2"


async def test_lifetime_depends_on_the_value(source: Source) -> None:
    cache = source.cache()
    assert await cache.get("brief") == "brief1"
    source.now += 10
    assert await cache.get("brief") == "brief2"


async def test_a_hit_neither_suspends_nor_makes_a_task(source: Source) -> None:
    cache = source.cache()
    await cache.get_many(["a", "b"])
    tasks = asyncio.all_tasks()
    step = cache.get_many(["a", "b"])
    with pytest.raises(StopIteration) as done:
        step.send(None)
    assert done.value.value == {"a": "a1", "b": "b2"}
    assert asyncio.all_tasks() == tasks


async def test_stale_value_on_error_until_the_hard_expiry(source: Source) -> None:
    cache = source.cache()
    await cache.get("a")
    source.error = Down()
    source.now += 599
    assert await cache.get("a") == "a1"
    source.now += 1
    with pytest.raises(Down):
        await cache.get("a")
    source.error = None
    assert (await cache.get("a")).startswith("a")


async def test_a_source_that_fails_is_not_asked_for_every_caller(source: Source) -> None:
    cache = source.cache()
    await cache.get("a")
    source.error = Down()
    source.now += 100
    for _ in range(20):
        assert await cache.get("a") == "a1"
    assert len(source.loads) == 2
    source.error = None
    source.now += 1
    assert await cache.get("a") == "a3"


async def test_nobody_waits_longer_than_their_request_may(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "ANSWER_WITHIN_S", 0.3)
    cache = source.cache()
    await cache.get("known")
    source.now += 100
    source.gate.clear()
    with deadline.request_deadline():
        assert await cache.get("known") == "known1", "the last value"
        with pytest.raises(Down):
            await cache.get("new")
    source.gate.set()

    assert await cache.get("new") == "new3"
    assert source.loads == ["known", "known", "new"], "the loads went on, and they were everybody's"


async def test_a_load_does_not_end_with_its_first_callers_request(source: Source) -> None:
    left: list[float] = []

    async def load(key: str) -> str:
        left.append(deadline.seconds_left(100.0))
        return key

    cache = Cache(load, lifetime=lambda _: Lifetime(1, 1), stale_on=Down, max_entries=1)
    with deadline.request_deadline():
        await cache.get("a")
    assert left == [100.0]


async def test_only_the_named_error_is_covered_by_a_stale_value(source: Source) -> None:
    cache = source.cache()
    await cache.get("a")
    source.now += 100
    source.error = KeyError("a mistake of ours")
    with pytest.raises(KeyError):
        await cache.get("a")
    source.error = Down()
    with pytest.raises(Down):
        await cache.get("a")


async def test_failures_are_not_kept(source: Source) -> None:
    cache = source.cache()
    source.error = Down()
    with pytest.raises(Down):
        await cache.get("a")
    source.error = None
    assert await cache.get("a") == "a2"


async def test_one_load_per_key_for_everyone(source: Source) -> None:
    cache = source.cache()
    source.gate.clear()
    waiting = [asyncio.create_task(cache.get_many(["a", "b"])) for _ in range(50)]
    await settle()
    source.gate.set()
    answers = await asyncio.gather(*waiting)
    assert sorted(source.loads) == ["a", "b"]
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.asyncio(loop_scope="function")  # with no tasks of others
async def test_callers_that_share_no_loads_make_no_task(source: Source) -> None:
    cache = source.cache(share_loads=False)
    tasks = len(asyncio.all_tasks())
    source.gate.clear()
    waiting = [asyncio.create_task(cache.get("a")) for _ in range(2)]
    await settle()
    assert len(asyncio.all_tasks()) == tasks + 2
    waiting[0].cancel()
    source.gate.set()
    assert await waiting[1] == "a2"
    assert await cache.get("a") == "a2"

    source.now, source.error = source.now + 61, Down()
    assert await cache.get("a") == "a2"
    assert source.loads == ["a"] * 3


async def test_one_failure_reaches_everyone(source: Source) -> None:
    cache = source.cache()
    source.gate.clear()
    source.error = Down()
    waiting = [asyncio.create_task(cache.get("a")) for _ in range(5)]
    await settle()
    source.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert source.loads == ["a"]
    assert all(isinstance(answer, Down) for answer in answers)


async def test_cancelled_caller_leaves_the_load_to_the_others(source: Source) -> None:
    cache = source.cache()
    source.gate.clear()
    first, second = (asyncio.create_task(cache.get("a")) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    source.gate.set()
    assert await second == "a1"
    assert await cache.get("a") == "a1"
    assert source.loads == ["a"]


async def test_failure_that_nobody_waits_for_is_no_noise(source: Source) -> None:
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    try:
        cache = source.cache()
        source.gate.clear()
        source.error = Down()
        only = asyncio.create_task(cache.get("a"))
        await settle()
        only.cancel()
        source.gate.set()
        await settle()
        await cache.aclose()
        assert noise == []
    finally:
        asyncio.get_running_loop().set_exception_handler(None)


async def test_least_recently_used_goes_first(source: Source) -> None:
    cache = source.cache(max_entries=2)
    await cache.get("a")
    await cache.get("b")
    await cache.get("a")
    await cache.get("c")
    assert len(cache) == 2
    await cache.get_many(["a", "c"])
    assert source.loads == ["a", "b", "c"]
    await cache.get("b")
    assert source.loads == ["a", "b", "c", "b"]


async def test_closing_cancels_loads_under_way(source: Source) -> None:
    cache = source.cache()
    source.gate.clear()
    waiting = asyncio.create_task(cache.get("a"))
    await settle()
    await cache.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
