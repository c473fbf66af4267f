"""The crash points, row by row: how each is brought about, and what the one order or the few must be afterwards.

A row returns what it placed; ``crash_audit`` then judges that.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

import httpx
import pytest

from faults.crash_installation import Installation, until
from kafka_records import records
from purveyor_drill.servers.kafka import KafkaServer
from purveyor_drill.servers.smtp import Rule
from real_servers import SERVERS
from running import Running, public_client
from shop import Shop


@dataclass(frozen=True)
class Placed:
    """An order that a row placed: its key, and what the client was answered before the crash, if anything."""

    key: str
    first: httpx.Response | None = None


Run = Callable[[Installation], Awaitable[Sequence[Placed]]]


@dataclass(frozen=True)
class Row:
    """A line of the table. ``doubtful``: the policy decides what becomes of the mail."""

    id: str
    point: str
    run: Run
    doubtful: bool = False
    """The dot may have been written: re-sent, or parked as ``unknown``."""
    reached: bool = True
    """Whether the server has the mail when the process dies."""


ROWS: dict[str, Row] = {}
_SLOW_S = 2.0


def row(id: str, point: str = "", **marks: bool) -> Callable[[Run], Run]:  # noqa: A002 - it is the id
    """Enter a row into the table."""

    def enter(run: Run) -> Run:
        ROWS[id] = Row(id, point, run, **marks)
        return run

    return enter


def kill(id: str, point: str, *, at: str = "front", **marks: bool) -> None:  # noqa: A002
    """Enter a row in which the point kills the process that takes the order, or the one that mails."""

    async def run(installation: Installation) -> Sequence[Placed]:
        name = installation.front if at == "front" else installation.mails
        key = installation.key()
        installation.arm(name, f"{point}=kill")
        if name == installation.mails and point.startswith("relay."):
            SERVERS.smtp.script(
                Rule(at="rcpt", delay_s=_SLOW_S)
            )  # the mail is not yet under way when the relay dies
        first = await installation.place(key)
        await installation.back_after_death(name)
        return [Placed(key, first)]

    row(id, point, **marks)(run)


kill("A1", "order.priced")
kill("A5", "order.stored")
kill("R1", "relay.locked")
kill("R3-all", "relay.published")
kill("R4-kill", "relay.marked")
kill("C1", "consumer.delivered", at="mails")
kill("C2-kill", "consumer.handled", at="mails")
kill("S1", "sender.claimed", at="mails")
kill("S2", "sender.before_data", at="mails")
kill("S3", "sender.at_data", at="mails", doubtful=True, reached=False)
kill("S4-kill", "smtp.dot_written", at="mails", doubtful=True)
kill("S5", "sender.accepted", at="mails", doubtful=True)
kill("S6", "sender.journaled", at="mails")


class KafkaWithTopics(KafkaServer):
    """Makes topics when they are first used."""

    creates_topics: ClassVar[bool] = True


@row("K1", "outlet.published")
async def published_by_the_outlet(installation: Installation) -> Sequence[Placed]:
    """The outlet dies before it notes what Kafka has confirmed: Kafka gets it once more, and nothing is left."""
    if reason := KafkaServer.available():
        assert "CI" not in os.environ, reason
        pytest.skip(f"no Kafka: {reason}")
    name, key = installation.front, installation.key()
    settings = installation.programs[name].settings

    async def restart(outlet: str) -> None:
        settings["KAFKA_OUTLET"] = outlet
        await installation.processes.end(name)
        await installation.start(name)

    kafka = KafkaWithTopics()
    await asyncio.to_thread(kafka.start)
    try:
        await restart(kafka.url)
        installation.arm(name, "outlet.published=kill")
        first = await installation.place(key)
        await installation.back_after_death(name)
        answer = await installation.insist(key)

        async def nothing_waits() -> bool:
            return not await installation.database.fetchval("select count(*) from orders.outlet")

        await until(nothing_waits, "the outlet has published everything")
        (event,) = await installation.events(answer.json()["id"])
        ids = [dict(record.headers)["ce_id"].decode() for record in await records(kafka, "order.created", 1)]
        assert set(ids) == {event["id"]}
    finally:
        await restart("off")
        del settings["KAFKA_OUTLET"]
        await asyncio.to_thread(kafka.stop)
    return [Placed(key, first)]


_LOCK = 5_417
_HOLD = f"perform pg_advisory_xact_lock({_LOCK});"
_DISK_FULL = "raise exception 'no space left on device' using errcode = 'disk_full';"


@asynccontextmanager
async def at_the_outbox(installation: Installation, when: str, what: str) -> AsyncIterator[None]:
    """Do something inside the server whenever a row comes into the outbox."""
    await installation.database.execute(
        f"create function orders.crash() returns trigger language plpgsql as $$ begin {what} return new; end $$"
    )
    await installation.database.execute(
        f"create trigger crash {when} insert on orders.outbox for each row execute function orders.crash()"
    )
    try:
        yield
    finally:
        await installation.database.execute("drop function orders.crash() cascade")


async def held_statements(installation: Installation) -> int:
    """How many statements wait for the lock."""
    sql = "select count(*) from pg_locks where locktype = 'advisory' and objid = $1 and not granted"
    found: int = await installation.database.fetchval(sql, _LOCK)
    return found


@asynccontextmanager
async def killed_while_held(installation: Installation, when: str) -> AsyncIterator[str]:
    """The front is killed while its statement waits beside the outbox's insert; yields the key meanwhile."""
    key = installation.key()
    async with at_the_outbox(installation, when, _HOLD), installation.database.acquire() as holder:
        await holder.execute("select pg_advisory_lock($1)", _LOCK)
        try:
            placing = asyncio.create_task(installation.place(key))
            await until(lambda: held_statements(installation), "the statement is held")
            await installation.processes.crash(installation.front)
            assert await placing is None
            assert await installation.orders(key) == []
            yield key
        finally:
            await holder.execute("select pg_advisory_unlock_all()")

        async def none_is_held() -> bool:
            return not await held_statements(installation)

        await until(none_is_held, "the server has ended the statement")
    await installation.start(installation.front)


