"""The crash points, row by row: how each is brought about, and what the one order or the few must be afterwards.

A row returns what it placed; ``crash_audit`` then judges that.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
import httpx

from faults.crash_house import House, until
from purveyor_drill.servers.smtp import Rule
from real_servers import SERVERS
from running import Running, public_client
from shop import Shop


@dataclass(frozen=True)
class Placed:
    """An order that a row placed: its key, and what the client was answered before the crash, if anything."""

    key: str
    first: httpx.Response | None = None


Run = Callable[[House], Awaitable[Sequence[Placed]]]


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


def row(id: str, point: str = "", **marks: bool) -> Callable[[Run], Run]:  # noqa: A002 - it is the id
    """Enter a row into the table."""

    def enter(run: Run) -> Run:
        ROWS[id] = Row(id, point, run, **marks)
        return run

    return enter


def kill(id: str, point: str, *, at: str = "front", **marks: bool) -> None:  # noqa: A002
    """Enter a row in which the point kills the process that takes the order, or the one that mails."""

    async def run(house: House) -> Sequence[Placed]:
        name = house.front if at == "front" else house.mails
        key = house.key()
        house.arm(name, f"{point}=kill")
        first = await house.place(key)
        await house.back_after_death(name)
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


_LOCK = 5_417
_HOLD = f"perform pg_advisory_xact_lock({_LOCK});"
_DISK_FULL = "raise exception 'no space left on device' using errcode = 'disk_full';"


@asynccontextmanager
async def at_the_outbox(house: House, when: str, what: str) -> AsyncIterator[None]:
    """Do something inside the server whenever a row comes into the outbox."""
    await house.database.execute(
        f"create function orders.crash() returns trigger language plpgsql as $$ begin {what} return new; end $$"
    )
    await house.database.execute(
        f"create trigger crash {when} insert on orders.outbox for each row execute function orders.crash()"
    )
    try:
        yield
    finally:
        await house.database.execute("drop function orders.crash() cascade")


async def held_statements(house: House) -> int:
    """How many statements wait for the lock."""
    sql = "select count(*) from pg_locks where locktype = 'advisory' and objid = $1 and not granted"
    found: int = await house.database.fetchval(sql, _LOCK)
    return found


@asynccontextmanager
async def killed_while_held(house: House, when: str) -> AsyncIterator[str]:
    """The front is killed while its statement waits beside the outbox's insert; yields the key meanwhile."""
    key = house.key()
    async with at_the_outbox(house, when, _HOLD), house.database.acquire() as holder:
        await holder.execute("select pg_advisory_lock($1)", _LOCK)
        try:
            placing = asyncio.create_task(house.place(key))
            await until(lambda: held_statements(house), "the statement is held")
            await house.processes.crash(house.front)
            assert await placing is None
            assert await house.orders(key) == []
            yield key
        finally:
            await holder.execute("select pg_advisory_unlock_all()")

        async def none_is_held() -> bool:
            return not await held_statements(house)

        await until(none_is_held, "the server has ended the statement")
    await house.start(house.front)


@row("A2")
async def before_the_event(house: House) -> Sequence[Placed]:
    """The statement has stored the order, not yet the event: an error or a death undoes it."""
    key = house.key()
    async with at_the_outbox(house, "before", _DISK_FULL):
        refused = await house.place(key)
    assert refused is not None
    assert (refused.status_code, refused.headers["retry-after"].isdecimal()) == (503, True)
    assert await house.orders(key) == []
    async with killed_while_held(house, "before") as other:

        async def given_up() -> bool:
            return not await held_statements(house)

        await until(given_up, "the server has given the wait up")
    assert await house.orders(other) == []
    return [Placed(key), Placed(other)]


@row("A3")
async def after_the_event(house: House) -> Sequence[Placed]:
    """The statement is sent whole: the server ends it without us, and the client's retry finds its order."""
    async with killed_while_held(house, "after") as key:
        pass

    async def committed() -> bool:
        return len(await house.orders(key)) == 1

    await until(committed, "the statement's own commit")
    (order,) = await house.orders(key)
    assert len(await house.events(order["id"])) == 1
    answer = await house.insist(key)
    assert answer.headers["idempotent-replayed"] == "true"
    return [Placed(key, answer)]


RACES = 20


