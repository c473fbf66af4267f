"""An event that is held back is either undone or published, never both and never neither."""

from uuid import UUID

import msgspec
import pytest

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Connection, Database
from purveyor.kit.errors import Conflict, NotFound
from purveyor.kit.ids import new_id
from purveyor.roles.orders.contract import PreconditionFailed, UndoOver
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.model import ChangedBy, StoredOrder, Transition
from purveyor.roles.orders.service import Changes, OrderChange
from purveyor.roles.orders.store import OrderStore
from purveyor.roles.orders.undo import Correction, Undo, undo
from roles.orders.samples import buyer, identity, new_order

ANY = IfMatch(None)
BY = ChangedBy("staff", "1", "Grace")


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


async def held(store: OrderStore, *statuses: str, hold_s: int = 300) -> UUID:
    """An order that became this; the mail about the last status is held back."""
    order_id = (await store.add(new_order(buyer()))).order_id
    changes = Changes(store, identity(), committed=lambda _: None)
    for status in statuses:
        change = OrderChange(status=status, hold_mail_s=hold_s)
        await changes.change(buyer("staff"), str(order_id), change, ANY)
    return order_id


async def waiting(database: Database, order_id: UUID) -> list[tuple[str, bool]]:
    """Types of the order's events, each with whether it is due."""
    rows = await database.fetch(
        "select type, next_attempt_at <= now() as due from orders.outbox where subject = $1 order by id",
        str(order_id),
    )
    return [(row["type"], row["due"]) for row in rows]


async def test_an_undo_takes_the_event_back_and_restores_the_order(database: Database, store: OrderStore) -> None:
    order_id = await held(store, "confirmed")
    assert await waiting(database, order_id) == [("order.created", True), ("order.confirmed", False)]
    assert (await store.find(order_id, None)).undo_until is not None

    told: list[UUID] = []
    restored = await Undo(database, store, committed=told.append).undo(buyer("staff"), str(order_id), ANY)
    assert (restored.order.status, restored.order.version, restored.undo_until) == ("pending", 3, None)
    assert await waiting(database, order_id) == [("order.created", True)]
    assert told == [order_id]


async def test_only_the_last_change_is_undone_and_only_once(database: Database, store: OrderStore) -> None:
    undoing = Undo(database, store, committed=lambda _: None)
    order_id = await held(store, "confirmed", "shipped")
    clerk = buyer("staff")
    with pytest.raises(PreconditionFailed):
        await undoing.undo(clerk, str(order_id), IfMatch(frozenset(["2"])))
    assert (await undoing.undo(clerk, str(order_id), ANY)).order.status == "confirmed"
    assert await waiting(database, order_id) == [("order.created", True), ("order.confirmed", False)]
    with pytest.raises(UndoOver):
        await undoing.undo(clerk, str(order_id), ANY)
    with pytest.raises(NotFound):
        await undoing.undo(clerk, str(new_id()), ANY)


async def test_a_change_without_a_hold_lets_the_earlier_mail_go(database: Database, store: OrderStore) -> None:
    order_id = await held(store, "confirmed")
    await Changes(store, identity(), committed=lambda _: None).change(
        buyer("staff"), str(order_id), OrderChange(status="shipped"), ANY
    )
    assert [due for _, due in await waiting(database, order_id)] == [True, True, True]
    with pytest.raises(UndoOver):
        await Undo(database, store, committed=lambda _: None).undo(buyer("staff"), str(order_id), ANY)


async def test_a_relay_that_has_taken_the_event_cannot_be_undone(database: Database, store: OrderStore) -> None:
    order_id = await held(store, "confirmed")
    async with database.connection() as relay:
        transaction = relay.transaction()
        await transaction.start()
        await relay.execute("select id from orders.outbox where subject = $1 for update", str(order_id))
        with pytest.raises(UndoOver):
            async with database.transaction() as connection:
                await undo(connection, order_id, BY, ANY)
        await transaction.rollback()
    assert (await store.get(order_id, None)).status == "confirmed"
    assert len(await waiting(database, order_id)) == 2