@row("A2")
async def before_the_event(installation: Installation) -> Sequence[Placed]:
    """The statement has stored the order, not yet the event: an error or a death undoes it."""
    key = installation.key()
    async with at_the_outbox(installation, "before", _DISK_FULL):
        refused = await installation.place(key)
    assert refused is not None
    assert (refused.status_code, refused.headers["retry-after"].isdecimal()) == (503, True)
    assert await installation.orders(key) == []
    async with killed_while_held(installation, "before") as other:

        async def given_up() -> bool:
            return not await held_statements(installation)

        await until(given_up, "the server has given the wait up")
    assert await installation.orders(other) == []
    return [Placed(key), Placed(other)]


@row("A3")
async def after_the_event(installation: Installation) -> Sequence[Placed]:
    """The statement is sent whole: the server ends it without us, and the client's retry finds its order."""
    async with killed_while_held(installation, "after") as key:
        pass

    async def committed() -> bool:
        return len(await installation.orders(key)) == 1

    await until(committed, "the statement's own commit")
    (order,) = await installation.orders(key)
    assert len(await installation.events(order["id"])) == 1
    answer = await installation.insist(key)
    assert answer.headers["idempotent-replayed"] == "true"
    return [Placed(key, answer)]


RACES = 20


@row("A7")
async def two_at_once(installation: Installation) -> Sequence[Placed]:
    """Two equal requests at two processes: one places the order, the other is told to wait or gets its answer."""
    keys = [installation.key() for _ in range(RACES)]
    async with (
        installation.peer(installation.front) as twin,
        public_client(installation.processes.ports[twin]) as client,
    ):
        other = Shop(Running({"/": client}, {}, installation.processes.folder, lambda: ()))
        answers = await asyncio.gather(
            *(installation.place(key, shop) for key in keys for shop in (None, other))  # each pair side by side
        )
    placed = []
    for key, pair in zip(keys, zip(answers[::2], answers[1::2], strict=True), strict=True):
        made = [answer for answer in pair if answer is not None and answer.status_code == 201]
        turned_away = [answer for answer in pair if answer is not None and answer.status_code == 409]
        assert len(made) + len(turned_away) == 2
        assert all(answer.headers["retry-after"] for answer in turned_away)
        assert len({answer.content for answer in made}) == 1
        placed.append(Placed(key, made[0]))
    return placed


