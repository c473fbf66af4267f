"""Lists and searches find what reading all orders would find, and read about as much whatever they are for."""

import itertools
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from purveyor.kit.db.postgres import Connection, Database, connect, open_database
from purveyor.kit.ids import first_id_of
from purveyor.roles.orders.model import OrderFilter, Sort
from purveyor.roles.orders.search import SearchTexts
from purveyor.roles.orders.store_lists import SORTS, conditions_on, find_page
from purveyor.roles.orders.store_search import WALKED, search
from roles.orders.test_search import without_trigrams

MANY, OLD = 12_000, 300
PAGE = 20
MAX_PAGES = 5
"""For the start and for each combination of statuses, of the 75 of an index. A list of a time reads orders too."""
START = datetime(2026, 1, 1, tzinfo=UTC)
GAP = timedelta(days=100)
HEAVY, LIGHT = "heavy", "light"


def moment(number: int) -> datetime:
    """Three orders a minute, with a pause of 100 days after a quarter of them."""
    return START + timedelta(seconds=20 * number) + (GAP if number > MANY // 4 else timedelta())


@pytest.fixture(scope="module")
async def full(dsn: str) -> str:
    connection = await connect(dsn, application="tests")
    try:
        moments = [moment(number) for number in range(MANY)]
        await connection.execute(
            f"""
            insert into orders.orders
            select id, n, case when n % 100 = 0 then '{LIGHT}' else '{HEAVY}' end, '', '',
                case when n % 10 = 0 then 'pending' else 'delivered' end,
                case when n % 50 = 7 then 'refunded' else 'paid' end, 'card', 'EUR', n * 7919 % 1000,
                null, '', 1, '', at, at
            from unnest($1::uuid[], $2::timestamptz[]) with ordinality as made (id, at, n)""",
            [first_id_of(each) for each in moments],
            moments,
        )
        await connection.execute(
            f"""
            insert into orders.search_texts
            select id, ' ' || number || ' kettle seven' || number % 7 || 'th hundredth' || number % 100
                || case when number <= {OLD} then ' vintage' else '' end || ' once' || number || 'x'
                || case when number % 100 = 0 then ' light@example.com' else ' heavy@example.com' end
            from orders.orders order by number"""
        )
        await connection.execute("vacuum analyze orders.orders, orders.search_texts")
    finally:
        await connection.close()
    return dsn


@pytest.fixture
async def filled(full: str) -> AsyncIterator[Database]:
    async with open_database(full, application="tests", max_size=1) as opened:
        yield opened


WORDS = {
    "in all": ("kettle",),
    "in one of seven": ("seven3th",),
    "in one of a hundred": ("hundredth42",),
    "in old ones only": ("vintage",),
    "in one": (f"once{MANY - 5000}x",),
    "in none": ("xylophone",),
    "never together": ("hundredth42", "hundredth43"),
    "of a buyer": ("light@example.com",),
    "of a buyer and in old ones": ("light@example.com", "vintage"),
    "short": ("o", "ke"),
}
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "pending": {"status": "pending"},
    "of few": {"user_id": LIGHT},
    "of many": {"user_id": HEAVY, "payment_status": "paid"},
    "since": {"created_from": moment(MANY // 2)},
    "until": {"created_to": moment(MANY // 2)},
    "later page": {"after": first_id_of(moment(MANY // 2))},
}
_SORTS: tuple[Sort, ...] = ("-created_at", "created_at", "-total_amount", "total_amount")
SEARCHES = {
    f"{words}, {which}, {sort}": OrderFilter(words=WORDS[words], sort=sort, **FILTERS[which])
    for words, which, sort in itertools.product(WORDS, FILTERS, _SORTS)
}


async def expected(database: Database, wanted: OrderFilter, limit: int) -> Sequence[UUID]:
    """What reading all orders finds."""
    conditions, arguments = conditions_on(wanted)
    words = [f" {word}" if len(word) < 3 else word for word in wanted.words]
    rows = await database.fetch(
        f"""
        select id from orders.orders join orders.search_texts on order_id = id
        where {" and ".join(["true", *conditions])}
            and (select bool_and(strpos(text, word) > 0) from unnest(${len(arguments) + 1}::text[]) as word)
        order by {SORTS[wanted.sort][0]} limit {limit}""",
        *arguments,
        words,
    )
    return [row["id"] for row in rows]


async def found(database: Database, wanted: OrderFilter, limit: int) -> Sequence[UUID]:
    texts = await SearchTexts(database).conditions(wanted.words)
    async with database.transaction() as connection:
        return await search(connection, wanted, limit, texts)


async def test_a_search_finds_what_reading_all_orders_finds(filled: Database) -> None:
    for name, wanted in SEARCHES.items():
        assert await found(filled, wanted, PAGE) == await expected(filled, wanted, PAGE), name


@pytest.mark.parametrize("sort", ["-created_at", "created_at"])
async def test_pages_of_a_search_have_each_order_once(filled: Database, sort: Sort) -> None:
    wanted = OrderFilter(words=("seven3th",), status="delivered", sort=sort)
    everything = await expected(filled, wanted, MANY)
    pages: list[UUID] = []
    while page := await found(filled, wanted, 150):
        pages += page
        wanted = msgspec.structs.replace(wanted, after=page[-1])

    assert pages == everything
    assert len(pages) > 1000


SPANS: list[dict[str, Any]] = [
    {},
    {"created_from": moment(MANY // 3), "created_to": moment(MANY - 1000)},
    {"created_from": moment(MANY // 4) + timedelta(days=30), "created_to": moment(MANY // 4) + GAP / 2},
]
LISTS = [
    OrderFilter(user_id=user, status=status, payment_status=payment, sort=sort, after=after, **span)
    for user, status, payment, sort, after, span in itertools.product(
        (None, LIGHT),
        (None, "pending", "delivered"),
        (None, "refunded"),
        _SORTS,
        (None, first_id_of(moment(MANY // 2))),
        SPANS,
    )
]
"""No pending order is refunded, and none was placed in the last of the spans."""


class Stored(msgspec.Struct, frozen=True):
    id: UUID
    user_id: str
    status: str
    payment_status: str
    total: int
    created_at: datetime


async def test_a_list_finds_what_reading_all_orders_finds_in_few_pages(filled: Database) -> None:
    rows = await filled.fetch(f"select {', '.join(Stored.__struct_fields__)} from orders.orders")
    by_id = {row["id"]: Stored(**row) for row in rows}
    keys = {
        sort: (lambda one: (one.total, one.id)) if "total" in sort else (lambda one: one.id) for sort in _SORTS
    }
    ordered = {sort: sorted(by_id.values(), key=keys[sort], reverse=sort.startswith("-")) for sort in _SORTS}
    for wanted in LISTS:
        key, is_down = keys[wanted.sort], wanted.sort.startswith("-")
        after = key(by_id[wanted.after]) if wanted.after else None
        matching = (
            one.id
            for one in ordered[wanted.sort]
            if wanted.user_id in {None, one.user_id}
            and wanted.status in {None, one.status}
            and wanted.payment_status in {None, one.payment_status}
            and (wanted.created_from is None or wanted.created_from <= one.created_at)
            and (wanted.created_to is None or one.created_at < wanted.created_to)
            and (after is None or (key(one) < after if is_down else key(one) > after))
        )
        page = find_page(wanted, PAGE)
        found = await filled.fetch(page.sql, *page.arguments)
        assert [row["id"] for row in found] == list(itertools.islice(matching, PAGE)), wanted
        if wanted.created_from is None:
            plans = await filled.fetchval(f"explain (analyze, buffers, format json) {page.sql}", *page.arguments)
            plan = json.loads(plans)[0]["Plan"]
            combinations = (1 if wanted.status else 5) * (1 if wanted.payment_status else 3)
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= MAX_PAGES * (1 + combinations), wanted


class Explaining:
    """A connection that counts the rows that its statements read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.rows: dict[str, float] = {}

    async def execute(self, statement: str) -> None:
        await self._connection.execute(statement)

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Any]:
        plans = await self._connection.fetchval(f"explain (analyze, format json) {statement}", *arguments)
        self._count(json.loads(plans)[0]["Plan"])
        rows: Sequence[Any] = await self._connection.fetch(statement, *arguments)
        return rows

    def _count(self, plan: dict[str, Any]) -> None:
        if "Relation Name" in plan:
            removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
            name = plan["Relation Name"]
            self.rows[name] = self.rows.get(name, 0) + (plan["Actual Rows"] + removed) * plan["Actual Loops"]
        for child in plan.get("Plans", ()):
            self._count(child)


_BY_TIME = {name: wanted for name, wanted in SEARCHES.items() if "total" not in wanted.sort}


async def test_a_search_by_time_reads_few_rows_whatever_it_is_for(filled: Database) -> None:
    """Of 12,000 orders, of which 12,000, 1,700, 300, 120, 1 or none match."""
    for name, wanted in _BY_TIME.items():
        texts = await SearchTexts(filled).conditions(wanted.words)
        async with filled.transaction() as connection:
            explaining = Explaining(connection)
            await search(explaining, wanted, PAGE, texts)
        assert explaining.rows["search_texts"] <= 3 * WALKED, (name, explaining.rows)
        assert explaining.rows.get("orders", 0) <= 5 * WALKED, (name, explaining.rows)


async def test_orders_that_have_no_words_yet_are_not_found(filled: Database) -> None:
    texts = {"%kettle%": "text like {}"}
    await filled.execute("alter table orders.search_texts rename to full_texts")
    await filled.execute("create table orders.search_texts (like orders.full_texts)")
    try:
        async with filled.transaction() as connection:
            for sort in _SORTS:
                assert await search(connection, OrderFilter(words=("kettle",), sort=sort), PAGE, texts) == []
                wanted = OrderFilter(words=("kettle",), status="pending", sort=sort)
                assert await search(connection, wanted, PAGE, texts) == []
    finally:
        await filled.execute("drop table orders.search_texts")
        await filled.execute("alter table orders.full_texts rename to search_texts")


async def test_spans_of_an_order_are_those_that_the_search_asks_for(filled: Database) -> None:
    ms = 1_767_225_600_123
    spans = await filled.fetchval("select orders.spans_of($1)", UUID(int=(ms << 80) | 7))

    assert spans == [(level << 24) + (ms >> (18 + 3 * level)) for level in range(7)]


async def test_searches_work_without_trigrams(filled: Database) -> None:
    await without_trigrams(filled)
    for name, wanted in SEARCHES.items():
        if wanted.sort == "-created_at" and all(len(word) >= 3 for word in wanted.words):
            assert await found(filled, wanted, PAGE) == await expected(filled, wanted, PAGE), name
