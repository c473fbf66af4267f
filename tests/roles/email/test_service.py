"""From events to the ledger, and what becomes of a person's mails: over both ledgers and real events."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest

from purveyor.host import Host, choose_roles
from purveyor.kit.clock import now
from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import open_database
from purveyor.kit.errors import Conflict, Unavailable
from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.events.outbox import Outbox, Relay
from purveyor.kit.events.transport import MAX_BODY_BYTES, EventTransport, Queue, Undeliverable
from purveyor.kit.ids import new_id, stable_id
from purveyor.kit.link_tokens import LinkTokens
from purveyor.roles.auth.contract import (
    EmailConfirmationRequested,
    EmailConfirmed,
    PasswordResetRequested,
    UserErased,
    UserExportRequested,
)
from purveyor.roles.email.contract import MailDataErased, MailDataExported, ResendMail, ResolveMail, ShowMail
from purveyor.roles.email.ledger.mongo import MongoLedger, MongoRelay
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.letters import Letters, OrderEvent
from purveyor.roles.email.mail_models import KINDS, NEW_ORDER_NOTICE, Shop
from purveyor.roles.email.mime import text_of
from purveyor.roles.email.ports import Account, Ledger
from purveyor.roles.email.privacy import PersonalData
from purveyor.roles.email.rendering import Renderer
from purveyor.roles.email.role import MAILED
from purveyor.roles.email.service import Mails
from purveyor.roles.email.turns import UNCONFIRMED
from purveyor.roles.orders.contract import (
    ORDER_LINK,
    OrderCancelled,
    OrderCreated,
    OrderDataErased,
    OrderedItem,
)
from purveyor.settings import Sources
from purveyor.transports.postgres import MIGRATIONS as EVENT_MIGRATIONS
from purveyor.transports.postgres.events import PostgresEvents
from purveyor_drill.servers.process import free_port
from real_servers import SERVERS, MongoServer
from roles.email.ledger.ledger_owner import connected
from waiting import PATIENCE_S

ANN = "ann@b.test"
EVENTS = [kind for kind in KINDS if kind != NEW_ORDER_NOTICE]
TOKEN = "the-only-t0ken"
ANSWERS = [
    Queue(name="tests.erased", event=MailDataErased, role="tests"),
    Queue(name="tests.exported", event=MailDataExported, role="tests"),
]
DESKS = ("desk@shop.test", "boss@shop.test")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
"""To wipe what a test has left without a trace that could stop a later one's mails."""


