"""Products in the cache that processes share: one upstream request for all of them, and none that harms."""

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec
import pytest
import redis.asyncio

from purveyor.kit import cache
from purveyor.kit.limits import redis as limits
from purveyor.kit.limits.redis import RedisCache, open_redis
from purveyor.roles.orders.contract import ProductsUnavailable
from purveyor.roles.orders.model import Product
from purveyor.roles.orders.products.client import ProductApi
from purveyor_drill.servers.redis import RedisServer
from redis_waits import noted_waits
from servers.product_api import ProductApiServer, slowly, status, wrapped
from waiting import PATIENCE_S

Process = Callable[[], ProductApi]
"""Makes what another process would have: a client of the product API with empty memory."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if reason := RedisServer.available():
        pytest.skip(reason)
    with RedisServer() as running:
        if not running.ours:
            pytest.skip(f"{running.variable} gives a server that is not ours to empty")
        yield running


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no Redis that is away. Where it is, somebody waits for so long."""
    monkeypatch.setattr(limits, "_PATIENCE_S", 1.0 if "fault" in request.fixturenames else PATIENCE_S)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return noted_waits(monkeypatch)


@pytest.fixture
async def raw(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.from_url(server.url) as connected:
        await connected.flushall()
        yield connected


@pytest.fixture
async def api() -> AsyncIterator[ProductApiServer]:
    async with ProductApiServer() as scripted:
        yield scripted


@pytest.fixture
def clock() -> Clock:
    """The clock of every process's own cache."""
    return Clock()


@pytest.fixture
async def process(
    server: RedisServer, raw: redis.asyncio.Redis, api: ProductApiServer, clock: Clock
) -> AsyncIterator[Process]:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(open_redis(server.url)) for _ in range(3)]
        made = [
            ProductApi(api.url, "EUR", deadline_s=PATIENCE_S, shared=RedisCache(client), clock=clock)
            for client in clients
        ]
        for product_api in made:
            await stack.enter_async_context(aclosing(product_api))
        yield made.pop


def stored(product_id: int = 7, *, age_s: float, price: int = 500, **members: object) -> bytes:
    """A product as a process that loaded it ``age_s`` seconds ago has left it."""
    value = {"type": "Product", "id": product_id, "title": "From Redis", "price": price} | members
    return msgspec.msgpack.encode({"value": value, "loaded_at": time.time() - age_s})


async def price(products: ProductApi, product_id: int = 7) -> int | None:
    view = (await products.fetch([product_id])).get(product_id)
    return view.price if isinstance(view, Product) else None


async def test_second_process_asks_nobody(api: ProductApiServer, process: Process) -> None:
    api.default = wrapped("19.99", description="Ünïcode.", color="red")
    first = await process().fetch([1, 2, 3])
    assert await process().fetch([1, 2, 3]) == first
    assert isinstance(first[1], Product)
    assert len(api.requests) == 3


