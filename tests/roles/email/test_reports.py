"""What becomes of an order's mail is told by an event: once for each outcome, until it has arrived."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import purveyor.roles.email
from purveyor.kit.clock import now
from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import Queue
from purveyor.kit.ids import new_id
from purveyor.roles.email.contract import MailSettled
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.ports import NewMail
from purveyor.roles.email.reports import BATCH, Reports
from purveyor.transports.postgres import MIGRATIONS as EVENT_MIGRATIONS
from purveyor.transports.postgres.events import PostgresEvents
from waiting import until

MIGRATIONS = Path(purveyor.roles.email.__file__).with_name("migrations")
QUEUE = Queue(name="mail.settled", event=MailSettled, role="orders")

Told = list[tuple[MailSettled, Envelope]]


@pytest.fixture(scope="module")
async def shared(database_url: str) -> AsyncIterator[Database]:
    await migrate(database_url, "email", MIGRATIONS)
    await migrate(database_url, "events", EVENT_MIGRATIONS)
    async with open_database(database_url, application="tests", max_size=10) as opened:
        yield opened


@pytest.fixture
async def ledger(shared: Database) -> PostgresLedger:
    await shared.execute("truncate email.mails, events.deliveries")
    return PostgresLedger(shared)


@asynccontextmanager
async def _given(database: Database) -> AsyncIterator[Database]:
    yield database


class FailsFirst(PostgresEvents):
    """Confirms nothing at first, and then only every second event."""

    calls = 0

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        self.calls += 1
        if self.calls == 1:
            return [Unavailable("away")] * len(envelopes)
        if self.calls == 2:
            await super().publish(envelopes[::2])
            return [Unavailable("away") if place % 2 else None for place in range(len(envelopes))]
        return await super().publish(envelopes)


@asynccontextmanager
async def reporting(
    database: Database, ledger: PostgresLedger, *, how_many: int = 1, kind: type[PostgresEvents] = PostgresEvents
) -> AsyncIterator[Told]:
    """Those who report, and what is heard of them."""
    told: Told = []

    async def hear(event: MailSettled, envelope: Envelope) -> None:
        told.append((event, envelope))

    events = kind(_given(database))
    await events.open([QUEUE])
    running = [asyncio.create_task(Reports(ledger, events).run()) for _ in range(how_many)]
    running.append(asyncio.create_task(events.consume(QUEUE, hear)))
    try:
        yield told
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await events.close()


async def sent(ledger: PostgresLedger, count: int = 1) -> list[str]:
    """Mails of orders that were sent; their event ids."""
    ids = [str(new_id()) for _ in range(count)]
    for event_id in ids:
        mail = NewMail(
            event_id=event_id,
            kind="order.created",
            order_number=1,
            recipient="ann@b.test",
            subject="Order 1",
            message_id=f"<{event_id}@shop.test>",
            message=b"Subject: x\r\n\r\n",
            created_at=now(),
            order_id=f"order of {event_id}",
            request_id="r-1",
        )
        await ledger.record(mail)
    async with ledger.ownership() as owner:
        for claim in await ledger.claim(owner.name, count):
            await ledger.mark_data(claim)
            await ledger.mark_sent(claim, "250 ok")
    return ids


async def heard(told: Told, count: int) -> Told:
    await until(lambda: len({envelope.id for _, envelope in told}) >= count)
    return told


async def quiet(ledger: PostgresLedger) -> None:
    async def nothing_left() -> bool:
        return not await ledger.unreported(1)

    await until(nothing_left)


async def test_a_settled_mail_is_told_with_its_order(shared: Database, ledger: PostgresLedger) -> None:
    (event_id,) = await sent(ledger)
    async with reporting(shared, ledger) as told:
        ((event, envelope),) = await heard(told, 1)
        await quiet(ledger)
    assert event == MailSettled(
        event_id=event_id,
        kind="order.created",
        recipient="ann@b.test",
        state="sent",
        attempts=1,
        resends=0,
        smtp_reply="250 ok",
        error="",
    )
    assert (envelope.subject, envelope.correlation_id) == (f"order of {event_id}", "r-1")


async def test_every_outcome_is_told_under_one_id_though_many_report(
    shared: Database, ledger: PostgresLedger
) -> None:
    ids = await sent(ledger, BATCH + 20)
    async with reporting(shared, ledger, how_many=3) as told:
        await heard(told, len(ids))
        await quiet(ledger)
        await ledger.resend(ids[0])
        async with ledger.ownership() as owner:
            (claim,) = await ledger.claim(owner.name, 1)
            await ledger.mark_failed(claim, reply="550 no", error="refused by the server")
        await heard(told, len(ids) + 1)
        await quiet(ledger)
    outcomes = [(event.event_id, event.state, event.resends) for event, _ in told]
    assert set(outcomes) == {*((found, "sent", 0) for found in ids), (ids[0], "failed", 1)}
    assert len({envelope.id for _, envelope in told}) == len(set(outcomes))  # who was told twice can know it


async def test_what_did_not_arrive_is_told_again(
    shared: Database, ledger: PostgresLedger, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await sent(ledger, 4)
    async with reporting(shared, ledger, kind=FailsFirst) as told:
        await heard(told, 4)
        await quiet(ledger)
    assert {event.event_id for event, _ in told} == set(ids)
    assert caplog.text.count("is not reported") == 2
