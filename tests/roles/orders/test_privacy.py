"""Personal data: erased everywhere but in the amounts, and handed out in parts."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import TokenInvalid
from purveyor.kit.events.message import Envelope
from purveyor.kit.ids import new_id
from purveyor.roles.auth.contract import Principal, UserErased, UserExportRequested
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.model import IdempotencyKey, MailOutcome, OrderFilter
from purveyor.roles.orders.privacy import PersonalData, PersonalDataStore
from purveyor.roles.orders.service import Changes, OrderChange
from purveyor.roles.orders.store import HistoryStore, OrderStore
from roles.orders.samples import HOME, Wakes, buyer, draft, identity, new_order

ENVELOPE = Envelope(id=new_id(), type="user.erased", body=b"{}", occurred_at=now())
SECRETS = ("Ada Lovelace", "@example.com", "High Street", "ring twice", "bought twice", "550 no such user")


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


@pytest.fixture
def histories(database: Database) -> HistoryStore:
    return HistoryStore(database)


@pytest.fixture
def wakes() -> Wakes:
    return Wakes()


@pytest.fixture
def personal(database: Database, store: OrderStore, histories: HistoryStore, wakes: Wakes) -> PersonalData:
    return PersonalData(PersonalDataStore(database), store, histories, committed=wakes)


async def erase(personal: PersonalData, who: Principal) -> None:
    await personal.erase(UserErased(user_id=who.user_id, user_email=who.email), ENVELOPE)


async def lived(store: OrderStore, histories: HistoryStore, who: Principal, clerk: Principal) -> Any:
    """An order with an address, a note, a key, a history with a reason, and a mail that did not arrive."""
    key = IdempotencyKey(who.user_id, str(new_id()), b"the request")
    order_id = (await store.add(new_order(who, draft(address=HOME, note="ring twice"), key))).order_id
    changes = Changes(store, identity(), committed=lambda _: None)
    await changes.change(
        clerk, str(order_id), OrderChange(status="confirmed", payment_status="paid"), IfMatch(None)
    )
    await changes.cancel(who, str(order_id), "bought twice", None)
    said = MailOutcome(
        event_id="event 1",
        kind="order.created",
        state="failed",
        attempts=1,
        resends=0,
        smtp_reply="550 no such user",
        error="550 no such user",
    )
    await histories.add_mail(order_id, said, now())
    return order_id


async def everything(database: Database, who: Principal) -> str:
    """All that is stored on a person's orders, as text."""
    rows = await database.fetch(
        """
        with mine as (select * from orders.orders where user_id = $1)
        select row_to_json(mine)::text || convert_from(coalesce(mine.shipping_address, ''), 'UTF8') from mine
        union all
        select row_to_json(h)::text from orders.history h where order_id in (select id from mine)
        union all
        select convert_from(body, 'UTF8') from orders.outbox where subject in (select id::text from mine)
        union all
        select convert_from(answer, 'UTF8') from orders.idempotency_keys where user_id = $1""",
        who.user_id,
    )
    return "\n".join(row[0] for row in rows)


