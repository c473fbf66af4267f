"""The outlet to a real Kafka: what arrives, in what order, and what a dead or refusing broker does."""

import asyncio
import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from broker_support import MOMENT

from kafka_records import records
from own_processes import SETTINGS
from purveyor.host import Host, choose_roles
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import ConfigError, Unavailable
from purveyor.kit.events import outlet as outlet_module
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import emit
from purveyor.kit.events.outlet import Outlet, PostgresOutletQueue
from purveyor.kit.ids import new_id
from purveyor.kit.retry import RetrySchedule
from purveyor.registry import ROLES
from purveyor.settings import Sources, Url
from purveyor.transports.kafka import KafkaSettings
from purveyor.transports.kafka import producer as producer_module
from purveyor.transports.kafka.producer import KafkaProducer
from purveyor.transports.kafka.target import KafkaTarget
from purveyor_drill.servers.kafka import PARTITIONS, GuardedKafkaServer, KafkaServer
from purveyor_drill.servers.process import free_port
from shapes import in_this_process
from shop import Shop
from waiting import until

SCHEMA = "orders"


@pytest.fixture(scope="module")
def server() -> Iterator[KafkaServer]:
    if reason := KafkaServer.available():
        assert "CI" not in os.environ, reason
        pytest.skip(f"no Kafka: {reason}")
    with KafkaServer() as server:
        if not server.ours:
            pytest.skip(f"{server.variable} is set: not ours to kill")
        yield server


@pytest.fixture
async def queue(order_tables: Database) -> PostgresOutletQueue:
    """An empty queue that takes what is emitted."""
    await order_tables.execute(f"truncate {SCHEMA}.outbox, {SCHEMA}.outlet")
    queue = PostgresOutletQueue(order_tables, SCHEMA)
    await queue.switch_on()
    return queue


@pytest.fixture
async def kind(request: pytest.FixtureRequest, server: KafkaServer) -> str:
    """An event type of the test's own, with its topic."""
    kind = request.node.originalname.removeprefix("test_")[:60]
    await create_topics(server, f"purveyor.{kind}")
    return kind


async def create_topics(server: KafkaServer, *names: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.url)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def producer(*servers: str) -> AsyncIterator[KafkaProducer]:
    made = KafkaProducer(KafkaTarget(servers=servers))
    try:
        yield made
    finally:
        await made.close()


@contextlib.asynccontextmanager
async def running(queue: PostgresOutletQueue, *servers: str) -> AsyncIterator[None]:
    async with producer(*servers) as server:
        task = asyncio.create_task(Outlet(SCHEMA, queue, server).run())
        try:
            yield
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def event(kind: str, number: int = 1, subject: str = "order-1", **more: Any) -> Envelope:
    body = b'{"number":%d}' % number
    return Envelope(
        id=new_id(), type=kind, body=body, occurred_at=MOMENT, subject=subject, sequence=number, **more
    )


async def add(database: Database, *events: Envelope) -> None:
    await emit(database, SCHEMA, *events)


async def nothing_waits(queue: PostgresOutletQueue) -> bool:
    return (await queue.waiting())[0] == 0


