"""What the hot paths of role orders may cost: one round trip each, and rows in proportion to the page."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from purveyor.kit.db.postgres import Database, connect, open_database
from purveyor.kit.db.standby import Reads
from purveyor.kit.ids import first_id_of, new_id
from purveyor.roles.auth.contract import Principal
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.figures import TIMED, Day, Figures
from purveyor.roles.orders.model import OrderFilter, Sort
from purveyor.roles.orders.service import Changes, OrderChange, Orders
from purveyor.roles.orders.store import HistoryStore, OrderStore
from purveyor.roles.orders.store_lists import find_page
from roles.orders.samples import buyer, draft, identity, shop
from servers.roundtrips import RoundTrips

HEAVY, LIGHT = "heavy", "light"
MANY = 20_000
PAGE = 20


@pytest.fixture(scope="module")
async def proxy(dsn: str) -> AsyncIterator[RoundTrips]:
    async with RoundTrips(dsn) as counting:
        yield counting


@pytest.fixture(scope="module")
async def orders(proxy: RoundTrips) -> AsyncIterator[Orders]:
    """One connection, so that what is warm stays warm."""
    async with open_database(proxy.dsn, application="tests", max_size=1) as opened:
        yield shop(OrderStore(opened))


async def place(orders: Orders, who: Principal, key: str | None = None) -> None:
    await orders.place(who, draft(), key=key)


async def replay(orders: Orders, who: Principal) -> None:
    await orders.place(who, draft(), key="replayed")


async def get(orders: Orders, who: Principal) -> None:
    await orders.get(who, str((await orders.list(who, OrderFilter(), 1))[0][0].order.id))


async def first_page(orders: Orders, who: Principal) -> None:
    await orders.list(who, OrderFilter(), PAGE)


async def change(orders: Orders, who: Principal) -> None:
    """By whoever knows the order: staff's read of it comes first."""
    order = (await orders.list(who, OrderFilter(status="pending"), 1))[0][0].order
    clerk = buyer("staff")
    await Changes(orders._store, identity(), committed=lambda _: None).change(
        clerk, str(order.id), OrderChange(status="confirmed"), IfMatch(None)
    )


async def timeline(orders: Orders, who: Principal) -> None:
    order = (await orders.list(who, OrderFilter(), 1))[0][0].order
    await HistoryStore(orders._store._database).timeline(order.id, who.user_id)


_USES: dict[str, tuple[Callable[[Orders, Principal], Awaitable[None]], int]] = {
    "place": (place, 1),
    "place with a key": (lambda orders, who: place(orders, who, str(new_id())), 1),
    "replay": (replay, 2),
    "list": (first_page, 1),
    "list and get": (get, 2),
    "list and change": (change, 3),
    "list and timeline": (timeline, 2),
}


@pytest.mark.parametrize(("use", "budget"), _USES.values(), ids=_USES)
async def test_round_trips(
    proxy: RoundTrips, orders: Orders, use: Callable[[Orders, Principal], Awaitable[None]], budget: int
) -> None:
    ada = buyer()
    await place(orders, ada)
    await place(orders, ada)
    await replay(orders, ada)
    await use(orders, ada)  # asyncpg prepares each statement once
    proxy.reset()
    await use(orders, ada)

    assert proxy.count == budget


@pytest.fixture(scope="module")
async def full_shop(dsn: str) -> None:
    """Two customers of whom one has nearly everything ordered; what the planner knows of it is fresh."""
    connection = await connect(dsn, application="tests")  # no pool: it may take longer than a request's statements
    try:
        await connection.execute(
            f"""
            insert into orders.orders
            select gen_random_uuid(), 1000000 + n, case when n % 100 = 0 then '{LIGHT}' else '{HEAVY}' end, '', '',
                case when n % 10 = 0 then 'pending' else 'delivered' end,
                case when n % 100 = 0 then 'refunded' else 'paid' end, 'card', 'EUR', 100, null, '', 1,
                '', now(), now()
            from generate_series(1, {MANY}) as n;
            insert into orders.order_items
            select id, 1, 1, 'Kettle', 1, 100 from orders.orders where number > 1000000"""
        )
        await connection.execute("analyze")
    finally:
        await connection.close()


@pytest.fixture
async def generic(dsn: str, full_shop: None) -> AsyncIterator[Database]:
    """A connection that plans without looking at the parameters, as it does after a few uses of a statement."""
    async with open_database(
        f"{dsn}?plan_cache_mode=force_generic_plan", application="tests", max_size=1
    ) as opened:
        yield opened


def rows_read(plan: dict[str, Any]) -> float:
    """Rows that the scans of a plan touched, those they threw away included."""
    own = 0.0
    if "Relation Name" in plan:
        own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return own + sum(rows_read(child) for child in plan.get("Plans", ()))


_MIDDLE = UUID("80000000-0000-4000-8000-000000000000")
_SORTS: tuple[Sort, ...] = ("-created_at", "created_at", "-total_amount", "total_amount")
_LISTS = {
    f"{user}, {status}, {payment_status}, {sort}{', a later page' if after else ''}": OrderFilter(
        user_id=user, status=status, payment_status=payment_status, sort=sort, after=after
    )
    for user in (None, HEAVY, LIGHT)
    for status in (None, "delivered", "shipped")
    for payment_status in (None, "refunded", "unpaid")
    for sort in _SORTS
    for after in (None, _MIDDLE)
    if after is None or sort == "-created_at"
}
"""No order is shipped or unpaid, and no delivered one is refunded."""


