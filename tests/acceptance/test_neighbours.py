"""Purveyor beside others: services that know nothing of it, and more of its own processes sharing the work."""

import asyncio
import json
import struct
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from own_processes import Processes, own_processes
from real_servers import RealServers, require_servers
from running import Running, public_client
from server_shapes import PATIENT, SECRET
from servers.foreign_auth import ForeignAuth
from shop import Customer, Mail, Shop, problem
from waiting import until

SETTLE_S = 1.5
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def servers() -> RealServers:
    return require_servers()


@pytest_asyncio.fixture
async def house(servers: RealServers, tmp_path: Path) -> AsyncIterator[Processes]:
    """No process yet, on an installation of its own."""
    async with own_processes(tmp_path, **servers.place(), **SECRET, **PATIENT) as processes:
        yield processes


@asynccontextmanager
async def visiting(house: Processes, servers: RealServers, name: str) -> AsyncIterator[Shop]:
    """The shop that one of the processes serves."""
    async with public_client(house.ports[name]) as client:
        yield Shop(Running({"/": client}, house.settings, house.folder, servers.mails.read))


@asynccontextmanager
async def broker(settings: Mapping[str, str]) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    """A foreign client of the same broker."""
    connection = await aio_pika.connect(settings["RABBITMQ_URL"])
    async with connection:
        yield await connection.channel()


def an_event(number: int, email: str) -> dict[str, Any]:
    """The body that a foreign order service sends."""
    return {
        "order_number": number,
        "user_email": email,
        "user_name": "John Doe",
        "total_amount": 100,
        "items": [{"product_id": 1, "quantity": 2, "price": 50, "total_amt": 100}],
        "payment_method": "cash_on_delivery",
    }


class RawHeader(ContentHeader):
    """A content header whose properties are written as they stand (AMQP 0-9-1 section 2.3.5.2)."""

    flags: int = 0
    raw: bytes = b""

    def marshal(self) -> bytes:
        return struct.pack(">HxxQH", 60, self.body_size, self.flags) + self.raw


async def publish_bare(
    channel: aio_pika.abc.AbstractChannel, queue: str, body: bytes, flags: int = 0, raw: bytes = b""
) -> None:
    """Send a body with no properties, or odd ones: this client library would add a message id by itself."""
    wire = await channel.get_underlay_channel()
    header = RawHeader(body_size=len(body))
    header.flags, header.raw = flags, raw
    frames = [Basic.Publish(routing_key=queue), header, ContentBody(body)]
    await wire.write_queue.put(ChannelFrame.marshall(channel_number=wire.number, frames=frames))


async def arrived(queue: aio_pika.abc.AbstractQueue) -> aio_pika.abc.AbstractIncomingMessage:
    """The next message of a queue."""
    message = await until(lambda: queue.get(fail=False))
    assert message
    return message


async def settled(shop: Shop, to: str, count: int) -> Sequence[Mail]:
    """The mails to an address, after a doubled one would have come."""
    await shop.mails(to, at_least=count)
    await asyncio.sleep(SETTLE_S)
    return await shop.mails(to, at_least=count)


async def test_a_foreign_consumer_takes_the_place_of_role_email(house: Processes, servers: RealServers) -> None:
    async with broker(house.settings) as channel:
        queue = await channel.declare_queue("order.created", durable=True)  # before Purveyor ever ran
        house.start("front", "serve", "auth,orders,catalog")
        await house.ready("front")
        async with visiting(house, servers, "front") as shop:
            ada = await shop.customer()
            order = (await shop.place(ada, [(1, 2), (2, 1)], headers={"traceparent": TRACE})).json()
        message = await arrived(queue)
        await message.ack()
        assert (await channel.declare_queue("order.created", durable=True)).declaration_result.message_count == 0
    body = json.loads(message.body)
    assert set(body) >= set(an_event(1, ""))
    assert set(body["items"][0]) >= set(an_event(1, "")["items"][0])
    assert (body["order_number"], body["user_email"]) == (order["order_number"], ada.email)
    assert body["total_amount"] == order["total_amount"]
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert (message.type, message.content_type) == ("order.created", "application/json")
    assert uuid.UUID(message.message_id).version == 7
    assert (message.headers["order_id"], message.headers["traceparent"]) == (order["id"], TRACE)


async def test_a_foreign_publisher_is_served_once_per_order(house: Processes, servers: RealServers) -> None:
    email = f"john-{uuid.uuid4().hex}@example.com"
    house.start("mails", "worker", "email")
    await house.ready("mails")
    async with broker(house.settings) as channel:
        for number in (701, 702, 701):  # one order told twice
            await publish_bare(channel, "order.created", json.dumps(an_event(number, email)).encode())
        async with visiting(house, servers, "mails") as shop:
            mails = await settled(shop, email, 2)
    assert sorted(number for mail in mails for number in ("701", "702") if mail.subject.endswith(number)) == [
        "701",
        "702",
    ]


async def test_a_body_that_cannot_be_read_goes_to_the_dead_letters(house: Processes, servers: RealServers) -> None:
    email = f"john-{uuid.uuid4().hex}@example.com"
    house.start("mails", "worker", "email")
    await house.ready("mails")
    async with broker(house.settings) as channel:
        endless = json.dumps(an_event(2**63, email)).encode()  # no store has room for such a number
        for body in (
            b"\xff not json",
            b'{"order_number": "x"}',
            endless,
            json.dumps(an_event(801, email)).encode(),
        ):
            await channel.default_exchange.publish(aio_pika.Message(body), routing_key="order.created")
        async with visiting(house, servers, "mails") as shop:
            await shop.mails(email)  # the consumer lives on
        dead = await channel.declare_queue("order.created.dead", passive=True)
        assert dead.declaration_result.message_count == 3
    running = Running({}, house.settings, house.folder, list)
    await running.console("migrate")  # it reads the outboxes too, and no role that has one ever ran here
    listed = await running.console("events", "list")
    assert listed.count("dead letter in order.created") == 3


