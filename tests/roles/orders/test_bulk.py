"""Jobs over many orders survive a process, and one order does not keep the others waiting."""

import asyncio
from uuid import UUID

import pytest

from purveyor.kit.db.postgres import Connection, Database
from purveyor.roles.auth.contract import GetProfile, Profile
from purveyor.roles.orders.bulk import BulkJobs
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.model import Transition
from purveyor.roles.orders.service import Changes, OrderChange
from purveyor.roles.orders.store import OrderStore
from roles.orders.samples import buyer, identity, new_order
from waiting import until


async def profile_of(_: GetProfile) -> Profile:
    return Profile(name="Countess Ada", language="fr")


IDENTITY = identity(profile=profile_of)


class Breaking(OrderStore):
    """A store that breaks once the change of an order is stored, and before its transaction is committed."""

    def __init__(self, database: Database, breaks_at: UUID, error: type[BaseException]) -> None:
        super().__init__(database)
        self._breaks_at = breaks_at
        self._error = error

    async def change(self, transition: Transition, connection: Connection | None = None) -> bool:
        changed = await super().change(transition, connection)
        if transition.order.id == self._breaks_at:
            raise self._error
        return changed


async def some_orders(store: OrderStore, count: int) -> list[UUID]:
    return [(await store.add(new_order(buyer()))).order_id for _ in range(count)]


async def work(jobs: BulkJobs, clerk: object, job_id: str) -> dict[str, str]:
    """Let the jobs run until this one is finished; the state of each order."""
    task = asyncio.create_task(jobs.run())

    async def finished() -> bool:
        return all(item.state != "waiting" for item in (await jobs.read(clerk, job_id)).items)  # type: ignore[arg-type]

    try:
        await until(finished)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return {item.order_id: item.state for item in (await jobs.read(clerk, job_id)).items}  # type: ignore[arg-type]


async def test_a_job_continues_where_a_process_died(database: Database) -> None:
    store, clerk, told = OrderStore(database), buyer("staff"), list[UUID]()
    orders = await some_orders(store, 3)
    dying = BulkJobs(database, Breaking(database, orders[1], KeyboardInterrupt), IDENTITY, committed=told.append)
    job = await dying.start(clerk, "confirm", orders, 0)
    with pytest.raises(KeyboardInterrupt):
        await dying._work()
    assert [item.state for item in (await dying.read(clerk, job.id)).items] == ["done", "waiting", "waiting"]

    states = await work(BulkJobs(database, store, IDENTITY, committed=told.append), clerk, job.id)
    assert set(states.values()) == {"done"}
    assert told == orders
    assert [(await store.get(order_id, None)).version for order_id in orders] == [2, 2, 2]
    events = await database.fetchval(
        "select count(*) from orders.outbox where subject = any($1) and type = 'order.confirmed'",
        [str(order_id) for order_id in orders],
    )
    assert events == 3


async def test_a_mail_is_written_to_what_the_buyer_is_called_now(database: Database) -> None:
    clerk = buyer("staff")
    [order_id] = await some_orders(OrderStore(database), 1)
    jobs = BulkJobs(database, OrderStore(database), IDENTITY, committed=lambda _: None)
    job = await jobs.start(clerk, "confirm", [order_id], 0)
    await work(jobs, clerk, job.id)
    event = await database.fetchrow(
        "select language, convert_from(body, 'UTF8') as body from orders.outbox "
        "where subject = $1 and type = 'order.confirmed'",
        str(order_id),
    )
    assert event is not None
    assert event["language"] == "fr"
    assert "Countess Ada" in event["body"]


async def test_an_order_that_breaks_is_said_and_tried_again(database: Database) -> None:
    store, clerk = OrderStore(database), buyer("staff")
    orders = await some_orders(store, 2)
    broken = BulkJobs(database, Breaking(database, orders[0], RuntimeError), IDENTITY, committed=lambda _: None)
    job = await broken.start(clerk, "confirm", orders, 0)
    states = await work(broken, clerk, job.id)
    assert [states[str(order_id)] for order_id in orders] == ["failed", "done"]
    assert (await store.get(orders[0], None)).status == "pending"

    mended = BulkJobs(database, store, IDENTITY, committed=lambda _: None)
    await mended.resume(clerk, job.id)
    assert set((await work(mended, clerk, job.id)).values()) == {"done"}


async def test_several_processes_change_each_order_once(database: Database) -> None:
    store, clerk = OrderStore(database), buyer("staff")
    orders = await some_orders(store, 12)
    several = [BulkJobs(database, store, IDENTITY, committed=lambda _: None) for _ in range(3)]
    job = await several[0].start(clerk, "confirm", orders, 0)
    await asyncio.gather(*(work(jobs, clerk, job.id) for jobs in several))
    assert [(await store.get(order_id, None)).version for order_id in orders] == [2] * 12


async def test_a_change_by_others_comes_first(database: Database) -> None:
    store, clerk = OrderStore(database), buyer("staff")
    [order_id] = await some_orders(store, 1)
    changes = Changes(store, IDENTITY, committed=lambda _: None)
    await changes.change(clerk, str(order_id), OrderChange(status="cancelled"), IfMatch(None))
    jobs = BulkJobs(database, store, IDENTITY, committed=lambda _: None)
    job = await jobs.start(clerk, "ship", [order_id], 0)
    assert await work(jobs, clerk, job.id) == {str(order_id): "failed"}
