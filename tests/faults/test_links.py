"""Links that are cut, slow or silent: orders go on where they can, and everything comes back by itself."""

import asyncio
import time
from collections.abc import Sequence

import httpx

from faults.installations import Installation, in_each
from faults.proxy import Blackhole, Latency
from shop import Customer

REFUSED_S = 4.0
"""How long a request may take to be refused; 2.5 s are promised, and a busy machine adds to that."""
SLOW = Latency(delay_s=0.3, jitter_s=0.05)
FAR = Latency(delay_s=0.05, jitter_s=0.02)
"""A server on another continent: what takes many round trips is felt."""


async def refused_in_time(installation: Installation, by: Customer, key: str) -> None:
    """A 503 that says when to try again, and that does not come late."""
    began = time.monotonic()
    answer = await installation.shop.place(by, [(1, 2)], key=key)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert time.monotonic() - began < REFUSED_S


async def stored(installation: Installation, by: Customer, key: str) -> httpx.Response:
    answer = await installation.shop.place(by, [(1, 2)], key=key)
    assert answer.status_code == 201, answer.text
    return answer


async def forgotten_broker_link(installation: Installation) -> None:
    """A firewall has forgotten the connections: nobody says that they are dead, only heartbeats stay away."""
    ada = await installation.customer()
    side = "both" if installation.name == "monolith" else "to_client"
    installation["RABBITMQ_URL"].set(Blackhole(side=side, old_only=True))
    order = await stored(installation, ada, "key")

    async def mailed() -> bool:
        return bool(installation.mails_of(ada, order))

    await installation.first_success(f"broker link dead ({side}), while it lasts", mailed, within_s=35)
    assert "idempotent-replayed" in (await stored(installation, ada, "key")).headers
    installation["RABBITMQ_URL"].clear()
    await installation.kept_once(ada, order)


async def slow_and_silent_redis(installation: Installation) -> None:
    redis = installation["REDIS_URL"]
    ada = await installation.shop.customer()
    for fault in (SLOW, Blackhole()):
        redis.set(fault)
        for number in range(3):
            await stored(installation, ada, f"{type(fault).__name__}-{number}")
    redis.clear()
    passed = redis.passed["to_client"]

    async def asked() -> bool:
        await installation.shop.list(ada)
        await stored(installation, ada, "last")
        return redis.passed["to_client"] > passed + 100

    await installation.first_success("Redis silent", asked)
    assert len((await installation.shop.list(ada)).json()["orders"]) == 7


async def silent_and_slow_auth(installation: Installation) -> None:
    if "AUTH_SERVICE" not in installation.proxies:
        return
    auth = installation["AUTH_SERVICE"]
    known, new = await installation.shop.customer(), await installation.shop.customer()
    await stored(installation, known, "before")
    auth.set(Blackhole())
    await stored(installation, known, "during")
    await refused_in_time(installation, new, "key")
    auth.set(SLOW)

    async def recognised() -> bool:
        return (await installation.shop.place(new, [(1, 2)], key="key")).status_code == 201

    await installation.first_success("auth silent, then slow", recognised)
    assert len((await installation.shop.list(new)).json()["orders"]) == 1
    auth.clear()


async def silent_postgresql(installation: Installation) -> None:
    """Refused in time, nothing doubled by what arrives late, and no connection of the pool stays stuck."""
    ada = await installation.shop.customer()
    await stored(installation, ada, "0")
    postgres = installation["DATABASE_URL"]
    postgres.set(Blackhole())
    await asyncio.gather(*(refused_in_time(installation, ada, str(number)) for number in range(1, 31)))
    postgres.clear()

    async def placed() -> bool:
        return (await installation.shop.place(ada, [(1, 2)], key="0")).status_code == 201

    await installation.first_success("PostgreSQL silent", placed)
    orders = await asyncio.gather(*(installation.place_until_stored(ada, str(number)) for number in range(31)))
    ids = {order.json()["id"] for order in orders}
    listed = (await installation.shop.list(ada, limit=100)).json()["orders"]
    assert len(listed) == 31
    assert {found["id"] for found in listed} == ids
    at_once = await asyncio.gather(*(installation.shop.get(ada, order_id) for order_id in ids))
    assert {answer.status_code for answer in at_once} == {200}


async def test_a_dead_broker_link_and_meanwhile_the_links_to_redis_auth_and_postgresql(
    installations: Sequence[Installation],
) -> None:
    """Together, because it takes about 20 s until heartbeats are missed."""

    async def row(installation: Installation) -> None:
        async def others() -> None:
            await slow_and_silent_redis(installation)
            await silent_and_slow_auth(installation)
            await silent_postgresql(installation)

        await asyncio.gather(forgotten_broker_link(installation), others())

    await in_each(installations, row)


async def test_a_broker_link_that_is_silent_for_a_while_and_one_that_is_slow(
    installations: Sequence[Installation],
) -> None:
    async def row(installation: Installation) -> None:
        ada, eve = await installation.customer(), await installation.customer()
        broker = installation["RABBITMQ_URL"]
        broker.set(SLOW)
        await installation.kept_once(ada, await stored(installation, ada, "key"))
        broker.set(Blackhole())
        order = await stored(installation, eve, "key")
        await broker.struck()
        broker.clear()

        async def mailed() -> bool:
            return bool(installation.mails_of(eve, order))

        await installation.first_success("broker link silent", mailed)
        await installation.kept_once(eve, order)

    await in_each(installations, row)


async def test_a_far_and_a_silent_mongodb_only_delay_mails(installations: Sequence[Installation]) -> None:
    async def row(installation: Installation) -> None:
        if "MONGODB_URI" not in installation.place:
            return
        ada, eve = await installation.customer(), await installation.customer()
        ledger = installation["MONGODB_URI"]
        ledger.set(FAR)
        slow = await stored(installation, ada, "key")

        async def mailed() -> bool:
            return bool(installation.mails_of(ada, slow))

        await installation.first_success("MongoDB far away, while it lasts", mailed)
        ledger.set(Blackhole())
        order = await stored(installation, eve, "key")
        await ledger.struck()
        await asyncio.sleep(3)  # longer than an operation may take
        assert not installation.mails_of(eve, order)
        ledger.clear()

        async def handed_over() -> bool:
            return bool(installation.mails_of(eve, order))

        await installation.first_success("MongoDB silent", handed_over)
        for by, kept in ((ada, slow), (eve, order)):
            await installation.kept_once(by, kept)

    await in_each(installations, row)
