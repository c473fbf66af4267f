"""SQL that finds one page of a list of orders.

A page costs the same however many orders there are and however few of them match. For that each combination of
status and payment status is read from an index of its own order, and the pages found are merged.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from purveyor.kit.ids import first_id_of
from purveyor.roles.orders.model import NEXT_PAYMENT_STATUS, NEXT_STATUS, OrderFilter, Sort

SORTS: Mapping[Sort, tuple[str, str]] = {
    "-created_at": ("id desc", "id < {}"),
    "created_at": ("id", "id > {}"),
    "-total_amount": ("total desc, id desc", "(total, id) < (select total, id from orders.orders where id = {})"),
    "total_amount": ("total, id", "(total, id) > (select total, id from orders.orders where id = {})"),
}
"""Sort orders of a list: the columns, and the condition for rows after a given order."""
_HAS_MAIL_TROUBLE = "id in (select order_id from orders.mail_troubles)"

# Ids are UUIDv7, created just before created_at is read and at most slightly ahead of the clock.
_ID_MARGIN = timedelta(minutes=1)
_FIRST, _LAST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class Page(msgspec.Struct, frozen=True):
    """A query for the ids of one page."""

    sql: str
    arguments: Sequence[Any]
    needs_values: bool
    """True if the plan depends on the values: a generic one cannot know how long a span is."""


def find_page(wanted: OrderFilter, limit: int) -> Page:
    """Query for at most ``limit`` orders. Ignores words."""
    order_by, _ = SORTS[wanted.sort]
    if _is_merged(wanted):
        sql, arguments = _merge(wanted, limit)
    else:
        conditions, arguments = conditions_on(wanted)
        sql = f"""
            select id from orders.orders
            where {" and ".join(conditions) or "true"} order by {order_by} limit {int(limit)}"""  # noqa: S608
    spans = wanted.created_from is not None or wanted.created_to is not None
    return Page(sql, arguments, needs_values=spans)


def _is_merged(wanted: OrderFilter) -> bool:
    """Return whether the statuses are read one by one. Lists with an own index or few matches are not."""
    if wanted.order_number is not None or wanted.words or wanted.mail_trouble:
        return False
    return any((wanted.status, wanted.payment_status, wanted.user_id and "total" in wanted.sort))


def _merge(wanted: OrderFilter, limit: int) -> tuple[str, list[Any]]:
    """Return the query that reads the first orders of each combination of statuses from an index.

    A bound on a row and an order by all columns of the index leave the planner no other way. With equations it
    could read the primary key instead, and look through all orders for a combination that is rarer than it thinks.
    There is no bound at the other end: PostgreSQL 15 would not stop there, but read all orders with the same
    status. Orders beyond that end count towards the limit, and the outer query drops them.
    """
    is_down = wanted.sort.startswith("-")
    direction, comparison, columns = ("desc" if is_down else "asc"), ("<=" if is_down else ">="), "id"
    start, behind = _ends(wanted)
    indexed = {"user_id": None, "status": None, "payment_status": None, "after": None}
    filters, arguments = conditions_on(msgspec.structs.replace(wanted, **indexed))

    def placed(argument: object) -> str:
        arguments.append(argument)
        return f"${len(arguments)}"

    if "total" in wanted.sort:
        columns = "total, id"
        total = ", (select total from orders.orders where id = {0}), {0}"
        bound = "".join(total.format(placed(one)) for one in start)
    else:
        nearest = "least" if is_down else "greatest"
        bound = f", {nearest}({', '.join(f'{placed(one)}::uuid' for one in start)})" if start else ""
    outside = "(status, payment_status) <> (one.status, other.payment_status)"
    if behind is not None:
        outside += f" or id {'<' if is_down else '>'} {placed(behind)}"
    if wanted.after is not None:
        filters.append(f"id <> {placed(wanted.after)}")
    row = f"status, payment_status{bound and f', {columns}'}"
    conditions = [f"({row}) {comparison} (one.status, other.payment_status{bound})"]
    if wanted.user_id is not None:
        conditions.append(f"user_id = {placed(wanted.user_id)}")
    if filters:
        conditions.append(f"({outside} or {' and '.join(filters)})")
    by_index = ", ".join(f"{column} {direction}" for column in ("status", "payment_status", *columns.split(", ")))
    by_sort = ", ".join(f"{column} {direction}" for column in columns.split(", "))
    statuses = [wanted.status] if wanted.status else list(NEXT_STATUS)
    payment_statuses = [wanted.payment_status] if wanted.payment_status else list(NEXT_PAYMENT_STATUS)
    sql = f"""
        select id
        from unnest({placed(statuses)}::text[]) as one (status),
            unnest({placed(payment_statuses)}::text[]) as other (payment_status),
            lateral (
                select status, payment_status, {columns} from orders.orders
                where {" and ".join(conditions)} order by {by_index} limit {int(limit)}
            ) as found (status, payment_status, {columns})
        where not ({outside.replace("(status, payment_status)", "(found.status, found.payment_status)")})
        order by {by_sort} limit {int(limit)}"""  # noqa: S608 - constants
    return sql, arguments


def _ends(wanted: OrderFilter) -> tuple[Sequence[UUID], UUID | None]:
    """Return the ids that bound the start of a list (the nearest counts), and the id that bounds its end."""
    after = [] if wanted.after is None else [wanted.after]
    if "total" in wanted.sort:
        return after, None
    first, last = ids_of_span(wanted)
    start, behind = (last, first) if wanted.sort.startswith("-") else (first, last)
    return [*after, *([start] if start else [])], behind


def conditions_on(wanted: OrderFilter) -> tuple[list[str], list[Any]]:
    """Return the conditions on the columns of an order, and their arguments. Ignores words."""
    columns: dict[str, object] = {
        "user_id = {}": wanted.user_id,
        "number = {}": wanted.order_number,
        "created_at >= {}": wanted.created_from,
        "created_at < {}": wanted.created_to,
        SORTS[wanted.sort][1]: wanted.after,
    }
    start, end = ids_of_span(wanted)
    columns |= {
        "status = {}": wanted.status,
        "payment_status = {}": wanted.payment_status,
        # These bounds are redundant, but let the primary key's index find a time span.
        "id >= {}": start,
        "id <= {}": end,
    }
    chosen = {condition: value for condition, value in columns.items() if value is not None}
    parts = [condition.format(f"${place}") for place, condition in enumerate(chosen, 1)]
    if wanted.mail_trouble is not None:
        parts.append(f"{'' if wanted.mail_trouble else 'not '}{_HAS_MAIL_TROUBLE}")
    return parts, list(chosen.values())


def ids_of_span(wanted: OrderFilter) -> tuple[UUID | None, UUID | None]:
    """Return the first and the last id that an order of the wanted time can have."""
    since, until = wanted.created_from, wanted.created_to
    return _id_near(since, -_ID_MARGIN) if since else None, _id_near(until, _ID_MARGIN) if until else None


def _id_near(moment: datetime, margin: timedelta) -> UUID:
    return first_id_of(min(max(moment, _FIRST), _LAST) + margin)
