"""What waits for the shop, and figures by day."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from purveyor.kit.cache import Cache, Lifetime
from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import Forbidden, Unavailable
from purveyor.kit.ids import first_id_of
from purveyor.roles.auth.contract import Principal

COUNTED = 1000
"""Nothing is counted beyond this, so that a count costs little however much waits."""
MAX_DAYS = 90
_LIFETIME = Lifetime(fresh_s=30.0, stale_s=600.0)
_LONGEST_S = 4.0


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many orders wait for what; at most 1000 each."""

    to_confirm: int
    to_ship: int
    mail_trouble: int


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """The orders that were placed on one day. ``revenue`` is in minor units and leaves out cancelled orders."""

    date: date
    orders: int
    revenue: int
    mail_p50_s: float | None
    """Seconds from the order to its first mail, the median; ``None`` without mails."""
    mail_p95_s: float | None


_COUNT = f"""
select
    (select count(*) from (select from orders.orders where status = 'pending' limit {COUNTED}) as w) as confirm,
    (select count(*) from (select from orders.orders where status = 'confirmed' limit {COUNTED}) as w) as ship,
    (select count(distinct order_id) from (select order_id from orders.mail_troubles limit {COUNTED}) as w)
        as trouble"""  # noqa: S608 - our own number

# Ids are UUIDv7: their order finds the time span in the primary key.
_DAYS = """
with recent as materialized (
    select o.id, o.status, o.total, o.created_at from orders.orders o where o.id >= $1 and o.created_at >= $2
), mailed as (
    select order_id, min(at) as at from orders.history
    where order_id >= $1 and mail_kind = 'order.created' and mail_state = 'sent' group by order_id
)
select (o.created_at at time zone $3)::date as day, count(*) as orders,
    coalesce(sum(o.total) filter (where o.status <> 'cancelled'), 0)::bigint as revenue,
    percentile_cont(array[0.5, 0.95]) within group (order by extract(epoch from m.at - o.created_at)) as mail
from recent o left join mailed m on m.order_id = o.id
group by 1"""


class Figures:
    """Counts and figures for staff. Figures are up to half a minute old."""

    def __init__(self, database: Database, zone: str, currency: str) -> None:
        self._database = database
        self._zone = zone
        self.currency = currency
        self._days: Cache[int, Sequence[Day]] = Cache(
            self._load, lifetime=lambda _: _LIFETIME, stale_on=Unavailable, max_entries=MAX_DAYS
        )

    async def counts(self, caller: Principal) -> Counts:
        """How many orders wait. Raises ``Forbidden``."""
        _require_staff(caller)
        row = await self._database.fetchrow(_COUNT)
        assert row is not None  # noqa: S101 - an aggregate always has a row
        return Counts(to_confirm=row["confirm"], to_ship=row["ship"], mail_trouble=row["trouble"])

    async def days(self, caller: Principal, days: int) -> Sequence[Day]:
        """The last days, oldest first, each in the shop's time zone. Raises ``Forbidden``."""
        _require_staff(caller)
        return await self._days.get(days)

    async def _load(self, days: int) -> Sequence[Day]:
        today = now().astimezone(ZoneInfo(self._zone)).date()
        first = today - timedelta(days=days - 1)
        since = datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(self._zone))
        rows = await self._database.fetch(_DAYS, first_id_of(since - timedelta(minutes=1)), since, self._zone)
        found = {row["day"]: row for row in rows}
        return [_day(first + timedelta(days=place), found) for place in range(days)]


def _day(day: date, found: dict[date, object]) -> Day:
    row: object = found.get(day)
    if row is None:
        return Day(date=day, orders=0, revenue=0, mail_p50_s=None, mail_p95_s=None)
    median, late = row["mail"] or (None, None)  # type: ignore[index]  # asyncpg carries no types
    return Day(
        date=day,
        orders=row["orders"],  # type: ignore[index]
        revenue=row["revenue"],  # type: ignore[index]
        mail_p50_s=None if median is None else round(float(median), 3),
        mail_p95_s=None if late is None else round(float(late), 3),
    )


def _require_staff(caller: Principal) -> None:
    if not caller.is_staff:
        raise Forbidden("Only staff may see the figures of the shop.")
