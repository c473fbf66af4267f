"""Changes of orders and their history, on a real PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg  # type: ignore[import-untyped]
import msgspec
import pytest

from purveyor.kit.clock import now
from purveyor.kit.db.migrate import load, migrate
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import NotFound
from purveyor.kit.ids import new_id
from purveyor.kit.money import to_major
from purveyor.registry import ROLES
from purveyor.roles.auth.contract import Principal
from purveyor.roles.email.contract import SUPERSEDED
from purveyor.roles.orders.events import status_event
from purveyor.roles.orders.model import ChangedBy, MailOutcome, OrderFilter, Transition
from purveyor.roles.orders.store import _ADD_MAILS, HistoryStore, OrderStore
from purveyor_drill.servers.postgres import PostgresServer
from query_plans import kept_plan
from roles.orders.samples import buyer, new_order
from waiting import PATIENCE_S

CLERK = ChangedBy("staff", "clerk 1", "Grace")


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


@pytest.fixture
def histories(database: Database) -> HistoryStore:
    return HistoryStore(database)


async def placed(store: OrderStore, who: Principal | None = None) -> UUID:
    return (await store.add(new_order(who or buyer()))).order_id


async def step(
    store: OrderStore, order_id: UUID, status: str | None = None, payment: str | None = None, reason: str = ""
) -> Transition:
    stored = await store.find(order_id, None)
    order = stored.order.become(status=status, payment_status=payment, at=now())
    event = status_event(order, stored, reason) if status else None
    return Transition(
        order=order,
        was=stored.order.version,
        entries=tuple(filter(None, (status, payment))),
        by=CLERK,
        reason=reason,
        request_id="request 2",
        event=event and msgspec.structs.replace(event, correlation_id="request 2"),
    )


def mail(event_id: str = "event 1", state: str = "sent", resends: int = 0) -> MailOutcome:
    return MailOutcome(
        event_id=event_id,
        kind="order.created",
        state=state,
        attempts=1,
        resends=resends,
        smtp_reply="250 Ok",
        error="",
    )


async def outbox(database: Database, order_id: UUID) -> list[tuple[str, int]]:
    rows = await database.fetch(
        "select type, sequence from orders.outbox where subject = $1 order by sequence", str(order_id)
    )
    return [tuple(row) for row in rows]


async def test_a_change_its_history_and_its_event_are_stored_together(
    store: OrderStore, histories: HistoryStore, database: Database
) -> None:
    ada = buyer()
    order_id = await placed(store, ada)
    made = await step(store, order_id, "cancelled", "paid", "out of stock")

    assert await store.change(made)
    assert await store.get(order_id, None) == made.order
    timeline = await histories.timeline(order_id, ada.user_id)
    assert [(entry.id, entry.what) for entry in timeline.entries] == [(1, "placed"), (2, "cancelled"), (3, "paid")]
    assert {(entry.by, entry.reason, entry.request_id, entry.at) for entry in timeline.entries[1:]} == {
        (CLERK, "out of stock", "request 2", made.order.updated_at)
    }
    first = timeline.entries[0]
    assert (first.by, first.request_id) == (ChangedBy("customer", ada.user_id, ada.name), "request 1")
    assert await outbox(database, order_id) == [("order.created", 1), ("order.cancelled", 2)]
    row = await database.fetchrow("select * from orders.outbox where type = 'order.cancelled' order by id desc")
    assert row is not None
    body = json.loads(row["body"])
    assert (body["user_email"], body["reason"], body["total_amount"]) == (ada.email, "out of stock", 65.48)
    assert (row["language"], row["currency"], row["correlation_id"]) == ("de", "EUR", "request 2")


async def test_a_payment_has_history_and_no_event(
    store: OrderStore, histories: HistoryStore, database: Database
) -> None:
    order_id = await placed(store)

    assert await store.change(await step(store, order_id, payment="paid"))
    assert [entry.what for entry in (await histories.timeline(order_id, None)).entries] == ["placed", "paid"]
    assert await outbox(database, order_id) == [("order.created", 1)]


async def test_a_stale_change_changes_nothing(
    store: OrderStore, histories: HistoryStore, database: Database
) -> None:
    order_id = await placed(store)
    first, second = await step(store, order_id, "confirmed"), await step(store, order_id, "cancelled")

    assert await store.change(first)
    assert not await store.change(second)
    assert not await store.change(first)
    assert (await store.get(order_id, None)).status == "confirmed"
    assert len((await histories.timeline(order_id, None)).entries) == 2
    assert await outbox(database, order_id) == [("order.created", 1), ("order.confirmed", 2)]


@pytest.fixture
async def other_process(dsn: str) -> AsyncIterator[Database]:
    async with open_database(dsn, application="tests, another process", max_size=10) as opened:
        yield opened


async def test_of_many_changes_at_once_one_is_made(
    store: OrderStore, histories: HistoryStore, other_process: Database, database: Database
) -> None:
    stores = (store, OrderStore(other_process))
    for _ in range(5):
        order_id = await placed(store)
        steps = [await step(store, order_id, status) for status in ("confirmed", "cancelled") * 5]
        outcomes = await asyncio.gather(*(stores[place % 2].change(one) for place, one in enumerate(steps)))

        assert sum(outcomes) == 1
        assert (await store.get(order_id, None)).version == 2
        assert len((await histories.timeline(order_id, None)).entries) == 2
        assert len(await outbox(database, order_id)) == 2


async def test_ids_are_in_the_order_of_the_commits(
    store: OrderStore, histories: HistoryStore, other_process: Database
) -> None:
    """Whoever has read up to an id has read all that was committed before: nothing comes in between later."""
    order_id = await placed(store)
    writers = (histories, HistoryStore(other_process))
    seen: list[int] = []

    async def read() -> None:
        while len(seen) < 40:
            news = await histories.news({order_id: max(seen, default=1)})
            seen.extend(entry.id for entry in news.get(order_id, ()))

    async def write() -> None:
        await asyncio.gather(
            *(writers[n % 2].add_mail(order_id, mail(f"event {n}"), now()) for n in range(40)),
        )

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(read(), write())
    assert seen == list(range(2, 42))


async def test_outcomes_of_several_orders_at_once_fail_or_succeed_each_alone(
    store: OrderStore, histories: HistoryStore
) -> None:
    orders = [await placed(store) for _ in range(3)]
    outcomes = [mail(), mail("\x00"), mail()]
    added = await asyncio.gather(
        *(histories.add_mail(order_id, one, now()) for order_id, one in zip(orders, outcomes, strict=True)),
        histories.add_mail(new_id(), mail(), now()),
        return_exceptions=True,
    )
    assert [added[0], type(added[1]), *added[2:]] == [None, asyncpg.CharacterNotInRepertoireError, None, None]
    entries = [(await histories.timeline(order_id, None)).entries for order_id in orders]
    assert [len(found) for found in entries] == [2, 1, 2]


async def test_outcomes_of_one_order_at_once_are_noted_in_their_order(
    store: OrderStore, histories: HistoryStore
) -> None:
    order_id, other_id = await placed(store), await placed(store)
    outcomes = [mail(state="failed"), mail(resends=1), mail("event 2", "failed")]
    await asyncio.gather(
        histories.add_mail(other_id, mail(), now()),  # the others wait for it and form a group
        *(histories.add_mail(order_id, outcome, now()) for outcome in outcomes),
        histories.add_mail(other_id, mail(state="failed"), now()),
    )
    entries = (await histories.timeline(order_id, None)).entries[1:]
    assert [(entry.id, entry.mail) for entry in entries] == list(enumerate(outcomes, 2))
    troubles = await store.page(OrderFilter(mail_trouble=True), 100)
    assert [found.order.id for found in troubles] == [order_id], "the first email was sent after all"


async def test_orders_of_outcomes_are_found_by_their_key_however_few_there_are(database: Database) -> None:
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            # Their statistics go with them.
            await connection.execute("truncate orders.orders, orders.mail_troubles cascade")
            plan = await kept_plan(connection, _ADD_MAILS)
        finally:
            await transaction.rollback()
    assert "Index Scan using orders_pkey on orders" in plan
    assert "Seq Scan" not in plan


async def test_a_mail_is_noted_once_for_each_state_and_resend(
    store: OrderStore, histories: HistoryStore, other_process: Database
) -> None:
    order_id = await placed(store)
    outcomes = [mail(), mail(state="unknown"), mail(resends=1), mail("event 2")]
    writers = (histories, HistoryStore(other_process))
    await asyncio.gather(*(writers[n % 2].add_mail(order_id, outcomes[n % 4], now()) for n in range(24)))
    entries = (await histories.timeline(order_id, None)).entries[1:]

    assert sorted((e.mail.event_id, e.mail.state, e.mail.resends) for e in entries if e.mail) == sorted(
        (outcome.event_id, outcome.state, outcome.resends) for outcome in outcomes
    )
    assert [entry.id for entry in entries] == sorted(entry.id for entry in entries)
    assert {entry.by.kind for entry in entries} == {"system"}
    assert (await store.get(order_id, None)).version == 1, "a mail is no change of the order"


async def test_a_mail_of_no_order_of_ours_is_not_noted(histories: HistoryStore) -> None:
    order_id = new_id()
    await histories.add_mail(order_id, mail(), now())

    assert await histories.news({order_id: 0}) == {}
    with pytest.raises(NotFound):
        await histories.timeline(order_id, None)


async def test_what_a_mail_server_says_can_be_stored(store: OrderStore, histories: HistoryStore) -> None:
    order_id = await placed(store)
    said = MailOutcome(
        **{**{n: getattr(mail(), n) for n in MailOutcome.__struct_fields__}, "smtp_reply": "\x00" * 9}
    )
    await histories.add_mail(order_id, said, now())
    entry = (await histories.timeline(order_id, None)).entries[1]

    assert entry.mail
    assert entry.mail.smtp_reply == "\\x00" * 9


async def test_news_are_what_came_after(store: OrderStore, histories: HistoryStore) -> None:
    first, second, third = [await placed(store) for _ in range(3)]
    for order_id in (first, second):
        await store.change(await step(store, order_id, "confirmed"))
        await store.change(await step(store, order_id, payment="paid"))
    news = await histories.news({first: 1, second: 2, third: 1})

    assert {order_id: [entry.what for entry in entries] for order_id, entries in news.items()} == {
        first: ["confirmed", "paid"],
        second: ["paid"],
    }
    assert await histories.news({}) == {}


async def test_a_timeline_is_its_owners(store: OrderStore, histories: HistoryStore) -> None:
    ada = buyer()
    order_id = await placed(store, ada)

    assert (await histories.timeline(order_id, ada.user_id)).order_id == order_id
    for which, owner in ((order_id, buyer().user_id), (new_id(), ada.user_id), (order_id, "")):
        with pytest.raises(NotFound, match="There is no such order"):
            await histories.timeline(which, owner)


async def test_a_trace_tells_of_the_history(store: OrderStore, histories: HistoryStore) -> None:
    order_id = await placed(store)
    await store.change(await step(store, order_id, "cancelled", reason="out of stock"))
    await histories.add_mail(order_id, mail(), now())
    steps = (await store.trace(str(order_id))).steps[-1:]

    assert [(one.what, one.detail) for one in steps] == [
        ("cancelled", "by staff Grace (clerk 1), out of stock, request request 2"),
    ], "role email tells of the mails itself"


async def test_orders_from_before_the_history_have_one(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """An installation of the release before is brought up to date with its orders."""
    migrations = ROLES["orders"].migrations
    assert migrations is not None
    first = load(migrations)[0]
    (tmp_path / f"{first.name}.sql").write_text(first.sql)
    url = postgres_server.create_database("orders_before_history")
    await migrate(url, "orders", tmp_path)
    order_id = new_id()
    async with open_database(url, application="tests", max_size=2) as opened:
        await opened.execute(
            "insert into orders.orders values ($1, 1, 'u', 'a@x', 'Ada', 'pending', 'unpaid', 'card', 'EUR', 100, "
            "null, '', 1, 'request 1', now(), now())",
            order_id,
        )
        await opened.execute("insert into orders.order_items values ($1, 1, 1, 'Kettle', 1, 100)", order_id)
    later = [f"orders {migration.name}" for migration in load(migrations)[1:]]
    assert await migrate(url, "orders", migrations) == later
    async with open_database(url, application="tests", max_size=2) as opened:
        store, histories = OrderStore(opened), HistoryStore(opened)
        assert await store.change(await step(store, order_id, "confirmed"))
        entries = (await histories.timeline(order_id, "u")).entries
        assert [(entry.id, entry.what, entry.by.name) for entry in entries] == [
            (1, "placed", "Ada"),
            (2, "confirmed", "Grace"),
        ]


async def test_amounts_of_before_stay_right_in_every_currency(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Every amount was stored in hundredths."""
    migrations = ROLES["orders"].migrations
    assert migrations is not None
    for old in load(migrations)[:2]:
        (tmp_path / f"{old.name}.sql").write_text(old.sql)
    url = postgres_server.create_database("orders_in_hundredths")
    await migrate(url, "orders", tmp_path)
    ids = {currency: new_id() for currency in ("EUR", "JPY", "KWD", "CLF", "ABC")}
    async with open_database(url, application="tests", max_size=2) as opened:
        for number, (currency, order_id) in enumerate(ids.items()):
            await opened.execute(
                "insert into orders.orders values ($1, $2, 'u', 'a@x', 'Ada', 'pending', 'unpaid', 'card', $3, "
                "7000, null, '', 1, 'request 1', now(), now())",
                order_id,
                number,
                currency,
            )
            await opened.execute(
                "insert into orders.order_items values ($1, 1, 1, 'Kettle', 2, 2500), ($1, 2, 2, 'Cup', 1, 2000)",
                order_id,
            )
    await migrate(url, "orders", migrations)
    async with open_database(url, application="tests", max_size=2) as opened:
        for currency, order_id in ids.items():
            order = await OrderStore(opened).get(order_id, None)
            assert (to_major(order.total, currency), order.total) == (70, sum(line.total for line in order.lines))
            assert [to_major(line.price, currency) for line in order.lines] == [25, 20]


TROUBLED = [
    ([("sent", 0, "")], False),
    ([("failed", 0, "550 no such user")], True),
    ([("unknown", 0, "")], True),
    ([("failed", 0, f"{SUPERSEDED}order.cancelled")], False),
    ([("failed", 0, "550"), ("sent", 1, "")], False),
    ([("sent", 0, ""), ("failed", 1, "550")], True),
    ([("failed", 0, "550"), ("sent", 1, ""), ("failed", 0, "550")], False),  # delivered again
]


@pytest.mark.parametrize(("outcomes", "troubled"), TROUBLED)
async def test_an_order_has_mail_trouble_until_the_mail_is_sent(
    store: OrderStore, histories: HistoryStore, outcomes: list[tuple[str, int, str]], troubled: bool
) -> None:
    order_id = await placed(store)
    for state, resends, error in outcomes:
        outcome = msgspec.structs.replace(mail(state=state, resends=resends), error=error)
        await histories.add_mail(order_id, outcome, now())
    listed = await store.page(OrderFilter(mail_trouble=True), 100)
    assert (order_id in [found.order.id for found in listed]) is troubled
    others = await store.page(OrderFilter(mail_trouble=False), 100)
    assert (order_id in [found.order.id for found in others]) is not troubled