async def test_a_foreign_publisher_with_odd_properties_is_served(house: Processes, servers: RealServers) -> None:
    email = f"john-{uuid.uuid4().hex}@example.com"
    microseconds = struct.pack(">Q", 1_795_693_821_000_000)
    odd = {
        901: (1 << 6, microseconds),  # timestamp
        902: (1 << 6, struct.pack(">Q", 2**63 + 5)),
        903: (1 << 7, b"\x02\xff\xfe"),  # message_id
        904: (1 << 10, b"\x02\xff\xfe"),  # correlation_id
        905: (1 << 13, struct.pack(">I", 4) + b"\x02\xff\xfeV"),  # the name of a header
        906: (1 << 13, struct.pack(">I", 11) + b"\x01kT" + microseconds),
    }
    house.start("mails", "worker", "email")
    await house.ready("mails")
    async with broker(house.settings) as channel:
        for number, (flags, raw) in odd.items():
            await publish_bare(channel, "order.created", json.dumps(an_event(number, email)).encode(), flags, raw)
        async with visiting(house, servers, "mails") as shop:
            mails = await settled(shop, email, len(odd))
        queue = await channel.declare_queue("order.created", passive=True)
        assert queue.declaration_result.consumer_count == 1
    assert sorted(mail.subject[-3:] for mail in mails) == sorted(map(str, odd))


async def test_processes_of_a_role_share_the_work(house: Processes, servers: RealServers) -> None:
    fronts, workers = ("front-1", "front-2"), ("mails-1", "mails-2", "mails-3")
    for name in fronts:
        house.start(name, "serve", "auth,orders,catalog")
    for name in workers:
        house.start(name, "worker", "email")
    await house.ready(*fronts, *workers)
    async with visiting(house, servers, "front-1") as one, visiting(house, servers, "front-2") as two:
        ada = await one.customer()
        answers = await asyncio.gather(
            *(shop.place(ada, [(1 + n, 1)], key=f"k-{n}") for n in range(30) for shop in (one, two))
        )
        placed = {answer.json()["order_number"] for answer in answers if answer.status_code == 201}
        refused = [answer for answer in answers if answer.status_code != 201]
        assert len(placed) == 30  # each key was sent to both processes at once
        assert {answer.status_code for answer in refused} <= {409}
        mails = await settled(one, ada.email, 30)
    told = Counter(number for mail in mails for number in placed if str(number) in mail.subject)
    assert told == Counter(placed)


async def test_a_worker_comes_and_goes_beside_a_running_monolith(house: Processes, servers: RealServers) -> None:
    house.start("all", "serve", "auth,orders,email,catalog")
    await house.ready("all")
    async with visiting(house, servers, "all") as shop:
        ada = await shop.customer()
        placed: list[int] = []

        async def keep_ordering() -> None:
            for _ in range(60):
                placed.append((await shop.place(ada)).json()["order_number"])
                await asyncio.sleep(0.05)

        ordering = asyncio.create_task(keep_ordering())
        house.start("mails", "worker", "email")
        await house.ready("mails")
        await asyncio.sleep(0.5)
        await house.end("mails")
        await ordering
        mails = await settled(shop, ada.email, 60)
    told = Counter(number for mail in mails for number in placed if str(number) in mail.subject)
    assert told == Counter(placed)


async def test_orders_work_with_a_foreign_auth_service(house: Processes, servers: RealServers) -> None:
    async with ForeignAuth() as auth:
        house.start("orders", "serve", "orders", {"AUTH_SERVICE": auth.url})
        house.start("mails", "worker", "email")
        await house.ready("orders", "mails")
        email = f"john-{uuid.uuid4().hex}@example.com"
        john = Customer("17", email, "John Doe", "", auth.token_for(17, email, "John Doe"))
        async with visiting(house, servers, "orders") as shop:
            order = (await shop.place(john)).json()
            assert order["user_id"] == "17"
            assert (await shop.get(john, order["id"])).json() == order
            problem(await shop.place(Customer("9", "", "", "", "not a token")), 401, "token-invalid")
            (mail,) = await shop.mails(email)
            assert "John Doe" in mail.text


async def test_auth_away_for_a_moment_does_not_stop_who_was_known(house: Processes, servers: RealServers) -> None:
    house.start("auth", "serve", "auth")
    await house.ready("auth")
    house.start("orders", "serve", "orders", {"AUTH_SERVICE": f"http://127.0.0.1:{house.ports['auth']}"})
    await house.ready("orders")
    async with visiting(house, servers, "auth") as door:
        known, unknown = await door.customer(), await door.customer()
    async with visiting(house, servers, "orders") as shop:
        assert (await shop.place(known)).status_code == 201
        await house.crash("auth")
        assert (await shop.place(known)).status_code == 201
        problem(await shop.place(unknown), 503, "unavailable")
        house.start("auth", "serve", "auth")
        await house.ready("auth")
        assert (await shop.place(unknown)).status_code == 201