async def test_processes_at_the_same_time_make_one_request_per_product(
    api: ProductApiServer, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_LEASE_S", PATIENCE_S)
    api.default = slowly(0.05, wrapped())
    processes = [process() for _ in range(3)]
    answers = await asyncio.gather(*(products.fetch(range(1, 11)) for products in processes))
    assert answers[0] == answers[1] == answers[2]
    assert set(api.calls.values()) == {1}
    assert len(api.calls) == 10


async def test_unknown_products_are_shared_too(
    api: ProductApiServer, process: Process, raw: redis.asyncio.Redis
) -> None:
    api.default = status(404)
    assert await price(process()) is None
    assert await price(process()) is None
    assert api.calls[7] == 1
    assert 20_000 < await raw.pttl("purveyor:product:EUR:7") <= 30_000


async def test_redis_keeps_plain_data_for_ten_minutes(process: Process, raw: redis.asyncio.Redis) -> None:
    began = time.time()
    await process().fetch([7])
    assert 500_000 < await raw.pttl("purveyor:product:EUR:7") <= 600_000
    data = await raw.get("purveyor:product:EUR:7")
    assert isinstance(data, bytes)
    kept: dict[str, Any] = msgspec.msgpack.decode(data)
    assert kept["value"]["price"] == 1999
    assert began <= kept["loaded_at"] <= time.time()


async def test_age_counts_from_the_request_and_not_from_the_look_into_redis(
    api: ProductApiServer, process: Process, raw: redis.asyncio.Redis, clock: Clock
) -> None:
    await raw.set("purveyor:product:EUR:7", stored(age_s=50))
    products = process()
    assert await price(products) == 500
    clock.now += 8
    assert await price(products) == 500
    assert not api.requests
    clock.now += 4
    await raw.set("purveyor:product:EUR:7", stored(age_s=62))
    assert await price(products) == 1999


async def test_stale_value_of_another_process_serves_while_the_api_fails(
    api: ProductApiServer, process: Process, raw: redis.asyncio.Redis, clock: Clock
) -> None:
    await raw.set("purveyor:product:EUR:7", stored(age_s=590))
    api.default = status(403)
    products = process()
    assert await price(products) == 500
    assert await price(products) == 500
    assert api.calls[7] == 1, "not asked by each caller"
    clock.now += 1
    assert await price(products) == 500
    assert api.calls[7] == 2, "but each second"


async def test_too_old_is_as_good_as_absent(
    api: ProductApiServer, process: Process, raw: redis.asyncio.Redis
) -> None:
    await raw.set("purveyor:product:EUR:7", stored(age_s=601))
    api.default = status(403)
    with pytest.raises(ProductsUnavailable):
        await process().fetch([7])


class Trap:
    """What a pickle would run."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Trap, "sprung", True))


POISON = {
    "empty": b"",
    "garbage": b"\xff\xc1\x00garbage",
    "pickle": pickle.dumps(Trap()),
    "JSON": b'{"value": {"type": "Product", "id": 7, "title": "x", "price": 1}, "loaded_at": 0}',
    "cut short": stored(age_s=1)[:-3],
    "more behind it": stored(age_s=1) + b"\x00",
    "another type": stored(age_s=1, price="1"),  # type: ignore[arg-type]
    "a fraction": stored(age_s=1, price=0.5),  # type: ignore[arg-type]
    "invalid UTF-8": stored(age_s=1, color="ABCDEF").replace(b"ABCDEF", b"\xff" * 6),
    "deep": b"\x91" * 100_000,
    "deep inside": stored(age_s=1, more=b"X").replace(b"\xc4\x01X", b"\x91" * 100_000),
    "from the future": stored(age_s=-3600),
    "from no time": stored(age_s=float("nan")),
    "from the end of time": stored(age_s=float("-inf")),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
async def test_poison_is_replaced(
    api: ProductApiServer, process: Process, raw: redis.asyncio.Redis, poison: bytes
) -> None:
    await raw.set("purveyor:product:EUR:7", poison)
    assert await price(process()) == 1999
    assert await price(process()) == 1999
    assert api.calls[7] == 1
    assert not Trap.sprung


async def test_key_of_another_type_is_replaced(
    api: ProductApiServer, process: Process, raw: redis.asyncio.Redis
) -> None:
    await raw.lpush("purveyor:product:EUR:7", "x")
    assert await price(process()) == 1999
    assert await price(process()) == 1999
    assert api.calls[7] == 1


async def test_failure_of_one_process_does_not_hold_up_the_others(
    api: ProductApiServer, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_LEASE_S", 10 * PATIENCE_S)
    api.answers[7] = [slowly(0.1, status(403)), wrapped()]
    async with asyncio.timeout(PATIENCE_S):  # the second takes over when the first gives up
        answers = await asyncio.gather(price(process()), price(process()), return_exceptions=True)
    assert any(isinstance(answer, ProductsUnavailable) for answer in answers)
    assert 1999 in answers


async def test_process_that_never_comes_back_is_not_waited_for(process: Process, raw: redis.asyncio.Redis) -> None:
    await raw.set("purveyor:product:EUR:7:lease", b"")
    async with asyncio.timeout(PATIENCE_S):
        assert await price(process()) == 1999


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_redis_that_left_is_as_if_there_were_none(
    server: RedisServer, api: ProductApiServer, process: Process, waits: list[str], fault: str
) -> None:
    products = process()
    await products.fetch([1])
    getattr(server, fault)()
    waits.clear()
    try:
        assert len(await products.fetch(range(1, 101))) == 100
        products._products._clock.now += 61  # type: ignore[attr-defined]
        assert len(await products.fetch(range(1, 11))) == 10
        assert len(waits) <= limits._CONNECTIONS, "who was in the middle waits once, and nobody afterwards"
    finally:
        server.restart()
    assert len(api.requests) == 110
