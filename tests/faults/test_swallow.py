"""The answer is swallowed at every hop: what was done is kept, is done once, and the client finds it again."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aio_pika
import httpx
import pytest

from faults.houses import House, in_all
from faults.proxy import Cut, Swallow
from running import public_client
from shop import Customer

PLACING = r"insert into orders\.orders"
LOOKING_UP_A_KEY = r"from orders\.idempotency_keys"
RELAYED = r"update orders\.outbox set published_at.*COMMIT"
SENT_IN_POSTGRES = r"update email\.mails set state = 'sent'"
SENT_IN_MONGODB = r"update\x00.*email_logs.*state\x00.*\$literal\x00.{4}sent\x00"
QUEUE = "order.created"


async def placed(house: House, by: Customer, key: str = "key") -> httpx.Response:
    answer = await house.shop.place(by, [(1, 2)], key=key)
    assert answer.status_code == 201, answer.text
    return answer


async def test_a4_the_answer_to_the_commit_of_an_order(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        house["DATABASE_URL"].set(Swallow(about=f"{PLACING}|{LOOKING_UP_A_KEY}", times=2))
        failed = await house.shop.place(ada, [(1, 2)], key="key")
        assert failed.status_code == 503
        assert int(failed.headers["retry-after"]) >= 1
        await house["DATABASE_URL"].struck(2)
        again = await placed(house, ada)
        assert again.headers["idempotent-replayed"] == "true"
        assert (await placed(house, ada)).content == again.content
        await house.kept_once(ada, again)

    await in_all(houses, row)


@pytest.mark.parametrize("end", ["reset", "hang"])
async def test_a4_a_key_finds_the_order_at_once_where_only_that_answer_is_lost(
    houses: Sequence[House], end: str
) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        house["DATABASE_URL"].set(Swallow(about=PLACING, end=end))
        first = await house.place_until_stored(ada, "key")
        await house["DATABASE_URL"].struck()
        assert first.headers["idempotent-replayed"] == "true"
        await house.kept_once(ada, first)

    await in_all(houses, row)


@pytest.mark.parametrize("passed", [0, 1, 17, 400])
async def test_a6_half_of_the_response(houses: Sequence[House], passed: int) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        front = house["front"]
        front.set(Cut(after_bytes=passed, times=1, end="reset" if passed % 2 else "close"))
        async with public_client(front.port) as client:
            with pytest.raises(httpx.TransportError):
                await client.post(
                    "/api/orders/",
                    json={"items": [{"product_id": 1, "quantity": 2}]},
                    headers={"authorization": f"Bearer {ada.token}", "idempotency-key": "key"},
                )
        await front.struck()
        again = await house.place_until_stored(ada, "key")
        await house.kept_once(ada, again)

    await in_all(houses, row)


async def test_r2_the_confirm_of_the_broker(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        house["RABBITMQ_URL"].set(Swallow(about=rf"^basic\.ack .*{QUEUE}"))
        order = await placed(house, ada)
        await house["RABBITMQ_URL"].struck()
        await house.kept_once(ada, order)

    await in_all(houses, row)


async def test_r2_an_alarm_and_a_frozen_broker(houses: Sequence[House]) -> None:
    broker = houses[0].servers.rabbitmq
    customers = {house: await house.customer() for house in houses}
    await asyncio.to_thread(broker.rabbitmqctl, "set_vm_memory_high_watermark", "0.00001")
    try:
        during_alarm = {house: await placed(house, ada) for house, ada in customers.items()}
        await asyncio.sleep(1.0)
        assert [await house.unpublished() for house in houses] == [1, 1]
    finally:
        await asyncio.to_thread(broker.rabbitmqctl, "set_vm_memory_high_watermark", "absolute", "512MiB")
    others = {house: await house.customer() for house in houses}
    broker.freeze()
    try:
        while_frozen = {house: await placed(house, eve) for house, eve in others.items()}
        await asyncio.sleep(1.0)
        assert all([await house.unpublished() for house in houses])
    finally:
        broker.thaw()

    async def row(house: House) -> None:
        await house.kept_once(customers[house], during_alarm[house])
        await house.kept_once(others[house], while_frozen[house])

    await in_all(houses, row)


async def test_r4_the_answer_to_the_commit_of_the_relay(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        house["DATABASE_URL"].set(Swallow(about=RELAYED))
        order = await placed(house, ada)
        await house["DATABASE_URL"].struck()
        await house.kept_once(ada, order)

    await in_all(houses, row)


@asynccontextmanager
async def refusing_queue(house: House) -> AsyncIterator[None]:
    """The broker takes nothing more into the queue."""
    broker, vhost = house.servers.rabbitmq, house.place["RABBITMQ_URL"].rpartition("/")[2]
    full = json.dumps({"max-length": 0, "overflow": "reject-publish"})
    pattern = f"^{re.escape(QUEUE)}$"
    await asyncio.to_thread(broker.rabbitmqctl, "set_policy", "-p", vhost, "full", pattern, full)
    try:
        yield
    finally:
        await asyncio.to_thread(broker.rabbitmqctl, "clear_policy", "-p", vhost, "full")


async def test_r5_a_queue_that_was_deleted_and_one_that_is_full(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        ada, eve = await house.customer(), await house.customer()
        async with await aio_pika.connect(house.place["RABBITMQ_URL"]) as connection:
            await (await connection.channel()).queue_delete(QUEUE)
        await house.kept_once(ada, await placed(house, ada))
        async with refusing_queue(house):
            order = await placed(house, eve)
            await asyncio.sleep(1.0)
            assert await house.unpublished() == 1
            assert not house.mails_of(eve, order)
        await house.kept_once(eve, order)

    await in_all(houses, row)


async def test_c2_the_ack_of_the_consumer(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        house["RABBITMQ_URL"].set(Swallow(about=rf"^basic\.ack .*{QUEUE}", side="to_server"))
        order = await placed(house, ada)
        await house["RABBITMQ_URL"].struck()
        await house.kept_once(ada, order)

    await in_all(houses, row)


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_s4_the_250_after_the_dot(houses: Sequence[House], end: str) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        house["SMTP_URL"].set(Swallow(about="^dot$", end=end))
        order = await placed(house, ada)
        await house["SMTP_URL"].struck()
        assert await house.settled(order) == ("unknown" if house.parks else "sent")
        await house.kept_once(ada, order, mails=1 if house.parks else 2)

    await in_all(houses, row)


@pytest.mark.parametrize("commands", [("greeting", "AUTH"), ("EHLO", "RCPT"), ("MAIL", "DATA")])
async def test_s2_a_reply_before_the_dot_leaves_no_doubt(
    houses: Sequence[House], commands: tuple[str, str]
) -> None:
    lost = dict(zip(houses, commands, strict=True))

    async def row(house: House) -> None:
        ada = await house.customer()
        house["SMTP_URL"].set(Swallow(about=f"^{lost[house]}$"))
        house["SMTP_URL"].drop()  # else a kept connection is used, and nobody is greeted
        order = await placed(house, ada)
        await house["SMTP_URL"].struck()
        assert await house.settled(order) == "sent"
        await house.kept_once(ada, order)

    await in_all(houses, row)


@pytest.mark.parametrize("lost", ["answer", "request"])
async def test_s7_the_ledger_at_the_record_of_a_sent_mail(houses: Sequence[House], lost: str) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        in_mongodb = "MONGODB_URI" in house.place
        ledger = house["MONGODB_URI" if in_mongodb else "DATABASE_URL"]
        about = SENT_IN_MONGODB if in_mongodb else SENT_IN_POSTGRES
        ledger.set(Swallow(about=about, side="to_client" if lost == "answer" else "to_server"))
        order = await placed(house, ada)
        await ledger.struck()
        assert await house.settled(order) == "sent"
        await house.kept_once(ada, order)

    await in_all(houses, row)


async def test_the_answers_of_redis(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        house["REDIS_URL"].set(Swallow(about="EVALSHA", times=1))
        order = await placed(house, ada)
        await house["REDIS_URL"].struck()
        await house.kept_once(ada, order)
        house["REDIS_URL"].set(Swallow(about=".", times=None, end="hang"))
        again = [await placed(house, ada) for _ in range(3)]
        assert {answer.content for answer in again} == {order.content}

    await in_all(houses, row)


async def test_the_answer_of_auth_to_orders(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        if "AUTH_SERVICE" not in house.proxies:
            return
        ada = await house.customer()
        house["AUTH_SERVICE"].set(Swallow(about="^POST /verify-token "))
        failed = await house.shop.place(ada, [(1, 2)], key="key")
        assert failed.status_code == 503
        assert int(failed.headers["retry-after"]) >= 1
        await house["AUTH_SERVICE"].struck()
        order = await placed(house, ada)
        assert "idempotent-replayed" not in order.headers
        await house.kept_once(ada, order)

    await in_all(houses, row)


async def test_t1_the_answer_with_the_next_refresh_token(houses: Sequence[House]) -> None:
    async def row(house: House) -> None:
        ada = await house.customer()
        first = (await house.shop.login(ada.email, ada.password)).json()["refresh_token"]

        async def refreshed(token: str) -> httpx.Response:
            return await house.shop.raw("POST", "/token/refresh", json={"refresh_token": token})

        front = house.proxies.get("front of auth", house["front"])
        front.set(Swallow(about="^POST /token/refresh "))
        with pytest.raises(httpx.TransportError):
            await refreshed(first)
        await front.struck()
        (successor,) = {(await refreshed(first)).json()["refresh_token"] for _ in range(2)}
        assert successor != first
        assert (await refreshed(successor)).status_code == 200
        assert (await refreshed(first)).status_code == 401

    await in_all(houses, row)