def by_key(records: Sequence[ConsumerRecord[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """The values of each key in their order, without repetitions."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        if record.value not in found[record.key]:
            found[record.key].append(record.value)
    return dict(found)


async def test_cloudevent(
    server: KafkaServer, order_tables: Database, queue: PostgresOutletQueue, kind: str
) -> None:
    sent = event(kind, correlation_id="r-1", currency="EUR", language="de", traceparent="00-1-2-01")
    await add(order_tables, sent)
    async with running(queue, server.url):
        await until(lambda: nothing_waits(queue))

    (record,) = await records(server, kind, 1)
    assert (record.key, record.value) == (b"order-1", sent.body)
    assert record.timestamp == MOMENT.timestamp() * 1000
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": str(sent.id).encode(),
        "ce_source": b"/purveyor/orders",
        "ce_type": kind.encode(),
        "ce_subject": b"order-1",
        "ce_time": b"2026-11-22T12:30:15Z",
        "ce_sequence": b"1",
        "ce_correlationid": b"r-1",
        "ce_currency": b"EUR",
        "ce_language": b"de",
        "ce_traceparent": b"00-1-2-01",
        "content-type": b"application/json",
    }


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "_RETRY", RetrySchedule(first_s=0.2, longest_s=0.2))
    monkeypatch.setattr(producer_module, "_PUBLISH_S", 1.0)
    monkeypatch.setattr(producer_module, "_END_S", 2.0)


@pytest.mark.usefixtures("impatient")
async def test_killed_broker_loses_nothing_and_keeps_order_per_key(
    server: KafkaServer,
    order_tables: Database,
    queue: PostgresOutletQueue,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    keys = [f"order-{number}" for number in range(20)]

    async def add_some(first: int) -> None:
        for number in range(first, first + 15):
            await add(order_tables, *(event(kind, number, key) for key in keys))

    async with running(queue, server.url):
        await add_some(1)
        await until(lambda: nothing_waits(queue))
        writing = asyncio.create_task(add_some(16))
        await asyncio.to_thread(server.kill)
        await writing
        await until(lambda: "Kafka does not answer, events wait for it" in caplog.messages)
        assert not await nothing_waits(queue)
        await asyncio.to_thread(server.restart)
        await until(lambda: nothing_waits(queue))

    found = await records(server, kind, 600)
    assert by_key(found) == {key.encode(): [b'{"number":%d}' % number for number in range(1, 31)] for key in keys}
    assert len({(record.key, record.partition) for record in found}) == len(keys)
    said = [record.message for record in caplog.records if record.name.startswith(("purveyor.", "aiokafka"))]
    assert said == ["Kafka does not answer, events wait for it", "Kafka answers again"]


async def test_later_outlet_goes_on_where_the_one_before_stopped(
    server: KafkaServer, order_tables: Database, queue: PostgresOutletQueue, kind: str
) -> None:
    for first in (1, 4):
        await add(order_tables, *(event(kind, number) for number in range(first, first + 3)))
        async with running(queue, server.url):
            await until(lambda: nothing_waits(queue))

    found = await records(server, kind, 6)
    assert [record.value for record in sorted(found, key=lambda record: record.offset)] == [
        b'{"number":%d}' % number for number in range(1, 7)
    ]


async def test_missing_topic_holds_up_only_its_own_events(
    server: KafkaServer,
    order_tables: Database,
    queue: PostgresOutletQueue,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing = f"{kind}.missing"
    await add(order_tables, event(missing, 1), event(kind, 1), event(missing, 2))
    async with producer(server.url) as kafka:
        outlet = Outlet(SCHEMA, queue, kafka)
        task = asyncio.create_task(outlet.run())
        await records(server, kind, 1)
        await until(lambda: "Kafka refuses a topic, its events wait" in caplog.messages)

        async def only_two_wait() -> bool:
            return (await queue.waiting())[0] == 2

        await until(only_two_wait)
        with pytest.raises(Unavailable, match=rf"refuses {missing} \(events waiting: 2"):
            await outlet.check()
        await create_topics(server, f"purveyor.{missing}")
        await until(lambda: nothing_waits(queue))
        assert await outlet.check() == "Kafka with 1 broker; events waiting: 0, oldest: 0 s"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert [record.value for record in await records(server, missing, 2)] == [b'{"number":1}', b'{"number":2}']
    assert caplog.messages.count("Kafka refuses a topic, its events wait") == 1


async def test_wrong_servers_are_told_of_once_while_events_wait(
    order_tables: Database, queue: PostgresOutletQueue, caplog: pytest.LogCaptureFixture
) -> None:
    await add(order_tables, event("order.created"))
    async with producer(f"127.0.0.1:{free_port()}") as kafka:
        outlet = Outlet(SCHEMA, queue, kafka)
        for _ in range(3):
            assert await outlet.publish()
            with pytest.raises(
                Unavailable, match=r"no broker accepts a connection\. \(events waiting: 1, oldest: \d+ s\)"
            ):
                await outlet.check()

    assert [record.message for record in caplog.records] == ["Kafka does not answer, events wait for it"]


@pytest.mark.parametrize(
    ("servers", "protocol"),
    [
        ("kafka:9092", "PLAINTEXT"),
        ("kafka:9092,", "PLAINTEXT"),
        ("kafka:9092, other:1", "PLAINTEXT"),
        ("kafka://kafka:9092", "PLAINTEXT"),
        ("kafka+ssl://kafka:9092,other:1", "SSL"),
        ("kafka://me:secret@kafka:9092", "SASL_PLAINTEXT"),
        ("kafka+ssl://me:secret@kafka:9092,other:1/?mechanism=PLAIN", "SASL_SSL"),
    ],
)
def test_servers_are_host_and_port_or_a_url(servers: str, protocol: str) -> None:
    target = KafkaSettings(kafka_outlet=Url(servers)).target
    assert (target.servers[0], target.protocol) == ("kafka:9092", protocol)


@pytest.mark.parametrize(
    "servers",
    [
        *("kafka", "http://kafka:9092", "a:b", "kafka+ssl://me@kafka:9092", "me:secret@kafka:9092"),
        *("kafka+ssl://me:secret@kafka:9092?mechanism=GSSAPI", "kafka+ssl://me:secret@kafka:9092?ca=x"),
    ],
)
def test_wrong_servers_are_refused_without_their_password(servers: str) -> None:
    with pytest.raises(ConfigError, match="KAFKA_OUTLET") as refused:
        KafkaSettings(kafka_outlet=Url(servers))
    assert "secret" not in str(refused.value)


def test_a_log_in_may_have_any_characters() -> None:
    target = KafkaTarget.parse("kafka+ssl://m%40me:p%3Aw%2F%20d@kafka:9092")
    assert (target.user, target.password.reveal(), target.mechanism) == ("m@me", "p:w/ d", "SCRAM-SHA-512")
    assert "p:w" not in repr(target)


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedKafkaServer]:
    if reason := GuardedKafkaServer.available():
        assert "CI" not in os.environ, reason
        pytest.skip(f"no Kafka: {reason}")
    with GuardedKafkaServer() as server:
        yield server


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_events_arrive_encrypted_and_with_a_log_in(
    guarded: GuardedKafkaServer, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.certificate))
    target = KafkaTarget.parse(f"{guarded.secure_url}?mechanism={mechanism}")
    kafka = KafkaProducer(target)
    try:
        await kafka.connect()
        assert await kafka.publish("/purveyor/orders", [event("guarded")]) == [None]
        assert await kafka.check() == "Kafka with 1 broker"
    finally:
        await kafka.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("tests@", "wrong@"), "[Aa]uthentication failed"),
        (("localhost", "127.1"), "CERTIFICATE_VERIFY_FAILED"),
        (("kafka+ssl", "kafka"), r"Connection at localhost:\d+ closed\.$"),
    ],
)
async def test_a_refused_log_in_and_a_foreign_certificate_are_named(
    guarded: GuardedKafkaServer, change: tuple[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.certificate))
    kafka = KafkaProducer(KafkaTarget.parse(f"{guarded.secure_url.replace(*change)}?mechanism=PLAIN"))
    with pytest.raises(Unavailable, match=reason) as refused:
        await kafka.connect()
    assert "wrong" not in str(refused.value)
    await kafka.close()


async def test_order_arrives_with_its_mail_and_its_buyer(server: KafkaServer, tmp_path: Path) -> None:
    await create_topics(server, *{f"purveyor.{kind.type}" for role in ROLES.values() for kind in role.emits})
    settings = SETTINGS | {"DATA_DIR": str(tmp_path), "KAFKA_OUTLET": server.url}
    host = Host(choose_roles(list(ROLES)), Sources(environ=settings, dotenv=None))
    async with in_this_process(host, settings, tmp_path) as deployment:
        shop = Shop(deployment)
        buyer = await shop.customer()
        placed = (await shop.place(buyer, [(1, 2)])).json()

        (created,) = await records(server, "order.created", 1)
        (settled,) = await records(server, "mail.settled", 1)
        (registered,) = await records(server, "user.registered", 1)
        ready = (await shop.raw("GET", "/health/ready")).json()
    assert created.key == settled.key == placed["id"].encode()
    assert registered.key == buyer.id.encode()
    assert dict(created.headers)["ce_source"] == b"/purveyor/orders"
    assert ready["dependencies"]["kafka orders"]["status"] == "ok"
