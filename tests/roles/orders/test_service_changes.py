"""Changing and cancelling orders: who may, on what condition, and what happens when several do at once."""

import asyncio
from uuid import UUID

import msgspec
import pytest

from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import Conflict, Forbidden, NotFound
from purveyor.kit.ids import new_id
from purveyor.roles.auth.contract import GetProfile, Principal, Profile
from purveyor.roles.orders.contract import IllegalTransition, PreconditionFailed, PreconditionRequired
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.model import Transition
from purveyor.roles.orders.service import Changes, OrderChange
from purveyor.roles.orders.store import HistoryStore, OrderStore
from roles.orders.samples import buyer, identity, new_order

CONFIRM = OrderChange(status="confirmed")
ANY = IfMatch(None)
FIRST = IfMatch(frozenset(["1"]))


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


@pytest.fixture
def committed() -> list[UUID]:
    return []


@pytest.fixture
def changes(store: OrderStore, committed: list[UUID]) -> Changes:
    return Changes(store, identity(), committed=committed.append)


async def placed(store: OrderStore, who: Principal) -> str:
    return str((await store.add(new_order(who))).order_id)


async def test_others_hear_of_a_change_and_not_of_a_refusal(
    store: OrderStore, changes: Changes, committed: list[UUID]
) -> None:
    clerk, order_id = buyer("staff"), await placed(store, buyer())
    changed = await changes.change(clerk, order_id, CONFIRM, FIRST)

    assert committed == [changed.order.id]
    with pytest.raises(PreconditionFailed):
        await changes.change(clerk, order_id, OrderChange(status="shipped"), FIRST)
    with pytest.raises(IllegalTransition):
        await changes.change(clerk, order_id, OrderChange(status="delivered"), ANY)
    assert committed == [changed.order.id]


async def test_only_staff_change_and_nobody_learns_of_others_orders(store: OrderStore, changes: Changes) -> None:
    ada = buyer()
    order_id = await placed(store, ada)

    with pytest.raises(Forbidden):
        await changes.change(ada, order_id, CONFIRM, None)
    for who, which in ((buyer(), order_id), (ada, str(new_id())), (buyer("staff"), "no id")):
        with pytest.raises(NotFound):
            await changes.change(who, which, CONFIRM, None)
        with pytest.raises(NotFound):
            await changes.cancel(who, which, "", None)
    with pytest.raises(PreconditionRequired):
        await changes.change(buyer("admin"), order_id, CONFIRM, None)


async def test_who_needs_no_version_is_told_of_the_rules_after_anothers_change(
    store: OrderStore, changes: Changes
) -> None:
    clerk = buyer("staff")
    for _ in range(5):
        ada = buyer()
        order_id = await placed(store, ada)
        outcomes = await asyncio.gather(
            changes.cancel(ada, order_id, "", None),
            changes.change(clerk, order_id, CONFIRM, ANY),
            return_exceptions=True,
        )
        order = await store.get(UUID(order_id), None)

        assert order.status == "cancelled", "a confirmed order can be cancelled; a cancelled one stays so"
        assert isinstance(outcomes[1], IllegalTransition) == (order.version == 2)


class Contested(OrderStore):
    """Somebody else is always faster."""

    async def change(self, step: Transition) -> bool:
        return False


async def test_who_is_never_first_gives_up(database: Database, committed: list[UUID]) -> None:
    store = Contested(database)
    changes = Changes(store, identity(), committed=committed.append)
    ada = buyer()
    order_id = await placed(store, ada)

    with pytest.raises(Conflict, match="Try again"):
        await changes.cancel(ada, order_id, "", None)
    assert committed == []


async def test_the_owner_is_a_customer_even_among_staff(
    database: Database, store: OrderStore, changes: Changes
) -> None:
    clerk = buyer("staff")
    order_id = await placed(store, clerk)
    await changes.cancel(clerk, order_id, "bought twice", None)
    entries = (await HistoryStore(database).timeline(UUID(order_id), None)).entries

    assert [entry.by.kind for entry in entries] == ["customer", "customer"]


async def test_an_event_about_a_change_is_for_the_current_profile(store: OrderStore, database: Database) -> None:
    async def renamed(ask: GetProfile) -> Profile:
        assert ask.user_id == ada.user_id
        return Profile(email="elsewhere@example.com", name="Ada King", language="fr")

    ada, clerk = buyer(), buyer("staff")
    order_id = await placed(store, ada)
    changes = Changes(store, identity(profile=renamed), committed=lambda _: None)
    await changes.change(clerk, order_id, OrderChange(status="confirmed", payment_status="paid"), FIRST)
    rows = await database.fetch(
        "select type, language, convert_from(body, 'UTF8')::json as body from orders.outbox "
        "where subject = $1 and sequence = 2 order by type",
        order_id,
    )
    events = [(row["type"], row["language"], msgspec.json.decode(row["body"])) for row in rows]
    assert [(kind, language) for kind, language, _ in events] == [("order.confirmed", "fr"), ("order.paid", "fr")]
    for _, _, body in events:
        assert (body["user_name"], body["user_email"]) == ("Ada King", ada.email)
        assert (body["payment_status"], body["order_id"]) == ("paid", order_id)
        assert [item["title"] for item in body["items"]]


@pytest.mark.parametrize(("payment_status", "kind"), [("paid", "order.paid"), ("refunded", "order.refunded")])
async def test_a_change_of_the_payment_alone_is_an_event(
    store: OrderStore, changes: Changes, database: Database, payment_status: str, kind: str
) -> None:
    order_id = await placed(store, buyer())
    if payment_status == "refunded":
        await changes.change(buyer("staff"), order_id, OrderChange(payment_status="paid"), FIRST)
    changed = await changes.change(buyer("staff"), order_id, OrderChange(payment_status=payment_status), ANY)
    assert kind == await database.fetchval(
        "select type from orders.outbox where subject = $1 and sequence = $2", order_id, changed.order.version
    )
