"""Finds one page of a search.

The cost of a page hardly depends on the number of orders, whether a word is in all of them, in one of a hundred
or in a few. A search first scans the newest orders of the list, which is enough for frequent words and short
lists. It then queries the index of words for one span of time after another, each longer than all earlier ones
together. The last span has no end and finds rare words. Two frequent words that never occur in the same order
cost more the more orders there are, and so does a search sorted by total.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from purveyor.kit.db.postgres import Connection
from purveyor.roles.orders.model import OrderFilter
from purveyor.roles.orders.store_lists import SORTS, conditions_on, find_page, ids_of_span

WALKED = 200
"""The number of orders that a search scans."""
_SPANS = 3
_GROWTH = 8
"""Ratio of the length of a span to that of all earlier ones together."""
_SHORTEST_BITS, _STEP_BITS, _LEVELS = 18, 3, 7
"""The spans of migration 0011: 2^18 ms, then each 2^3 times as long."""
_LEVEL_BITS = 24
_TIME_SHIFT = 80


class _Span(msgspec.Struct, frozen=True):
    """A span of time by its keys in the index. Without keys it has no end.

    Only orders after ``near`` in the order of the list count.
    """

    keys: Sequence[int]
    near: UUID | None


async def search(
    connection: Connection, wanted: OrderFilter, limit: int, texts: Mapping[str, str]
) -> Sequence[UUID]:
    """The ids of at most ``limit`` orders. ``texts`` are the conditions of ``SearchTexts``, by argument.

    Changes settings until the end of the transaction.
    """
    # A generic plan cannot know how rare a word is, and compiling a plan takes longer than running it.
    await connection.execute(
        "set local plan_cache_mode = force_custom_plan; set local jit = off; set local enable_seqscan = off;"
        "set local max_parallel_workers_per_gather = 0"
    )
    walked = await _walk(connection, wanted, texts)
    found = [row["id"] for row in walked if row["matches"]][:limit]
    if len(found) == limit or len(walked) < WALKED:
        return found
    if "total" in wanted.sort:  # the index of words knows nothing of totals: all that match are sorted
        sql, arguments = _find(wanted, limit, texts, [_Span((), wanted.after)])
        return [row["id"] for row in await connection.fetch(sql, *arguments)]
    spans = _spans(wanted, walked[0]["id"], walked[-1]["id"], walked[0]["end"])
    sql, arguments = _find(wanted, limit - len(found), texts, spans)
    return [*found, *(row["id"] for row in await connection.fetch(sql, *arguments))]


async def _walk(connection: Connection, wanted: OrderFilter, texts: Mapping[str, str]) -> Sequence[Any]:
    """Scan the first orders of the list, and find the last id of all orders."""
    order_by, _ = SORTS[wanted.sort]
    plain = msgspec.structs.replace(wanted, words=())
    if "total" not in wanted.sort and plain == OrderFilter(after=wanted.after, sort=wanted.sort):
        page, arguments = _all_texts(plain)
    else:
        found = find_page(plain, WALKED)
        arguments = [*found.arguments]
        by_total = "join orders.orders using (id)" if "total" in wanted.sort else ""
        page = f"""
            select *, (select text from orders.search_texts where order_id = id) as text
            from ({found.sql}) as page {by_total}"""  # noqa: S608 - constants
    end = "order_id" if wanted.sort.startswith("-") else "order_id desc"
    rows: Sequence[Any] = await connection.fetch(
        f"""
        with walked as materialized ({page})
        select id, coalesce({_matching(texts, len(arguments))}, false) as matches,
            coalesce((select order_id from orders.search_texts order by {end} limit 1), id) as "end"
        from walked order by {order_by}""",  # noqa: S608 - constants
        *arguments,
        *texts,
    )
    return rows


def _all_texts(wanted: OrderFilter) -> tuple[str, list[object]]:
    """Return the query for the first orders of a list without conditions."""
    arguments: list[object] = [] if wanted.after is None else [wanted.after]
    order_by, beyond = SORTS[wanted.sort]
    return (
        f"""
            select id, text from (select order_id as id, text from orders.search_texts) as texts
            where {beyond.format("$1") if arguments else "true"} order by {order_by} limit {WALKED}""",  # noqa: S608
        arguments,
    )


def _find(
    wanted: OrderFilter, limit: int, texts: Mapping[str, str], spans: Sequence[_Span]
) -> tuple[str, Sequence[object]]:
    """Return the query that reads span after span until ``limit`` orders are found."""
    conditions, arguments = conditions_on(msgspec.structs.replace(wanted, after=None))
    matching = _matching(texts, len(arguments))
    arguments += texts
    order_by, beyond = SORTS[wanted.sort]
    columns = "total, id" if "total" in wanted.sort else "id"
    order = "select order_id as id"
    if conditions or "total" in wanted.sort:
        order = (
            f"select {columns} from orders.orders where {' and '.join(['id = order_id', *conditions])} offset 0"  # noqa: S608
        )
    parts, before = [], "0"
    for place, span in enumerate(spans):
        after = within = "true"
        if span.near is not None:
            arguments.append(span.near)
            after = beyond.format(f"${len(arguments)}")
        if span.keys:
            arguments.append(list(span.keys))
            within = f"orders.spans_of(order_id) && ${len(arguments)}::int[]"
        # "offset 0" has the planner read the index of words first, and then the orders that it found.
        parts.append(f"""
            span{place} as materialized (
                select {columns} from (
                    select order_id from orders.search_texts
                    where {within} and {matching} and {before} < {int(limit)} offset 0
                ) as matching, lateral ({order}) as one
                where {after} order by {order_by} limit {int(limit)}
            )""")  # noqa: S608 - constants
        before += f" + (select count(*) from span{place})"  # noqa: S608 - constants
    found = " union all ".join(f"select {columns} from span{place}" for place in range(len(spans)))  # noqa: S608
    sql = f"with {','.join(parts)} select id from ({found}) as found order by {order_by} limit {int(limit)}"  # noqa: S608
    return sql, arguments


def _matching(texts: Mapping[str, str], given: int) -> str:
    return " and ".join(text.format(f"${place}") for place, text in enumerate(texts.values(), given + 1))


def _spans(wanted: OrderFilter, first: UUID, last: UUID, end: UUID) -> Sequence[_Span]:
    """The spans from the last scanned order to ``end``, or to the end of the wanted time."""
    is_down = wanted.sort.startswith("-")
    bound = ids_of_span(wanted)[0 if is_down else 1]
    start_ms, end_ms = _ms_of(last), _ms_of(end if bound is None else bound)
    length_ms = abs(_ms_of(first) - start_ms) + 1
    spans: list[_Span] = []
    near = last
    for _ in range(_SPANS):
        length_ms *= _GROWTH
        far_ms = start_ms - length_ms if is_down else start_ms + length_ms
        if far_ms <= end_ms if is_down else far_ms >= end_ms:
            break
        keys, far_ms = _keys(_ms_of(near), far_ms)
        spans.append(_Span(keys, near))
        near = UUID(int=far_ms << _TIME_SHIFT)
    return [*spans, _Span(() if bound is None else _keys(_ms_of(near), end_ms)[0], near)]


def _keys(one_ms: int, other_ms: int) -> tuple[Sequence[int], int]:
    """The keys of the spans between two moments, and the further end of the last."""
    low, high = max(0, min(one_ms, other_ms)), max(one_ms, other_ms)
    level = next((level for level in range(_LEVELS) if high - low <= _GROWTH << _bits(level)), _LEVELS - 1)
    bits = _bits(level)
    keys = [(level << _LEVEL_BITS) + key for key in range(low >> bits, (high >> bits) + 1)]
    return keys, low >> bits << bits if other_ms < one_ms else ((high >> bits) + 1) << bits


def _bits(level: int) -> int:
    return _SHORTEST_BITS + _STEP_BITS * level


def _ms_of(order_id: UUID) -> int:
    return order_id.int >> _TIME_SHIFT