@row("R3", "publish.confirmed")
async def some_confirmed(installation: Installation) -> Sequence[Placed]:
    """Three events in one batch, and the end after the second confirm: the broker has some, we marked none."""
    table = "alter table orders.outbox alter column next_attempt_at set default now()"
    await installation.database.execute(f"{table} + interval '1 hour'")
    keys = [installation.key() for _ in range(3)]
    answers = [await installation.insist(key) for key in keys]
    await installation.database.execute(table)
    installation.arm(installation.front, "publish.confirmed=kill@2")
    await installation.database.execute(
        "update orders.outbox set next_attempt_at = now() where published_at is null"
    )
    await installation.back_after_death(installation.front)
    return [Placed(key, answer) for key, answer in zip(keys, answers, strict=True)]


@row("R6", "relay.locked")
async def a_frozen_relay(installation: Installation) -> Sequence[Placed]:
    """Rows locked, the relay frozen: the server takes its session away, and others may have the rows."""
    free = "select id from orders.outbox where published_at is null for update skip locked"
    key = installation.key()
    installation.arm(installation.front, "relay.locked=delay:1.5")
    placing = asyncio.create_task(installation.place(key))

    async def locked() -> bool:
        sql = "select count(*) from orders.outbox where published_at is null"
        return bool(await installation.database.fetchval(sql)) and not await installation.database.fetch(free)

    await until(locked, "the relay has locked the row")
    installation.processes.freeze(installation.front)
    installation.arm(installation.front, "")
    try:
        await until(lambda: installation.database.fetch(free), "the server has freed the row")
    finally:
        installation.processes.thaw(installation.front)
    return [Placed(key, await placing)]


@row("C3", "consumer.put_aside")
async def poison(installation: Installation) -> Sequence[Placed]:
    """An event that cannot be read is put aside and not acked: it comes again, and RabbitMQ has it twice."""
    poisoned = str(uuid.uuid4())
    installation.arm(installation.mails, "consumer.put_aside=kill")
    await installation.broker.put("order.created", b"\xff not JSON", poisoned)
    await installation.back_after_death(installation.mails)
    found: list[str | None] = []

    async def again() -> bool:
        while (letter := await installation.broker.take_dead("order.created")) is not None:
            found.append(letter)
        return len(found) == installation.broker.copies

    await until(again, "the poison is put aside again")
    assert found == [poisoned] * installation.broker.copies
    key = installation.key()
    return [Placed(key, await installation.insist(key))]  # the queue goes on behind it


@row("S8", "sender.before_data")
async def a_frozen_owner(installation: Installation) -> Sequence[Placed]:
    """Frozen with a mail in hand until another has sent it: thawed, it stops before the dot."""
    key = installation.key()
    before = SERVERS.smtp.steps()["data"]
    installation.arm(installation.mails, "sender.before_data=delay:1.5")
    first = await installation.insist(key)

    async def in_hand() -> bool:
        return SERVERS.smtp.steps()["data"] > before

    await until(in_hand, "the server waits for the content")
    installation.processes.freeze(installation.mails)
    installation.arm(installation.mails, "")
    (order,) = await installation.orders(key)
    (event,) = await installation.events(order["id"])
    try:
        async with installation.peer(installation.mails):

            async def sent() -> bool:
                (record,) = await installation.ledger.list("", (event["id"],), 2)
                return record.state == "sent"

            await until(sent, "another sender has sent the mail")
    finally:
        installation.processes.thaw(installation.mails)
    (record,) = await installation.ledger.list("", (event["id"],), 2)
    assert (record.attempts, record.resends) == (2, 0)
    return [Placed(key, first)]


CUTS = ("connect", "ehlo", "auth", "mail", "rcpt", "data")


@row("S2-cut")
async def cut_at_each_command(installation: Installation) -> Sequence[Placed]:
    """The server ends the conversation at each command before the content: certainly not sent, so sent again."""
    SERVERS.smtp.script(*(Rule(at=step, end="close") for step in CUTS))
    keys = [installation.key() for _ in range(len(CUTS) + 2)]
    return [
        Placed(key, answer)
        for key, answer in zip(keys, await asyncio.gather(*map(installation.insist, keys)), strict=True)
    ]
