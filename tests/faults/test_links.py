"""Links that are cut, slow or silent: orders go on where they can, and everything comes back by itself."""

import asyncio
import time
from collections.abc import Sequence

import httpx

from faults.houses import House, in_all
from faults.proxy import Blackhole, Latency
from shop import Customer

REFUSED_S = 4.0
"""How long a request may take to be refused; 2.5 s are promised, and a busy machine adds to that."""
SLOW = Latency(delay_s=0.3, jitter_s=0.05)
FAR = Latency(delay_s=0.05, jitter_s=0.02)
"""A server on another continent: what takes many round trips is felt."""


async def refused_in_time(house: House, by: Customer, key: str) -> None:
    """A 503 that says when to try again, and that does not come late."""
    began = time.monotonic()
    answer = await house.shop.place(by, [(1, 2)], key=key)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert time.monotonic() - began < REFUSED_S


async def stored(house: House, by: Customer, key: str) -> httpx.Response:
    answer = await house.shop.place(by, [(1, 2)], key=key)
    assert answer.status_code == 201, answer.text
    return answer


async def forgotten_broker_link(house: House) -> None:
    """A firewall has forgotten the connections: nobody says that they are dead, only heartbeats stay away."""
    ada = await house.customer()
    side = "both" if house.name == "monolith" else "to_client"
    house["RABBITMQ_URL"].set(Blackhole(side=side, old_only=True))
    order = await stored(house, ada, "key")

    async def mailed() -> bool:
        return bool(house.mails_of(ada, order))

    await house.first_success(f"broker link dead ({side}), while it lasts", mailed, within_s=35)
    assert "idempotent-replayed" in (await stored(house, ada, "key")).headers
    house["RABBITMQ_URL"].clear()
    await house.kept_once(ada, order)


async def slow_and_silent_redis(house: House) -> None:
    redis = house["REDIS_URL"]
    ada = await house.shop.customer()
    for fault in (SLOW, Blackhole()):
        redis.set(fault)
        for number in range(3):
            await stored(house, ada, f"{type(fault).__name__}-{number}")
    redis.clear()
    passed = redis.passed["to_client"]

    async def asked() -> bool:
        await house.shop.list(ada)
        await stored(house, ada, "last")
        return redis.passed["to_client"] > passed + 100

    await house.first_success("Redis silent", asked)
    assert len((await house.shop.list(ada)).json()["orders"]) == 7


async def silent_and_slow_auth(house: House) -> None:
    if "AUTH_SERVICE" not in house.proxies:
        return
    auth = house["AUTH_SERVICE"]
    known, new = await house.shop.customer(), await house.shop.customer()
    await stored(house, known, "before")
    auth.set(Blackhole())
    await stored(house, known, "during")
    await refused_in_time(house, new, "key")
    auth.set(SLOW)

    async def recognised() -> bool:
        return (await house.shop.place(new, [(1, 2)], key="key")).status_code == 201

    await house.first_success("auth silent, then slow", recognised)
    assert len((await house.shop.list(new)).json()["orders"]) == 1
    auth.clear()


async def silent_postgresql(house: House) -> None:
    """Refused in time, nothing doubled by what arrives late, and no connection of the pool stays stuck."""
    ada = await house.shop.customer()
    await stored(house, ada, "0")
    postgres = house["DATABASE_URL"]
    postgres.set(Blackhole())
    await asyncio.gather(*(refused_in_time(house, ada, str(number)) for number in range(1, 31)))
    postgres.clear()

    async def placed() -> bool:
        return (await house.shop.place(ada, [(1, 2)], key="0")).status_code == 201

    await house.first_success("PostgreSQL silent", placed)
    orders = await asyncio.gather(*(house.place_until_stored(ada, str(number)) for number in range(31)))
    ids = {order.json()["id"] for order in orders}
    listed = (await house.shop.list(ada, limit=100)).json()["orders"]
    assert len(listed) == 31
    assert {found["id"] for found in listed} == ids
    at_once = await asyncio.gather(*(house.shop.get(ada, order_id) for order_id in ids))
    assert {answer.status_code for answer in at_once} == {200}


async def test_a_dead_broker_link_and_meanwhile_the_links_to_redis_auth_and_postgresql(
    houses: Sequence[House],
) -> None:
    """Together, because it takes about 20 s until heartbeats are missed."""

    async def row(house: House) -> None:
        async def others() -> None:
            await slow_and_silent_redis(house)
            await silent_and_slow_auth(house)
            await silent_postgresql(house)

        await asyncio.gather(forgotten_broker_link(house), others())

    await in_all(houses, row)


async def test_a_broker_link_that_is_silent_for_a_while_and_one_that_is_slow(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        ada, eve = await house.customer(), await house.customer()
        broker = house["RABBITMQ_URL"]
        broker.set(SLOW)
        await house.kept_once(ada, await stored(house, ada, "key"))
        broker.set(Blackhole())
        order = await stored(house, eve, "key")
        await broker.struck()
        broker.clear()

        async def mailed() -> bool:
            return bool(house.mails_of(eve, order))

        await house.first_success("broker link silent", mailed)
        await house.kept_once(eve, order)

    await in_all(houses, row)


async def test_a_far_and_a_silent_mongodb_only_delay_mails(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        if "MONGODB_URI" not in house.place:
            return
        ada, eve = await house.customer(), await house.customer()
        ledger = house["MONGODB_URI"]
        ledger.set(FAR)
        slow = await stored(house, ada, "key")

        async def mailed() -> bool:
            return bool(house.mails_of(ada, slow))

        await house.first_success("MongoDB far away, while it lasts", mailed)
        ledger.set(Blackhole())
        order = await stored(house, eve, "key")
        await ledger.struck()
        await asyncio.sleep(3)  # longer than an operation may take
        assert not house.mails_of(eve, order)
        ledger.clear()

        async def handed_over() -> bool:
            return bool(house.mails_of(eve, order))

        await house.first_success("MongoDB silent", handed_over)
        for by, kept in ((ada, slow), (eve, order)):
            await house.kept_once(by, kept)

    await in_all(houses, row)