async def explained(database: Database, part: str, *arguments: object) -> dict[str, Any]:
    """The plan with which the store's own prepared statement runs that has this part."""
    name = await database.fetchval(
        "select name from pg_prepared_statements where strpos(statement, $1) > 0 and statement !~ 'pg_pre'",
        part,
    )
    given = f"({', '.join(repr(str(argument)) for argument in arguments)})" if arguments else ""
    plans = json.loads(await database.fetchval(f'explain (analyze, format json) execute "{name}" {given}'))
    plan: dict[str, Any] = plans[0]["Plan"]
    return plan


async def explained_page(database: Database, wanted: OrderFilter) -> dict[str, Any]:
    page = find_page(wanted, PAGE)
    async with database.transaction() as connection:
        if page.needs_values:
            await connection.execute("set local plan_cache_mode = force_custom_plan")
        plans = await connection.fetchval(f"explain (analyze, format json) {page.sql}", *page.arguments)
    plan: dict[str, Any] = json.loads(plans)[0]["Plan"]
    return plan


@pytest.mark.parametrize("wanted", _LISTS.values(), ids=_LISTS)
async def test_a_page_reads_a_page_of_rows(generic: Database, wanted: OrderFilter) -> None:
    """Of 20,000 orders, also where none matches; with a generic plan, which once read and sorted all of them."""
    plan = await explained_page(generic, wanted)

    assert plan["Actual Rows"] == len(await OrderStore(generic).list(wanted, PAGE))
    assert rows_read(plan) <= 15 * PAGE + PAGE


async def test_one_order_is_found_by_its_number(generic: Database) -> None:
    wanted = OrderFilter(order_number=1_000_000 + MANY // 2)

    assert len(await OrderStore(generic).list(wanted, PAGE)) == 1
    assert rows_read(await explained_page(generic, wanted)) == 1


async def test_a_span_of_time_reads_its_own_rows(generic: Database) -> None:
    """Most orders are newer than those that are asked for, and are not looked through."""
    since = datetime(2020, 1, 1, tzinfo=UTC)
    times = [since + timedelta(hours=hour) for hour in range(100)]
    await generic.execute(
        """
        insert into orders.orders
        select id, 2000000 + n, 'timed', '', '', 'pending', 'unpaid', 'card', 'EUR', 100, null, '', 1, '', at, at
        from unnest($1::uuid[], $2::timestamptz[]) with ordinality as made (id, at, n)""",
        [first_id_of(time) for time in times],
        times,
    )
    await generic.execute(
        "insert into orders.order_items "
        "select id, 1, 1, 'Kettle', 1, 100 from orders.orders where user_id = 'timed'"
    )
    wanted = OrderFilter(created_from=times[10], created_to=times[20])
    page = await OrderStore(generic).list(wanted, 100)
    plan = await explained_page(generic, wanted)

    assert [order.created_at for order in page] == times[10:20][::-1]
    assert rows_read(plan) <= 100


def rows_of(plan: dict[str, Any], relation: str) -> float:
    """Rows that the scans of one table touched."""
    own = rows_read(plan | {"Plans": []}) if plan.get("Relation Name") == relation else 0.0
    return own + sum(rows_of(child, relation) for child in plan.get("Plans", ()))


@pytest.mark.parametrize("count", [0, 1, 2 * TIMED - 1, 5 * TIMED])
async def test_figures_of_a_day_read_its_orders_and_the_mails_of_some(generic: Database, count: int) -> None:
    since = datetime(2020, 2, 1, tzinfo=UTC) + timedelta(days=count)
    moments = [since + timedelta(seconds=10 * second) for second in range(count)]
    await generic.execute(
        """
        with placed as (
            insert into orders.orders
            select id, 3000000 + $3 * 10000 + n, 'counted', '', '',
                case when n % 2 = 0 then 'cancelled' else 'pending' end,
                case when n % 4 = 1 then 'refunded' else 'unpaid' end, 'card', 'EUR', 100, null, '', 1, '', at, at
            from unnest($1::uuid[], $2::timestamptz[]) with ordinality as made (id, at, n)
            returning id, created_at
        )
        insert into orders.history
            (order_id, id, at, what, actor, mail_event_id, mail_kind, mail_state, mail_resends)
        select id, 1, created_at + interval '2 seconds', 'mail_sent', 'system', id::text, 'order.created', 'sent',
            0
        from placed""",
        [first_id_of(moment) for moment in moments],
        moments,
        count,
    )
    await generic.execute("analyze orders.history")
    figures = Figures(Reads(generic), "UTC", "EUR")
    day = await figures._load(since.date())
    mail_s = 2.0 if count else None

    assert day == Day(
        date=since.date(), orders=count, revenue=(count + 1) // 4 * 100, mail_p50_s=mail_s, mail_p95_s=mail_s
    )
    span = (since, since + timedelta(days=1))
    plan = await explained(generic, "percentile_cont", *map(first_id_of, span), *span, "EUR")
    assert rows_of(plan, "orders") <= count + 10  # ids of other orders are random, so a few may be in the span
    assert rows_of(plan, "history") <= 2 * TIMED


async def test_getting_an_order_reads_that_order(generic: Database) -> None:
    store = OrderStore(generic)
    order = (await store.list(OrderFilter(user_id=HEAVY), 1))[0]
    await store.get(order.id, HEAVY)
    plan = await explained(generic, "where o.id = $1", order.id, HEAVY)

    assert plan["Actual Rows"] == 1
    assert rows_read(plan) <= 5