@pytest.mark.parametrize(
    "handed_over",
    [
        "next_attempt_at = now()",  # its time has come: a relay may have published it and died
        "attempts = 1",
        "published_at = now()",
    ],
)
async def test_an_event_that_may_have_left_is_not_undone(
    database: Database, store: OrderStore, handed_over: str
) -> None:
    order_id = await held(store, "confirmed")
    await database.execute(
        f"update orders.outbox set {handed_over} where subject = $1 and type = 'order.confirmed'", str(order_id)
    )
    with pytest.raises(UndoOver):
        await Undo(database, store, committed=lambda _: None).undo(buyer("staff"), str(order_id), ANY)
    order = await store.get(order_id, None)
    assert (order.status, order.version) == ("confirmed", 2)


async def test_what_can_no_longer_be_undone_is_forgotten(database: Database, store: OrderStore) -> None:
    order_id = await held(store, "confirmed")
    await database.execute("update orders.undoable set until = now() where order_id = $1", order_id)
    undoing = Undo(database, store, committed=lambda _: None)
    with pytest.raises(UndoOver):
        await undoing.undo(buyer("staff"), str(order_id), ANY)
    await undoing.purge()
    assert await database.fetchval("select count(*) from orders.undoable where order_id = $1", order_id) == 0


class Overtaken(OrderStore):
    """Stores another change right after each."""

    async def change(self, transition: Transition, connection: Connection | None = None) -> bool:
        changed = await super().change(transition, connection)
        later = msgspec.structs.replace(
            transition,
            was=transition.order.version,
            order=msgspec.structs.replace(
                transition.order, version=transition.order.version + 1, payment_status="refunded"
            ),
        )
        await super().change(later, connection)
        return changed


async def test_correction_answers_with_the_version_that_it_made(database: Database, store: OrderStore) -> None:
    order_id = await held(store)
    admin, wish = buyer("admin"), Correction(status=None, payment_status="paid", reason="paid in cash")

    undoing = Undo(database, Overtaken(database), committed=lambda _: None)
    corrected = await undoing.correct(admin, str(order_id), wish, IfMatch(frozenset(["1"])))

    assert (corrected.order.version, corrected.order.payment_status) == (2, "paid")
    assert (await store.find(order_id, None)).order.version == 3


class ChangedSince(OrderStore):
    """Reads another version outside of a transaction, as after a change by others."""

    async def find(self, order_id: UUID, owner: str | None, connection: Connection | None = None) -> StoredOrder:
        stored = await super().find(order_id, owner, connection)
        return stored if connection else msgspec.structs.replace(stored, order=stored.order.become(at=now()))


@pytest.mark.parametrize(
    ("correction", "left"),
    [
        (Correction(status="confirmed", payment_status=None, reason="wrong order"), []),
        (Correction(status="cancelled", payment_status=None, reason="sold out"), []),
        (Correction(status=None, payment_status="paid", reason="paid in cash"), [("order.shipped", True)]),
    ],
)
async def test_correction_drops_the_held_event_of_what_it_takes_back(
    database: Database, store: OrderStore, correction: Correction, left: list[tuple[str, bool]]
) -> None:
    order_id = await held(store, "confirmed", "shipped")
    await Undo(database, store, committed=lambda _: None).correct(buyer("admin"), str(order_id), correction, ANY)

    assert await waiting(database, order_id) == [("order.created", True), ("order.confirmed", True), *left]


async def test_nothing_is_corrected_while_a_relay_has_the_event_to_be_dropped(
    database: Database, store: OrderStore
) -> None:
    order_id = await held(store, "confirmed", "shipped")
    correction = Correction(status="confirmed", payment_status=None, reason="wrong order")
    async with database.transaction() as relay:
        await relay.execute(
            "select from orders.outbox where subject = $1 and type = 'order.shipped' for update", str(order_id)
        )
        with pytest.raises(Conflict):
            await Undo(database, store, committed=lambda _: None).correct(
                buyer("admin"), str(order_id), correction, ANY
            )

    assert (await store.find(order_id, None)).order.status == "shipped"
    assert await waiting(database, order_id) == [
        ("order.created", True),
        ("order.confirmed", False),
        ("order.shipped", False),
    ]


async def test_undo_answers_with_the_version_that_it_made(database: Database, store: OrderStore) -> None:
    order_id = await held(store, "confirmed")
    undoing = Undo(database, ChangedSince(database), committed=lambda _: None)
    assert (await undoing.undo(buyer("staff"), str(order_id), ANY)).order.version == 3
