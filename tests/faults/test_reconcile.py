"""``app reconcile`` and ``app events``: what was lost between two roles is found, and put right once."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from faults.test_while_down import Installation, installation, until
from own_processes import environment
from purveyor.kit.ids import new_id
from purveyor.registry import ROLES
from purveyor_drill.servers.postgres import PostgresServer

LONG_AGO = "now() - interval '5 minutes'"


@dataclass
class Shop:
    """An installation, its database and its console; nothing runs between ``pause`` and ``go_on``."""

    installation: Installation
    url: str

    async def app(self, *arguments: str) -> tuple[int, str]:
        """The exit code of the console, and what it prints."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "purveyor", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(self.installation.processes.settings),
            cwd=self.installation.processes.folder,
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    async def sql(self, *statements: str) -> list[asyncpg.Record]:
        """Run statements; the rows of the last one."""
        connection = await asyncpg.connect(self.url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return list(await connection.fetch(statements[-1]))
        finally:
            await connection.close()

    async def pause(self) -> None:
        await self.installation.processes.end("all")

    async def go_on(self) -> None:
        self.installation.processes.start("all", "serve", ",".join(ROLES))
        await self.installation.processes.ready("all")


@pytest.fixture(scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")
    with PostgresServer() as server:
        url = server.create_database("shop")
        async with installation(tmp_path_factory.mktemp("installation"), DATABASE_URL=url) as made:
            yield Shop(made, url)


async def ordered(store: Shop) -> str:
    """The id of a new order whose mail was sent."""
    answer = await store.installation.place()
    assert answer.status_code == 201
    order_id: str = answer.json()["id"]

    async def mailed() -> bool:
        return len(await mails_of(store, order_id)) == 1

    await until(mailed)
    return order_id


async def mails_of(store: Shop, order_id: str) -> list[asyncpg.Record]:
    return await store.sql(
        "select m.event_id::text as event_id, m.state from email.mails m "
        f"join orders.orders o on o.number = m.order_number and o.id = '{order_id}' where m.state = 'sent'"
    )


async def test_what_was_lost_is_found_put_right_and_then_no_longer_found(store: Shop) -> None:
    silent, unmailed, stuck, fine = [await ordered(store) for _ in range(4)]
    (lost,) = await mails_of(store, unmailed)
    (claimed,) = await mails_of(store, stuck)
    await store.pause()
    await store.sql(
        f"delete from email.mails where order_number in (select number from orders.orders where id in "
        f"('{silent}', '{unmailed}'))",
        f"delete from orders.outbox where subject = '{silent}'",
        f"update email.mails set state = 'claimed', owner = 999999 where event_id = '{claimed['event_id']}'",
        "select 1",
    )
    code, said = await store.app("reconcile")
    assert code == 1
    assert f"order {silent}: no event. Would emit it." in said
    assert "mail sender 999999: dead. Would release its emails." in said
    assert lost["event_id"] not in said, "it was published a moment ago, and may be on its way"
    code, said = await store.app("reconcile", "--json")
    assert code == 1
    document = json.loads(said)
    assert document["consistent"] is False
    found = {(each["kind"], each["id"]): each for each in document["inconsistencies"]}
    assert found.keys() == {("order", silent), ("mail sender", "999999")}
    assert not any(each["repaired"] for each in found.values())

    await store.sql(f"update orders.outbox set published_at = {LONG_AGO}", "select 1")
    code, said = await store.app("reconcile")
    assert code == 1
    assert f"event {lost['event_id']}: no email. Would replay it." in said
    assert said.count("\n") == 3

    code, said = await store.app("reconcile", "--apply")
    assert code == 0
    assert f"order {silent}: no event. Emitted it." in said
    announced = await store.sql(f"select id from orders.outbox where subject = '{silent}'")
    assert await store.app("reconcile", "--apply") == (0, "Everything is consistent.\n")
    assert await store.app("reconcile") == (0, "No inconsistencies found.\n")

    await store.go_on()
    for order_id in (silent, unmailed, stuck, fine):

        async def mailed_once(order_id: str = order_id) -> bool:
            return len(await mails_of(store, order_id)) == 1

        await until(mailed_once)
    assert [row["event_id"] for row in await mails_of(store, silent)] == [str(row["id"]) for row in announced]


async def test_a_dead_letter_is_counted_left_to_a_person_replayed_and_dropped(store: Shop) -> None:
    order_id = await ordered(store)
    (mail,) = await mails_of(store, order_id)
    event_id = mail["event_id"]
    await store.pause()
    await store.sql(
        f"delete from email.mails where event_id = '{event_id}'",
        "insert into events.deliveries (queue, id, type, body, occurred_at, subject, sequence, correlation_id, "
        "currency, language, traceparent, attempts, died_at, reason) select type, id, type, body, occurred_at, "
        "subject, sequence, correlation_id, currency, language, traceparent, 12, now(), 'no luck' "
        f"from orders.outbox where id = '{event_id}'",
        f"update orders.outbox set published_at = {LONG_AGO}",
        "select 1",
    )
    assert (await store.app("events", "list"))[1].splitlines()[-1] == "Events waiting: 0. Dead letters: 1."
    code, said = await store.app("reconcile", "--apply")
    assert code == 1
    assert f"event {event_id}: dead letter in order.created (no luck)" in said
    assert (await store.app("events", "drop", event_id))[0] != 0, "nobody said yes"

    code, said = await store.app("events", "replay", event_id)
    assert (code, said) == (0, f"Event {event_id} will be delivered again.\n")
    await store.go_on()

    async def mailed_again() -> bool:
        return len(await mails_of(store, order_id)) == 1

    await until(mailed_again)
    await store.sql(
        "insert into events.deliveries select 'order.created', id, type, body, occurred_at, subject, sequence, "
        "correlation_id, currency, language, traceparent, 12, now(), now(), 'no luck' "
        f"from orders.outbox where id = '{event_id}'",
        "select 1",
    )
    code, said = await store.app("events", "drop", "--yes", event_id)
    assert (code, said) == (0, f"Deleted the dead letters of event {event_id} in order.created.\n")
    assert (await store.app("events", "drop", "--yes", event_id))[0] == 1
    assert (await store.app("events", "list"))[1] == "No events are waiting, and there are no dead letters.\n"


async def test_a_published_event_that_died_on_its_way_lives_again_from_the_outbox(store: Shop) -> None:
    """More than a thousand dead letters: those are not looked through."""
    order_id = await ordered(store)
    (mail,) = await mails_of(store, order_id)
    await store.sql(
        f"delete from email.mails where event_id = '{mail['event_id']}'",
        "insert into events.deliveries select 'order.created', id, type, body, occurred_at, subject, sequence, "
        "correlation_id, currency, language, traceparent, 12, now(), now(), 'no luck' "
        f"from orders.outbox where id = '{mail['event_id']}'",
        f"update orders.outbox set published_at = null, next_attempt_at = now() where id = '{mail['event_id']}'",
        "select 1",
    )

    async def mailed_again() -> bool:
        return len(await mails_of(store, order_id)) == 1

    await until(mailed_again)


async def test_the_token_of_a_password_reset_is_not_shown(store: Shop) -> None:
    event_id = new_id()  # of today: an old one that was published is soon deleted
    await store.sql(
        "insert into orders.outbox (id, type, body, occurred_at, subject, sequence, correlation_id, currency, "
        f"language, traceparent, published_at) values ('{event_id}', 'x', "
        """convert_to('{"user_id": "1", "token": "s3cr\\"et", "token": "s3cret2"}', 'UTF8'), now(), 'x', 1, '',"""
        " '', '', '', now())",
        "select 1",
    )
    code, said = await store.app("events", "show", str(event_id))

    assert code == 0
    assert not re.search("s3cr|et2", said)
    assert '"token": "****"' in said