def secrets(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


async def publish_all(database: Database) -> None:
    await database.execute("update orders.outbox set published_at = now() where published_at is null")


async def test_a_person_is_erased_and_the_amounts_stay(
    personal: PersonalData,
    store: OrderStore,
    histories: HistoryStore,
    database: Database,
    wakes: Wakes,
) -> None:
    ada, eve, clerk = buyer(), buyer(), msgspec.structs.replace(buyer("staff"), name="Grace Hopper")
    order_id = await lived(store, histories, ada, clerk)
    other = await lived(store, histories, eve, clerk)
    before = await store.get(order_id, None)
    await publish_all(database)
    assert secrets(await everything(database, ada)) == list(SECRETS)
    await erase(personal, ada)

    assert secrets(await everything(database, ada)) == []
    assert secrets(await everything(database, eve)) == list(SECRETS)
    after = await store.get(order_id, None)
    assert (after.shipping_address, after.note, after.version) == (None, "", before.version + 1)
    assert (after.lines, after.total, after.number, after.status, after.user_id) == (
        before.lines,
        before.total,
        before.number,
        before.status,
        ada.user_id,
    )
    entries = (await histories.timeline(order_id, None)).entries
    assert [entry.what for entry in entries] == [
        "placed",
        "confirmed",
        "paid",
        "cancelled",
        "mail_failed",
        "erased",
    ]
    assert [entry.by.name for entry in entries] == ["", clerk.name, clerk.name, "", "", ""]
    assert (await store.get(other, None)).note == "ring twice"
    assert wakes.count == 1


async def test_published_events_stay_what_their_type_promises(
    personal: PersonalData, store: OrderStore, histories: HistoryStore, database: Database
) -> None:
    ada = buyer()
    order_id = await lived(store, histories, ada, buyer("staff"))
    await publish_all(database)
    await erase(personal, ada)
    rows = await database.fetch("select type, body from orders.outbox where subject = $1", str(order_id))
    bodies = {row["type"]: json.loads(row["body"]) for row in rows}

    assert set(bodies) == {"order.created", "order.confirmed", "order.paid", "order.cancelled"}
    for body in bodies.values():
        assert (body["user_email"], body["user_name"], body["total_amount"]) == ("", "", 65.48)
        item = {"product_id": 1, "quantity": 2, "price": 29.99, "total_amt": 59.98, "title": "Kettle"}
        assert body["items"][0] == item
        assert (body["note"], body["shipping_address"]) == ("", None)
    assert bodies["order.cancelled"]["reason"] == ""


async def test_what_is_still_to_be_published_is_erased_afterwards(
    personal: PersonalData, store: OrderStore, histories: HistoryStore, database: Database
) -> None:
    """Its mail was promised with the order; who it went to is forgotten once it has gone."""
    ada = buyer()
    await lived(store, histories, ada, buyer("staff"))
    await erase(personal, ada)
    assert ada.email in await everything(database, ada)
    await publish_all(database)
    await PersonalDataStore(database).sweep()

    assert ada.email not in await everything(database, ada)


async def answers(database: Database, who: Principal) -> list[Any]:
    return list(
        await database.fetch(
            "select id, published_at, body from orders.outbox where type = 'order_data.erased' and subject = $1",
            who.user_id,
        )
    )


async def test_an_erasure_is_answered_once_and_again_when_asked_again(
    personal: PersonalData, store: OrderStore, histories: HistoryStore, database: Database
) -> None:
    ada = buyer()
    order_id = await lived(store, histories, ada, buyer("staff"))
    await asyncio.gather(*(erase(personal, ada) for _ in range(4)))
    (first,) = await answers(database, ada)
    version = (await store.get(order_id, None)).version
    await publish_all(database)
    await erase(personal, ada)
    (again,) = await answers(database, ada)

    assert json.loads(first["body"]) == {"user_id": ada.user_id, "retained": 0}
    assert (again["id"], again["published_at"]) == (first["id"], None)
    assert (await store.get(order_id, None)).version == version
    whats = [entry.what for entry in (await histories.timeline(order_id, None)).entries]
    assert whats.count("erased") == 1


async def test_who_has_no_orders_is_answered_too(personal: PersonalData, database: Database) -> None:
    nobody = buyer()
    await erase(personal, nobody)

    assert len(await answers(database, nobody)) == 1


async def test_many_orders_are_erased_in_batches(
    personal: PersonalData, store: OrderStore, database: Database
) -> None:
    ada = buyer()
    for _ in range(9):
        await asyncio.gather(*(store.add(new_order(ada, draft((1, 1)))) for _ in range(50)))
    await deliver_all(database, ada)
    await publish_all(database)
    await erase(personal, ada)

    assert "Ada" not in await everything(database, ada)
    assert len(await answers(database, ada)) == 1


@pytest.mark.parametrize("keyed", [True, False])
async def test_an_erased_user_orders_nothing_more(
    personal: PersonalData, store: OrderStore, database: Database, keyed: bool
) -> None:
    ada = buyer()
    await erase(personal, ada)
    key = IdempotencyKey(ada.user_id, "key 1", b"the request") if keyed else None

    with pytest.raises(TokenInvalid):
        await store.add(new_order(ada, key=key))
    assert await store.list(OrderFilter(user_id=ada.user_id), 10) == []
    assert (
        await database.fetchval("select count(*) from orders.idempotency_keys where user_id = $1", ada.user_id)
        == 0
    )


async def test_an_order_of_the_same_moment_is_erased_by_the_next_sweep(
    personal: PersonalData, store: OrderStore, database: Database
) -> None:
    """It was being stored when its buyer was erased: neither could see the other."""
    ada = buyer()
    await store.add(new_order(ada, draft(address=HOME, note="ring twice")))
    await deliver_all(database, ada)
    await database.execute("insert into orders.erased_users (user_id, erased_at) values ($1, now())", ada.user_id)
    await publish_all(database)
    await PersonalDataStore(database).sweep()

    assert secrets(await everything(database, ada)) == []


async def test_while_orders_come_in_an_erasure_leaves_nothing(
    personal: PersonalData, store: OrderStore, database: Database
) -> None:
    ada = buyer()
    adding = (store.add(new_order(ada, draft(note="ring twice"))) for _ in range(40))
    outcomes, _ = await asyncio.gather(asyncio.gather(*adding, return_exceptions=True), erase(personal, ada))
    await publish_all(database)
    await deliver_all(database, ada)
    await PersonalDataStore(database).sweep()

    assert {type(outcome).__name__ for outcome in outcomes} <= {"StoredAnswer", "TokenInvalid"}
    assert "ring twice" not in await everything(database, ada)
    assert ada.email not in await everything(database, ada)


async def test_in_time_it_is_forgotten_who_was_erased(personal: PersonalData, database: Database) -> None:
    ada, eve = buyer(), buyer()
    for who in (ada, eve):
        await erase(personal, who)
    await database.execute(
        "update orders.erased_users set erased_at = now() - interval '31 days' where user_id = $1", ada.user_id
    )
    await PersonalDataStore(database).sweep()
    rows = await database.fetch("select user_id from orders.erased_users")

    assert ada.user_id not in {row[0] for row in rows}
    assert eve.user_id in {row[0] for row in rows}


async def deliver_all(database: Database, who: Principal, days_ago: int = 15) -> None:
    """Make all orders of a person delivered so many days ago."""
    await database.execute(
        """
        with closed as (
            update orders.orders set status = 'delivered', entries = entries + 1,
                updated_at = now() - make_interval(days => $2)
            where user_id = $1 returning id, entries, updated_at
        )
        insert into orders.history (order_id, id, at, what, actor)
        select id, entries, updated_at, 'delivered', 'staff' from closed""",
        who.user_id,
        days_ago,
    )


async def told(database: Database, who: Principal) -> list[int]:
    """How many orders the erasure waits for, as it was answered one after the other."""
    return [json.loads(answer["body"])["retained"] for answer in sorted(await answers(database, who))]


async def test_an_open_order_keeps_what_its_delivery_needs(
    personal: PersonalData, store: OrderStore, histories: HistoryStore, database: Database
) -> None:
    ada, clerk = buyer(), buyer("staff")
    order_id = (await store.add(new_order(ada, draft(address=HOME, note="ring twice")))).order_id
    await lived(store, histories, ada, clerk)
    await publish_all(database)
    await erase(personal, ada)
    kept = await store.find(order_id, None)

    assert (kept.buyer.email, kept.buyer.name, kept.order.shipping_address) == (ada.email, ada.name, HOME)
    assert kept.order.note == ""
    assert not kept.erased
    assert await told(database, ada) == [1]
    changes = Changes(store, identity(), committed=lambda _: None)
    await changes.change(clerk, str(order_id), OrderChange(status="confirmed"), IfMatch(None))
    rows = await database.fetch(
        "select body from orders.outbox where type = 'order.confirmed' and published_at is null"
    )
    assert [json.loads(row["body"])["user_email"] for row in rows] == [ada.email]


async def test_kept_data_is_erased_fourteen_days_after_the_order_is_closed(
    personal: PersonalData, store: OrderStore, database: Database
) -> None:
    ada = buyer()
    for _ in range(2):
        await store.add(new_order(ada, draft(address=HOME, note="ring twice")))
    await publish_all(database)
    await erase(personal, ada)
    await deliver_all(database, ada, days_ago=13)
    await personal.sweep()
    assert ada.email in await everything(database, ada)
    await deliver_all(database, ada, days_ago=15)
    await database.execute("delete from orders.history where at > now() - interval '14 days'")
    await erase(personal, ada)
    await publish_all(database)
    await personal.sweep()

    assert secrets(await everything(database, ada)) == []
    assert await told(database, ada) == [2, 0]


async def test_erasure_that_waits_outlasts_the_memory_of_the_others(
    personal: PersonalData, store: OrderStore, database: Database
) -> None:
    ada = buyer()
    await store.add(new_order(ada, draft(address=HOME, note="ring twice")))
    await publish_all(database)
    await erase(personal, ada)
    await database.execute("update orders.erased_users set erased_at = now() - interval '60 days'")
    await personal.sweep()
    assert ada.email in await everything(database, ada)
    await deliver_all(database, ada)
    await personal.sweep()
    await publish_all(database)
    await personal.sweep()

    assert secrets(await everything(database, ada)) == []
    assert await told(database, ada) == [1, 0]


async def test_open_orders_are_cancelled_where_that_is_wished_and_possible(
    personal: PersonalData, store: OrderStore, database: Database
) -> None:
    ada, clerk = buyer(), buyer("staff")
    pending, shipped = [(await store.add(new_order(ada, draft(address=HOME)))).order_id for _ in range(2)]
    changes = Changes(store, identity(), committed=lambda _: None)
    for status in ("confirmed", "shipped"):
        await changes.change(clerk, str(shipped), OrderChange(status=status), IfMatch(None))
    wish = UserErased(user_id=ada.user_id, user_email=ada.email, cancel_open_orders=True)
    for _ in range(2):
        await personal.erase(wish, ENVELOPE)

    assert [(await store.get(order_id, None)).status for order_id in (pending, shipped)] == [
        "cancelled",
        "shipped",
    ]
    rows = await database.fetch("select body from orders.outbox where type = 'order.cancelled'")
    assert [json.loads(row["body"])["user_email"] for row in rows if str(ada.email) in str(row["body"])] == [
        ada.email
    ]
    assert (await store.find(pending, None)).buyer.email == ada.email, "kept for 14 days"
    assert await told(database, ada) == [2]


async def test_nobody_is_written_to_about_an_erased_order(
    personal: PersonalData, store: OrderStore, histories: HistoryStore, database: Database
) -> None:
    ada, clerk = buyer(), buyer("staff")
    order_id = (await store.add(new_order(ada))).order_id
    await deliver_all(database, ada)
    await erase(personal, ada)
    changes = Changes(store, identity(), committed=lambda _: None)
    changed = await changes.change(clerk, str(order_id), OrderChange(payment_status="paid"), IfMatch(None))
    late = MailOutcome(
        event_id="e", kind="order.created", state="failed", attempts=1, resends=0, smtp_reply=ada.email, error="x"
    )
    await histories.add_mail(order_id, late, now())

    assert (changed.order.payment_status, changed.order.version) == ("paid", 3)
    rows = await database.fetch("select type from orders.outbox where subject = $1", str(order_id))
    assert [row["type"] for row in rows] == ["order.created"]
    entry = (await histories.timeline(order_id, None)).entries[-1]
    assert entry.mail
    assert (entry.mail.smtp_reply, entry.mail.error) == ("", "")


async def test_a_clerk_who_is_erased_has_no_name_in_others_histories(
    personal: PersonalData, store: OrderStore, histories: HistoryStore
) -> None:
    ada, clerk = buyer(), buyer("staff")
    order_id = await lived(store, histories, ada, clerk)
    await erase(personal, clerk)
    entries = {entry.what: entry for entry in (await histories.timeline(order_id, None)).entries}

    assert (entries["confirmed"].by.id, entries["confirmed"].by.name) == (clerk.user_id, "")
    assert (entries["placed"].by.name, entries["cancelled"].reason) == (ada.name, "bought twice")


async def exported(database: Database, export_id: str) -> list[Any]:
    rows = await database.fetch(
        "select body, length(body) as size from orders.outbox where subject = $1 order by sequence", export_id
    )
    assert all(row["size"] < 200_000 for row in rows)
    return [json.loads(row["body"]) for row in rows]


async def export(personal: PersonalData, who: Principal) -> str:
    export_id = str(new_id())
    wanted = UserExportRequested(export_id=export_id, user_id=who.user_id, user_email=who.email)
    await asyncio.gather(*(personal.export(wanted, ENVELOPE) for _ in range(2)))
    return export_id


async def test_an_export_holds_the_orders_with_their_history(
    personal: PersonalData, store: OrderStore, histories: HistoryStore, database: Database
) -> None:
    ada, clerk = buyer(), buyer("staff")
    order_id = await lived(store, histories, ada, clerk)
    await lived(store, histories, buyer(), clerk)
    export_id = await export(personal, ada)
    (part,) = await exported(database, export_id)

    assert (part["export_id"], part["part"], part["parts"]) == (export_id, 1, 1)
    (order,) = json.loads(part["document"])
    assert (order["id"], order["note"], order["total_amount"]) == (str(order_id), "ring twice", 65.48)
    assert (order["user_name"], order["user_email"], order["language"]) == (ada.name, ada.email, "de")
    assert order["shipping_address"]["line1"] == "1 High Street"
    whats = [entry["what"] for entry in order["history"]]
    assert whats == ["placed", "confirmed", "paid", "cancelled", "mail_failed"]
    assert clerk.user_id not in part["document"]


async def test_an_export_of_nothing_is_one_empty_part(personal: PersonalData, database: Database) -> None:
    (part,) = await exported(database, await export(personal, buyer()))

    assert (part["part"], part["parts"], part["document"]) == (1, 1, "[]")


async def test_a_large_export_comes_in_parts(
    personal: PersonalData, store: OrderStore, database: Database
) -> None:
    ada = buyer()
    ids = {str((await store.add(new_order(ada, draft((1, 1))))).order_id) for _ in range(230)}
    found = await exported(database, await export(personal, ada))

    assert [(part["part"], part["parts"]) for part in found] == [(n, len(found)) for n in range(1, len(found) + 1)]
    assert len(found) >= 3
    documents = [json.loads(part["document"]) for part in found]
    assert all(len(document) <= 100 for document in documents)
    seen = [order["id"] for document in documents for order in document]
    assert len(seen) == len(ids)
    assert set(seen) == ids


async def test_an_export_that_waits_goes_with_its_person(
    personal: PersonalData, store: OrderStore, database: Database
) -> None:
    ada, eve = buyer(), buyer()
    mine, hers = await export(personal, ada), await export(personal, eve)
    await erase(personal, ada)

    assert await exported(database, mine) == []
    assert len(await exported(database, hers)) == 1