@pytest.fixture(params=["postgres", "mongodb"])
async def ledger(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[Ledger]:
    url = dsn
    if request.param == "mongodb":
        if reason := MongoServer.available():
            pytest.skip(f"no MongoDB: {reason}")
        url = SERVERS.mongodb_uri("mails")
    async with connected(url) as opened:
        yield opened
        if isinstance(opened, PostgresLedger):  # its tests share a database
            await opened._database.execute("truncate email.mails")


def mails_of(ledger: Ledger, sender: str = "Purveyor <orders@shop.test>", *notified: str) -> Mails:
    shop = Shop(url="https://shop.test", currency="CHF", language="fr")
    letters = Letters(shop, LinkTokens(ORDER_LINK, "a secret"), notified)
    return Mails(ledger, Renderer(shop), letters, sender, lambda: None, reply_to="help@shop.test")


@pytest.fixture
def mails(ledger: Ledger) -> Mails:
    return mails_of(ledger)


@pytest.fixture
async def events(dsn: str) -> AsyncIterator[PostgresEvents]:
    """A real transport, with queues that hear the answers."""
    await migrate(dsn, "events", EVENT_MIGRATIONS)
    transport = PostgresEvents(open_database(dsn, application="tests", max_size=8))
    await transport.open(ANSWERS)
    yield transport
    await transport.close()


def event_of(kind: str, **fields: Any) -> Any:
    """An event of a kind of mail; what is not given is made up."""
    (event,) = (event for event in (*MAILED, UserErased) if event.type == kind)
    values: dict[str, Any] = {"user_email": ANN, "user_name": "Ann <b>Bee</b>", "recipient_confirmed": True}
    if event is PasswordResetRequested:
        values |= {"token": TOKEN, "expires_at": now() + timedelta(minutes=30)}
    elif event is EmailConfirmationRequested:
        values |= {"token": TOKEN, "expires_at": now() + timedelta(days=3)}
    elif event in get_args(OrderEvent):
        item = OrderedItem(product_id=17, quantity=2, price=Decimal("12.50"), total_amt=Decimal(25))
        values |= {"order_number": 10482, "total_amount": Decimal(25), "items": (item,), "payment_method": "card"}
    if event is OrderCancelled:
        values |= {"reason": "<i>twice</i>"}
    values |= fields
    return event(**{"user_id": account_of(values["user_email"]).user_id, **values})


def account_of(address: str) -> Account:
    """The account of an address in these tests."""
    return Account(f"account of {address}", address)


def envelope_of(event: Event, **fields: Any) -> Envelope:
    values: dict[str, Any] = {
        "id": new_id(),
        "type": event.type,
        "body": msgspec.json.encode(event),
        "occurred_at": now(),
        "subject": "o-1",
        "correlation_id": "r-1",
        "currency": "EUR",
        "language": "de-AT",
    }
    return Envelope(**(values | fields))


def of_whole_second(envelope: Envelope) -> Envelope:
    """As RabbitMQ carries it."""
    return msgspec.structs.replace(envelope, occurred_at=envelope.occurred_at.replace(microsecond=0))


async def write_all(mails: Mails, *written: Event) -> None:
    """As a consumer does: again when the ledger did not answer, as MongoDB's stand-in on a busy machine."""
    for event in written:
        envelope = envelope_of(event)
        for _ in range(5):
            with suppress(Unavailable):
                await mails.write(event, envelope)
                break
        else:
            raise AssertionError("the ledger never answers")


def answering(ledger: Ledger, events: PostgresEvents) -> PersonalData:
    """Handles questions; the answers are relayed at once."""
    if isinstance(ledger, MongoLedger):
        return PersonalData(ledger, MongoRelay(ledger, events).emit)
    assert isinstance(ledger, PostgresLedger)
    postgres, relay = ledger, Relay(ledger._database, "email", events, forget=True, order_by="occurred_at, id")

    async def emit(*answers: Envelope) -> None:
        await postgres.emit(*answers)
        await relay.batch()

    return PersonalData(ledger, emit)


async def heard(events: PostgresEvents, queue: Queue, count: int) -> list[tuple[Any, Envelope]]:
    """So many answers, in the order in which they came."""
    found: list[tuple[Any, Envelope]] = []
    enough = asyncio.Event()

    async def hear(event: Event, envelope: Envelope) -> None:
        found.append((event, envelope))
        if len(found) >= count:
            enough.set()

    consuming = asyncio.create_task(events.consume(queue, hear))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await enough.wait()
        await asyncio.sleep(0.1)  # another one would be in the same batch
    finally:
        consuming.cancel()
        await asyncio.wait([consuming])
    return found


@pytest.mark.parametrize("kind", EVENTS)
async def test_every_event_becomes_one_mail_however_often_it_comes(
    mails: Mails, ledger: Ledger, kind: str
) -> None:
    event = event_of(kind)
    envelope = envelope_of(event)
    for _ in range(3):
        await mails.write(event, envelope)
    ((record, _),) = await ledger.of_account(account_of(ANN))
    shown = await mails.show(ShowMail(event_id=str(envelope.id)))
    message = message_from_bytes(shown.message.encode(), policy=policy.default)
    assert (record.event_id, record.kind, record.state) == (str(envelope.id), kind, "pending")
    assert record.order_number == (10482 if kind.startswith("order.") else None)
    assert record.message_id == f"<{envelope.id}@shop.test>"
    assert str(message["Subject"]) == record.subject
    assert str(message["Reply-To"]) == "help@shop.test"
    assert 'lang="de"' in message.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "Ann &lt;b&gt;Bee&lt;/b&gt;" in message.get_body(("html",)).get_content()  # type: ignore[union-attr]


async def test_the_cancelled_mail_gives_the_reason_as_text(mails: Mails, ledger: Ledger) -> None:
    event = event_of("order.cancelled")
    envelope = envelope_of(event)
    await mails.write(event, envelope)
    found = await ledger.find(str(envelope.id))
    assert found is not None
    message = message_from_bytes(found[1], policy=policy.default)
    assert "<i>twice</i>" in text_of(found[1])
    assert "&lt;i&gt;twice&lt;/i&gt;" in message.get_body(("html",)).get_content()  # type: ignore[union-attr]


@pytest.mark.parametrize("confirmed", [True, False])
async def test_only_a_confirmed_address_reads_what_a_customer_wrote(
    mails: Mails, ledger: Ledger, confirmed: bool
) -> None:
    event = event_of("order.cancelled", recipient_confirmed=confirmed)
    envelope = envelope_of(event)
    await mails.write(event, envelope)
    found = await ledger.find(str(envelope.id))
    assert found is not None
    assert ("twice" in text_of(found[1])) is confirmed
    assert "10482" in text_of(found[1])


async def test_unconfirmed_addresses_of_one_mailbox_share_a_quota(mails: Mails, ledger: Ledger) -> None:
    addresses = [f"Ann+{number}@b.test" for number in range(8)]
    for address in addresses:
        event = event_of("order.created", user_email=address, recipient_confirmed=False)
        await mails.write(event, envelope_of(event))
    async with ledger.ownership() as owner:
        claims = await ledger.claim(owner.name, 20)
        assert len([claim for claim in claims if claim.recipient in addresses]) == UNCONFIRMED.quota
    for address in addresses:
        await ledger.erase(account_of(address), LONG_AGO)


async def test_held_mails_of_a_confirmed_address_are_sent(mails: Mails, ledger: Ledger) -> None:
    address = "held@b.test"
    for _ in range(UNCONFIRMED.quota + 1):
        event = event_of("order.created", user_email=address, recipient_confirmed=False)
        await mails.write(event, envelope_of(event))
    async with ledger.ownership() as owner:
        assert len(await ledger.claim(owner.name, 20)) == UNCONFIRMED.quota
        confirmed = EmailConfirmed(user_id=account_of(address).user_id, user_email=address)
        await mails.release(confirmed, envelope_of(confirmed))
        assert len(await ledger.claim(owner.name, 20)) == 1
    await ledger.erase(account_of(address), LONG_AGO)


async def test_events_without_an_id_are_told_apart_by_order_number_or_body(mails: Mails, ledger: Ledger) -> None:
    nameless = {"id": UUID(int=0), "subject": ""}
    for event in (
        event_of("order.created"),
        event_of("order.created", user_name="The same order"),
        event_of("order.created", order_number=10483),
        event_of("order.shipped"),
        event_of("user.registered"),
        event_of("user.registered"),
        event_of("user.registered", user_name="Another body"),
    ):
        await mails.write(event, envelope_of(event, **nameless))
    kinds = [(record.kind, record.order_number) for record, _ in await ledger.of_account(account_of(ANN))]
    assert sorted(kinds, key=str) == [
        ("order.created", 10482),
        ("order.created", 10483),
        ("order.shipped", 10482),
        ("user.registered", None),
        ("user.registered", None),
    ]


@pytest.mark.parametrize(
    "fields",
    [{"user_email": "no address"}, {"user_email": "a@b.test\r\nBcc: c@d.test"}, {"total_amount": Decimal("NaN")}],
)
async def test_an_event_that_no_mail_can_be_made_of_is_undeliverable(
    mails: Mails, ledger: Ledger, fields: Mapping[str, Any]
) -> None:
    event = event_of("order.shipped", **fields)
    with pytest.raises(Undeliverable):
        await mails.write(event, envelope_of(event))
    assert await ledger.of_account(account_of(event.user_email)) == []


async def test_a_mail_whose_text_is_no_longer_kept_says_so_when_it_is_to_be_sent_again(
    mails: Mails, ledger: Ledger
) -> None:
    event = event_of("order.created")
    envelope = envelope_of(event)
    await mails.write(event, envelope)
    async with ledger.ownership() as owner:
        (claim,) = [claim for claim in await ledger.claim(owner.name, 50) if claim.event_id == str(envelope.id)]
        await ledger.mark_data(claim)
        await ledger.mark_sent(claim, "250 ok")
    assert await ledger.empty_sent(0, 10) == 1
    with pytest.raises(Conflict, match="can no longer be sent"):
        await mails.resend(ResendMail(event_id=str(envelope.id)))
    with pytest.raises(Conflict, match="is not in state unknown"):
        await mails.resolve(ResolveMail(event_id=str(envelope.id), sent=True))


async def test_a_sender_with_an_international_domain_has_ascii_message_ids(ledger: Ledger) -> None:
    mails = mails_of(ledger, "Bücher <orders@bücher.de>")
    event = event_of("order.created")
    envelope = envelope_of(event)
    await mails.write(event, envelope)
    ((record, _),) = await ledger.of_account(account_of(ANN))
    assert record.message_id == f"<{envelope.id}@xn--bcher-kva.de>"


async def test_erasure_wipes_the_mails_and_says_so(mails: Mails, ledger: Ledger, events: PostgresEvents) -> None:
    kept, sent_before, waiting = (event_of("order.created", user_email=to) for to in ("bob@b.test", ANN, ANN))
    envelopes = [envelope_of(event) for event in (kept, sent_before, waiting)]
    for event, envelope in zip((kept, sent_before, waiting), envelopes, strict=True):
        await mails.write(event, envelope)
    erased = UserErased(user_id=account_of(ANN).user_id, user_email=ANN)
    question = envelope_of(erased, subject="u-1")
    personal_data = answering(ledger, events)
    await personal_data.erase(erased, question)
    await personal_data.erase(erased, question)  # delivered twice: the same answer
    answers = await heard(events, ANSWERS[0], 1)
    assert {(answer.user_id, envelope.correlation_id) for answer, envelope in answers} == {(erased.user_id, "r-1")}
    assert len({envelope.id for _, envelope in answers}) == 1

    assert await ledger.of_account(account_of(ANN)) == []
    for event, envelope in zip((sent_before, waiting), envelopes[1:], strict=True):
        await mails.write(event, envelope)  # delivered again, after all
        shown = await mails.show(ShowMail(event_id=str(envelope.id)))
        assert (shown.record.state, shown.record.recipient, shown.record.subject) == ("failed", "", "")
        assert shown.message == ""
        with pytest.raises(Conflict, match="erased"):
            await mails.resend(ResendMail(event_id=str(envelope.id)))
    assert await ledger.of_account(account_of(ANN)) == []
    async with ledger.ownership() as owner:
        claims = await ledger.claim(owner.name, 10)
    assert {claim.recipient for claim in claims} == {"bob@b.test"}
    await ledger.erase(account_of("bob@b.test"), LONG_AGO)


@pytest.mark.parametrize("kind", ["order.created", "user.registered"])
async def test_an_event_from_before_an_erasure_that_comes_afterwards_is_not_mailed(
    mails: Mails, ledger: Ledger, events: PostgresEvents, kind: str
) -> None:
    to = f"{new_id().hex}@b.test"
    late, erased = event_of(kind, user_email=to), UserErased(user_id=account_of(to).user_id, user_email=to)
    before = of_whole_second(envelope_of(late))
    await asyncio.sleep(0.005)
    question = of_whole_second(envelope_of(erased))
    await answering(ledger, events).erase(erased, question)
    await mails.write(late, before)
    await mails.write(late, before)  # a dead letter that was sent again
    shown = await mails.show(ShowMail(event_id=str(before.id)))
    assert (shown.record.recipient, shown.record.subject, shown.message) == ("", "", "")
    assert (shown.record.state, shown.record.error) == ("failed", "erased")
    assert await ledger.of_account(account_of(to)) == []
    with pytest.raises(Conflict, match="erased"):
        await mails.resend(ResendMail(event_id=str(before.id)))


async def test_who_registers_again_with_an_address_that_was_erased_gets_mails_again(
    mails: Mails, ledger: Ledger, events: PostgresEvents
) -> None:
    to = f"{new_id().hex}@b.test"
    erased = UserErased(user_id=account_of(to).user_id, user_email=to)
    await answering(ledger, events).erase(erased, envelope_of(erased))
    again = Account("another account", to)
    for kind in ("user.registered", "order.created"):
        event = event_of(kind, user_email=to, user_id=again.user_id)
        await mails.write(event, envelope_of(event))
    assert [(record.kind, record.state) for record, _ in await ledger.of_account(again)] == [
        ("user.registered", "pending"),
        ("order.created", "pending"),
    ]
    await ledger.erase(again, LONG_AGO)


async def test_mails_about_orders_that_were_open_are_erased_with_the_last_of_them(
    mails: Mails, ledger: Ledger, events: PostgresEvents
) -> None:
    to = f"{new_id().hex}@b.test"
    account, personal_data = account_of(to), answering(ledger, events)
    erased = UserErased(user_id=account.user_id, user_email=to)
    await personal_data.erase(erased, envelope_of(erased))
    later = event_of("order.shipped", user_email=to)
    await mails.write(later, envelope_of(later))
    for retained, sequence in ((1, 1), (0, 1)):  # the answer to user.erased, with and without open orders
        answer = OrderDataErased(user_id=account.user_id, retained=retained)
        await personal_data.erase_later_mails(answer, envelope_of(answer, sequence=sequence))
        assert [record.recipient for record, _ in await ledger.of_account(account)] == [to]
    last = OrderDataErased(user_id=account.user_id)
    await personal_data.erase_later_mails(last, envelope_of(last, sequence=2**31 - 1))

    assert await ledger.of_account(account) == []


async def test_an_export_is_answered_in_parts_with_texts_and_without_tokens(
    mails: Mails, ledger: Ledger, events: PostgresEvents
) -> None:
    event = event_of("order.created")
    await write_all(mails, *(msgspec.structs.replace(event, order_number=number) for number in range(203)))
    await write_all(
        mails,
        event_of("user.password_reset_requested"),
        event_of("user.email_confirmation_requested"),
        event_of("user.registered", confirmation_token=TOKEN),
        event_of("order.created", user_email="bob@b.test"),
    )
    wanted = UserExportRequested(export_id="x-1", user_id=account_of(ANN).user_id, user_email=ANN)
    question = envelope_of(wanted)
    await answering(ledger, events).export(wanted, question)
    first = await heard(events, ANSWERS[1], 3)
    await answering(ledger, events).export(wanted, question)
    again = await heard(events, ANSWERS[1], 3)

    answers = sorted((answer for answer, _ in first), key=lambda answer: answer.part)
    assert [(answer.export_id, answer.part, answer.parts) for answer in answers] == [
        ("x-1", part, 3) for part in (1, 2, 3)
    ]
    assert {envelope.id for _, envelope in first} == {envelope.id for _, envelope in again}
    parts = [msgspec.json.decode(answer.document) for answer in answers]
    assert [len(part) for part in parts] == [100, 100, 6]
    documents = [document for part in parts for document in part]
    assert {document["recipient"] for document in documents} == {ANN}
    assert sorted(d["order_number"] for d in documents if d["kind"] == "order.created") == list(range(203))
    for document in documents:
        if document["kind"] == "order.created":
            assert re.search(rf"\b{document['order_number']}\b", document["text"])
            assert "Guten Tag Ann" in document["text"]
    assert TOKEN not in "".join(answer.document for answer in answers)
    await ledger.erase(account_of("bob@b.test"), LONG_AGO)


async def test_each_part_of_an_export_fits_into_an_event(
    mails: Mails, ledger: Ledger, events: PostgresEvents
) -> None:
    many = tuple(
        OrderedItem(product_id=number, quantity=2, price=Decimal("12.50"), total_amt=Decimal(25))
        for number in range(100)
    )
    await write_all(mails, *(event_of("order.created", order_number=number, items=many) for number in range(45)))
    alone = event_of("order.created", order_number=999_999, items=many * 40)  # as a foreign publisher might
    await write_all(mails, alone)
    wanted = UserExportRequested(export_id="x-3", user_id=account_of(ANN).user_id, user_email=ANN)
    await answering(ledger, events).export(wanted, envelope_of(wanted))
    found = await heard(events, ANSWERS[1], 2)
    assert [answer.parts for answer, _ in found] == [len(found)] * len(found)
    assert max(len(envelope.body) for _, envelope in found) <= MAX_BODY_BYTES
    documents = [d for answer, _ in found for d in msgspec.json.decode(answer.document)]
    assert sorted(d["order_number"] for d in documents) == [*range(45), 999_999]
    assert all(len(d["text"]) > 1000 for d in documents)


async def test_a_person_without_mails_gets_one_empty_part(ledger: Ledger, events: PostgresEvents) -> None:
    wanted = UserExportRequested(export_id="x-2", user_id="u-2", user_email="nobody@b.test")
    await answering(ledger, events).export(wanted, envelope_of(wanted))
    ((answer, _),) = await heard(events, ANSWERS[1], 1)
    assert (answer.part, answer.parts, answer.document) == (1, 1, "[]")


async def test_answer_is_not_lost_while_the_transport_is_away(ledger: Ledger) -> None:
    """It waits in the outbox; without one, the question is delivered again."""
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    events = PostgresEvents(open_database(nowhere, application="tests", max_size=1))
    await events.open(ANSWERS)
    erased = UserErased(user_id=account_of(ANN).user_id, user_email=ANN)
    wanted = UserExportRequested(export_id="x-1", user_id=account_of(ANN).user_id, user_email=ANN)
    if isinstance(ledger, PostgresLedger):
        waiting = PersonalData(ledger, ledger.emit)
        await waiting.erase(erased, envelope_of(erased))
        await waiting.export(wanted, envelope_of(wanted))
        outbox = Outbox(ledger._database, "email")
        kept = await outbox.entries(waiting=True, limit=10)
        assert sorted(entry.type for entry in kept) == ["mail_data.erased", "mail_data.exported"]
        await ledger._database.execute("truncate email.outbox")
    else:
        with pytest.raises(Unavailable):
            await answering(ledger, events).erase(erased, envelope_of(erased))
        with pytest.raises(Unavailable):
            await answering(ledger, events).export(wanted, envelope_of(wanted))
    await events.close()


async def relayed(events: EventTransport, envelopes: Sequence[Envelope]) -> None:
    """Publish as the relay does: again, if the database of a busy machine did not answer in time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(Unavailable):
                assert not any(await events.publish(envelopes))
                return


async def test_the_running_role_sends_every_kind_once_in_the_customers_language(dsn: str, tmp_path: Path) -> None:
    to, shop = f"{new_id().hex}@b.test", f"{new_id().hex}@shop.test"
    settings = {
        "DATABASE_URL": dsn,
        "DATA_DIR": str(tmp_path),
        "PUBLIC_URL": "https://shop.test/",
        "SHOP_NOTIFY": shop,
        "SHOP_LANGUAGE": "fr",
    }
    kinds = [kind for kind in EVENTS if kind != UserErased.type]
    sent = [event_of(kind, user_email=to) for kind in kinds]
    envelopes = [envelope_of(event, language="es") for event in sent]
    async with Host(choose_roles(["email"]), Sources(environ=settings, dotenv=None)).running() as host:
        await relayed(host.events, envelopes)
        async with asyncio.timeout(PATIENCE_S):
            while len(messages(tmp_path, to)) < len(kinds):
                await asyncio.sleep(0.05)
        await relayed(host.events, envelopes)
        marker = event_of("order.created", user_email=to, order_number=777777)
        await relayed(host.events, [envelope_of(marker, language="es")])
        async with asyncio.timeout(PATIENCE_S):
            while not any("777777" in str(message["Subject"]) for message in messages(tmp_path, to)):
                await asyncio.sleep(0.05)
    arrived = messages(tmp_path, to)
    texts = Renderer().languages["es"].mail
    expected = [texts[kind].subject.format(number=10482, shop="Purveyor") for kind in kinds]
    expected.append(texts["order.created"].subject.format(number=777777))
    assert sorted(str(message["Subject"]) for message in arrived) == sorted(expected)
    wanted = texts["user.password_reset_requested"].subject
    (reset,) = [message for message in arrived if str(message["Subject"]) == wanted]
    lines = reset.get_body(("plain",)).get_content().splitlines()
    assert TOKEN in lines
    assert f"https://shop.test/#/reset?token={TOKEN}" in lines
    notices = [str(message["Subject"]) for message in messages(tmp_path, shop)]
    assert sorted(notices) == ["Nouvelle commande 10482", "Nouvelle commande 777777"]


async def test_the_last_mail_of_an_account_is_sent_and_then_erased(dsn: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": dsn, "DATA_DIR": str(tmp_path)}
    to = f"{new_id().hex}@b.test"
    erased = event_of("user.erased", user_id=str(new_id()), user_email=to)
    envelope = envelope_of(erased, language="de")
    async with Host(choose_roles(["email"]), Sources(environ=settings, dotenv=None)).running() as host:
        await host.events.publish([envelope, envelope])

        async def record() -> Any:
            return (await host.answers[ShowMail](ShowMail(event_id=str(envelope.id)))).record

        async with asyncio.timeout(PATIENCE_S):
            while not messages(tmp_path, to) or (await record()).recipient:
                await asyncio.sleep(0.05)
        kept = await record()
        await host.events.publish([envelope])  # delivered once more, much later
        await asyncio.sleep(0.2)
    assert (kept.state, kept.subject, kept.smtp_reply) == ("sent", "", "")
    assert [str(message["Subject"]) for message in messages(tmp_path, to)] == ["Ihr Kundenkonto wurde gelöscht"]


async def test_the_shop_hears_of_an_order_once_and_reads_nothing_of_the_person(ledger: Ledger) -> None:
    mails = mails_of(ledger, "Shop <orders@shop.test>", *DESKS)
    event = event_of("order.created", note="Ring twice", order_id=str(new_id()))
    envelope = envelope_of(event)
    for _ in range(2):
        await mails.write(event, envelope)
    found = [await ledger.find(str(stable_id(f"{NEW_ORDER_NOTICE}:{to}", envelope.id))) for to in DESKS]
    for to, one in zip(DESKS, found, strict=True):
        assert one is not None
        record, message = one
        text = text_of(message)
        assert (record.recipient, record.kind, record.order_number) == (to, NEW_ORDER_NOTICE, 10482)
        assert f"https://shop.test/#/desk/orders/{event.order_id}" in text
        assert not [word for word in ("Ann", ANN, "Ring") if word in text]
    assert len({one[0].message_id for one in found if one}) == len(DESKS)


async def test_an_order_mail_links_to_the_order_with_a_signed_token(mails: Mails, ledger: Ledger) -> None:
    order_id = new_id()
    event = event_of("order.created", order_id=str(order_id))
    envelope = envelope_of(event)
    await mails.write(event, envelope)
    found = await ledger.find(str(envelope.id))
    assert found is not None
    links = re.findall(r"https://shop.test/order/(\S+)", text_of(found[1]))
    assert links == [LinkTokens(ORDER_LINK, "a secret").sign(order_id, ANN)]


async def test_a_foreign_body_is_mailed_in_the_currency_and_language_of_the_shop(
    mails: Mails, ledger: Ledger
) -> None:
    event = event_of("order.created", user_id="")
    envelope = envelope_of(event, currency="", language="", subject="")
    await mails.write(event, envelope)
    found = await ledger.find(str(envelope.id))
    assert found is not None
    text = text_of(found[1])
    assert "25,00\xa0CHF" in text
    assert "Produit 17" in text
    assert "/order/" not in text


def messages(folder: Path, to: str) -> list[Any]:
    """What the development mailbox holds for an address."""
    paths = sorted((folder / "mailbox").glob("*.eml"))
    found = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in paths]
    return [message for message in found if message["To"].addresses[0].addr_spec == to]


def test_what_is_mailed_and_what_there_are_kinds_for_is_the_same() -> None:
    assert {event.type for event in MAILED} | {UserErased.type, NEW_ORDER_NOTICE} == set(KINDS)
    assert OrderCreated in MAILED