@row("A7")
async def two_at_once(house: House) -> Sequence[Placed]:
    """Two equal requests at two processes: one places the order, the other is told to wait or gets its answer."""
    keys = [house.key() for _ in range(RACES)]
    async with house.peer(house.front) as twin, public_client(house.processes.ports[twin]) as client:
        other = Shop(Running({"/": client}, {}, house.processes.folder, lambda: ()))
        answers = await asyncio.gather(
            *(house.place(key, shop) for key in keys for shop in (None, other))  # each pair side by side
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
async def some_confirmed(house: House) -> Sequence[Placed]:
    """Three events in one batch, and the end after the second confirm: the broker has some, we marked none."""
    table = "alter table orders.outbox alter column next_attempt_at set default now()"
    await house.database.execute(f"{table} + interval '1 hour'")
    keys = [house.key() for _ in range(3)]
    answers = [await house.insist(key) for key in keys]
    await house.database.execute(table)
    house.arm(house.front, "publish.confirmed=kill@2")
    await house.database.execute("update orders.outbox set next_attempt_at = now() where published_at is null")
    await house.back_after_death(house.front)
    return [Placed(key, answer) for key, answer in zip(keys, answers, strict=True)]


@row("R6", "relay.locked")
async def a_frozen_relay(house: House) -> Sequence[Placed]:
    """Rows locked, the relay frozen: the server takes its session away, and others may have the rows."""
    free = "select id from orders.outbox where published_at is null for update skip locked"
    key = house.key()
    house.arm(house.front, "relay.locked=delay:1.5")
    placing = asyncio.create_task(house.place(key))

    async def locked() -> bool:
        sql = "select count(*) from orders.outbox where published_at is null"
        return bool(await house.database.fetchval(sql)) and not await house.database.fetch(free)

    await until(locked, "the relay has locked the row")
    house.processes.freeze(house.front)
    house.arm(house.front, "")
    try:
        await until(lambda: house.database.fetch(free), "the server has freed the row")
    finally:
        house.processes.thaw(house.front)
    return [Placed(key, await placing)]


@row("C3", "consumer.put_aside")
async def poison(house: House) -> Sequence[Placed]:
    """An event that cannot be read is put aside and not acked: it comes again, and lies there twice."""
    poisoned = str(uuid.uuid4())
    house.arm(house.mails, "consumer.put_aside=kill")
    message = aio_pika.Message(
        b"\xff not JSON", message_id=poisoned, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
    )
    await house.broker.default_exchange.publish(message, "order.created")
    await house.back_after_death(house.mails)
    dead = await house.broker.declare_queue("order.created.dead", passive=True)
    found: list[str | None] = []

    async def twice() -> bool:
        while (letter := await dead.get(no_ack=True, fail=False)) is not None:
            found.append(letter.message_id)
        return len(found) > 1

    await until(twice, "the poison is put aside again")
    assert found == [poisoned] * 2
    key = house.key()
    return [Placed(key, await house.insist(key))]  # the queue goes on behind it


@row("S8", "sender.before_data")
async def a_frozen_owner(house: House) -> Sequence[Placed]:
    """Frozen with a mail in hand until another has sent it: thawed, it stops before the dot."""
    key = house.key()
    before = SERVERS.smtp.steps()["data"]
    house.arm(house.mails, "sender.before_data=delay:1.5")
    first = await house.insist(key)

    async def in_hand() -> bool:
        return SERVERS.smtp.steps()["data"] > before

    await until(in_hand, "the server waits for the content")
    house.processes.freeze(house.mails)
    house.arm(house.mails, "")
    (order,) = await house.orders(key)
    (event,) = await house.events(order["id"])
    try:
        async with house.peer(house.mails):

            async def sent() -> bool:
                (record,) = await house.ledger.list("", (event["id"],), 2)
                return record.state == "sent"

            await until(sent, "another sender has sent the mail")
    finally:
        house.processes.thaw(house.mails)
    (record,) = await house.ledger.list("", (event["id"],), 2)
    assert (record.attempts, record.resends) == (2, 0)
    return [Placed(key, first)]


CUTS = ("connect", "ehlo", "auth", "mail", "rcpt", "data")


@row("S2-cut")
async def cut_at_each_command(house: House) -> Sequence[Placed]:
    """The server ends the conversation at each command before the content: certainly not sent, so sent again."""
    SERVERS.smtp.script(*(Rule(at=step, end="close") for step in CUTS))
    keys = [house.key() for _ in range(len(CUTS) + 2)]
    return [
        Placed(key, answer)
        for key, answer in zip(keys, await asyncio.gather(*map(house.insist, keys)), strict=True)
    ]
