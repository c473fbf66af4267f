"""The answer is swallowed at every hop: what was done is kept, is done once, and the client finds it again."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aio_pika
import httpx
import pytest

from faults.installations import Installation, in_each
from faults.proxy import Cut, Swallow
from running import public_client
from shop import Customer

PLACING = r"insert into orders\.orders"
LOOKING_UP_A_KEY = r"from orders\.idempotency_keys"
RELAYED = r"update orders\.outbox set published_at.*COMMIT"
SENT_IN_POSTGRES = r"update email\.mails set state = 'sent'"
SENT_IN_MONGODB = r"update\x00.*email_logs.*state\x00.*\$literal\x00.{4}sent\x00"
QUEUE = "order.created"


async def placed(installation: Installation, by: Customer, key: str = "key") -> httpx.Response:
    answer = await installation.shop.place(by, [(1, 2)], key=key)
    assert answer.status_code == 201, answer.text
    return answer


async def test_a4_the_answer_to_the_commit_of_an_order(installations: Sequence[Installation]) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        installation["DATABASE_URL"].set(Swallow(about=f"{PLACING}|{LOOKING_UP_A_KEY}", times=2))
        failed = await installation.shop.place(ada, [(1, 2)], key="key")
        assert failed.status_code == 503
        assert int(failed.headers["retry-after"]) >= 1
        await installation["DATABASE_URL"].struck(2)
        again = await placed(installation, ada)
        assert again.headers["idempotent-replayed"] == "true"
        assert (await placed(installation, ada)).content == again.content
        await installation.kept_once(ada, again)

    await in_each(installations, row)


@pytest.mark.parametrize("end", ["reset", "hang"])
async def test_a4_a_key_finds_the_order_at_once_where_only_that_answer_is_lost(
    installations: Sequence[Installation], end: str
) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        installation["DATABASE_URL"].set(Swallow(about=PLACING, end=end))
        first = await installation.place_until_stored(ada, "key")
        await installation["DATABASE_URL"].struck()
        assert first.headers["idempotent-replayed"] == "true"
        await installation.kept_once(ada, first)

    await in_each(installations, row)


@pytest.mark.parametrize("passed", [0, 1, 17, 400])
async def test_a6_half_of_the_response(installations: Sequence[Installation], passed: int) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        front = installation["front"]
        front.set(Cut(after_bytes=passed, times=1, end="reset" if passed % 2 else "close"))
        async with public_client(front.port) as client:
            with pytest.raises(httpx.TransportError):
                await client.post(
                    "/api/orders/",
                    json={"items": [{"product_id": 1, "quantity": 2}]},
                    headers={"authorization": f"Bearer {ada.token}", "idempotency-key": "key"},
                )
        await front.struck()
        again = await installation.place_until_stored(ada, "key")
        await installation.kept_once(ada, again)

    await in_each(installations, row)


async def test_r2_the_confirm_of_the_broker(installations: Sequence[Installation]) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        installation["RABBITMQ_URL"].set(Swallow(about=rf"^basic\.ack .*{QUEUE}"))
        order = await placed(installation, ada)
        await installation["RABBITMQ_URL"].struck()
        await installation.kept_once(ada, order)

    await in_each(installations, row)


async def test_r2_an_alarm_and_a_frozen_broker(installations: Sequence[Installation]) -> None:
    broker = installations[0].servers.rabbitmq
    customers = {installation: await installation.customer() for installation in installations}
    await asyncio.to_thread(broker.rabbitmqctl, "set_vm_memory_high_watermark", "0.00001")
    try:
        during_alarm = {installation: await placed(installation, ada) for installation, ada in customers.items()}
        await asyncio.sleep(1.0)
        assert [await installation.unpublished() for installation in installations] == [1, 1]
    finally:
        await asyncio.to_thread(broker.rabbitmqctl, "set_vm_memory_high_watermark", "absolute", "512MiB")
    others = {installation: await installation.customer() for installation in installations}
    broker.freeze()
    try:
        while_frozen = {installation: await placed(installation, eve) for installation, eve in others.items()}
        await asyncio.sleep(1.0)
        assert all([await installation.unpublished() for installation in installations])
    finally:
        broker.thaw()

    async def row(installation: Installation) -> None:
        await installation.kept_once(customers[installation], during_alarm[installation])
        await installation.kept_once(others[installation], while_frozen[installation])

    await in_each(installations, row)


async def test_r4_the_answer_to_the_commit_of_the_relay(installations: Sequence[Installation]) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        installation["DATABASE_URL"].set(Swallow(about=RELAYED))
        order = await placed(installation, ada)
        await installation["DATABASE_URL"].struck()
        await installation.kept_once(ada, order)

    await in_each(installations, row)


@asynccontextmanager
async def refusing_queue(installation: Installation) -> AsyncIterator[None]:
    """The broker takes nothing more into the queue."""
    broker, vhost = installation.servers.rabbitmq, installation.place["RABBITMQ_URL"].rpartition("/")[2]
    full = json.dumps({"max-length": 0, "overflow": "reject-publish"})
    pattern = f"^{re.escape(QUEUE)}$"
    await asyncio.to_thread(broker.rabbitmqctl, "set_policy", "-p", vhost, "full", pattern, full)
    try:
        yield
    finally:
        await asyncio.to_thread(broker.rabbitmqctl, "clear_policy", "-p", vhost, "full")


async def test_r5_a_queue_that_was_deleted_and_one_that_is_full(installations: Sequence[Installation]) -> None:
    async def row(installation: Installation) -> None:
        ada, eve = await installation.customer(), await installation.customer()
        async with await aio_pika.connect(installation.place["RABBITMQ_URL"]) as connection:
            await (await connection.channel()).queue_delete(QUEUE)
        await installation.kept_once(ada, await placed(installation, ada))
        async with refusing_queue(installation):
            order = await placed(installation, eve)
            await asyncio.sleep(1.0)
            assert await installation.unpublished() == 1
            assert not installation.mails_of(eve, order)
        await installation.kept_once(eve, order)

    await in_each(installations, row)


async def test_c2_the_ack_of_the_consumer(installations: Sequence[Installation]) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        installation["RABBITMQ_URL"].set(Swallow(about=rf"^basic\.ack .*{QUEUE}", side="to_server"))
        order = await placed(installation, ada)
        await installation["RABBITMQ_URL"].struck()
        await installation.kept_once(ada, order)

    await in_each(installations, row)


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_s4_the_250_after_the_dot(installations: Sequence[Installation], end: str) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        installation["SMTP_URL"].set(Swallow(about="^dot$", end=end))
        order = await placed(installation, ada)
        await installation["SMTP_URL"].struck()
        assert await installation.settled(order) == ("unknown" if installation.parks else "sent")
        await installation.kept_once(ada, order, mails=1 if installation.parks else 2)

    await in_each(installations, row)


@pytest.mark.parametrize("commands", [("greeting", "AUTH"), ("EHLO", "RCPT"), ("MAIL", "DATA")])
async def test_s2_a_reply_before_the_dot_leaves_no_doubt(
    installations: Sequence[Installation], commands: tuple[str, str]
) -> None:
    lost = dict(zip(installations, commands, strict=True))

    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        installation["SMTP_URL"].set(Swallow(about=f"^{lost[installation]}$"))
        installation["SMTP_URL"].drop()  # else a kept connection is used, and nobody is greeted
        order = await placed(installation, ada)
        await installation["SMTP_URL"].struck()
        assert await installation.settled(order) == "sent"
        await installation.kept_once(ada, order)

    await in_each(installations, row)


@pytest.mark.parametrize("lost", ["answer", "request"])
async def test_s7_the_ledger_at_the_record_of_a_sent_mail(
    installations: Sequence[Installation], lost: str
) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        in_mongodb = "MONGODB_URI" in installation.place
        ledger = installation["MONGODB_URI" if in_mongodb else "DATABASE_URL"]
        about = SENT_IN_MONGODB if in_mongodb else SENT_IN_POSTGRES
        ledger.set(Swallow(about=about, side="to_client" if lost == "answer" else "to_server"))
        order = await placed(installation, ada)
        await ledger.struck()
        assert await installation.settled(order) == "sent"
        await installation.kept_once(ada, order)

    await in_each(installations, row)


async def test_the_answers_of_redis(installations: Sequence[Installation]) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        installation["REDIS_URL"].set(Swallow(about="EVALSHA", times=1))
        order = await placed(installation, ada)
        await installation["REDIS_URL"].struck()
        await installation.kept_once(ada, order)
        installation["REDIS_URL"].set(Swallow(about=".", times=None, end="hang"))
        again = [await placed(installation, ada) for _ in range(3)]
        assert {answer.content for answer in again} == {order.content}

    await in_each(installations, row)


async def test_the_answer_of_auth_to_orders(installations: Sequence[Installation]) -> None:
    async def row(installation: Installation) -> None:
        if "AUTH_SERVICE" not in installation.proxies:
            return
        ada = await installation.customer()
        installation["AUTH_SERVICE"].set(Swallow(about="^POST /verify-token "))
        failed = await installation.shop.place(ada, [(1, 2)], key="key")
        assert failed.status_code == 503
        assert int(failed.headers["retry-after"]) >= 1
        await installation["AUTH_SERVICE"].struck()
        order = await placed(installation, ada)
        assert "idempotent-replayed" not in order.headers
        await installation.kept_once(ada, order)

    await in_each(installations, row)


async def test_t1_the_answer_with_the_next_refresh_token(installations: Sequence[Installation]) -> None:
    async def row(installation: Installation) -> None:
        ada = await installation.customer()
        first = (await installation.shop.login(ada.email, ada.password)).json()["refresh_token"]

        async def refreshed(token: str) -> httpx.Response:
            return await installation.shop.raw("POST", "/token/refresh", json={"refresh_token": token})

        front = installation.proxies.get("front of auth", installation["front"])
        front.set(Swallow(about="^POST /token/refresh "))
        with pytest.raises(httpx.TransportError):
            await refreshed(first)
        await front.struck()
        (successor,) = {(await refreshed(first)).json()["refresh_token"] for _ in range(2)}
        assert successor != first
        assert (await refreshed(successor)).status_code == 200
        assert (await refreshed(first)).status_code == 401

    await in_each(installations, row)
