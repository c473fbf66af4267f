"""Counts of waiting orders, and figures by day."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from purveyor.kit.cache import Cache, Lifetime
from purveyor.kit.clock import now
from purveyor.kit.db.standby import Reads
from purveyor.kit.deadline import request_deadline
from purveyor.kit.errors import Forbidden, Unavailable
from purveyor.kit.ids import first_id_of
from purveyor.roles.auth.contract import Principal

COUNTED = 1000
"""Nothing is counted beyond this, so that a count costs little however much waits."""
TIMED = 1000
"""Approximate sample size for a day's email times. Days with fewer than twice as many orders are not sampled."""
MAX_DAYS = 90
_NEW, _OLD = Lifetime(fresh_s=30.0, stale_s=600.0), Lifetime(fresh_s=1800.0, stale_s=3600.0)
_ID_MARGIN = timedelta(minutes=1)
"""An id is made just before ``created_at`` is read."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of waiting orders by next step; at most 1000 each."""

    to_confirm: int
    to_ship: int
    mail_trouble: int


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """The orders of one day.

    ``revenue`` is in minor units, without orders that are cancelled, refunded or in another currency.
    """

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

# Ids are UUIDv7: their order finds the time span in the primary keys.
_DAY = f"""
with placed as materialized (
    select id, status, payment_status, currency, total, created_at, row_number() over () as place
    from orders.orders
    where id >= $1 and id < $2 and created_at >= $3 and created_at < $4
), summed as (
    select count(*) as orders,
        coalesce(sum(total) filter (
            where status <> 'cancelled' and payment_status <> 'refunded' and currency = $5
        ), 0)::bigint as revenue
    from placed
), timed as (
    select (
        select extract(epoch from min(at) - created_at) from orders.history
        where order_id = placed.id and mail_kind = 'order.created' and mail_state = 'sent'
    ) as mail_s
    from placed, summed where place % greatest(orders / {TIMED}, 1) = 0
)
select orders, revenue,
    (select percentile_cont(array[0.5, 0.95]) within group (order by mail_s) from timed) as mail
from summed"""  # noqa: S608 - our own number


class Figures:
    """Counts and figures for staff. The figures of the last two days are up to half a minute old."""

    def __init__(self, reads: Reads, zone: str, currency: str) -> None:
        self._reads = reads
        self._zone = ZoneInfo(zone)
        self.currency = currency
        self._days: Cache[date, Day] = Cache(
            self._load, lifetime=self._lifetime, stale_on=Unavailable, max_entries=2 * MAX_DAYS
        )

    async def counts(self, caller: Principal) -> Counts:
        """Count the waiting orders. Raises ``Forbidden``."""
        _require_staff(caller)
        row = await self._reads.run(lambda database: database.fetchrow(_COUNT))
        assert row is not None  # noqa: S101 - a select without from always has a row
        return Counts(to_confirm=row["confirm"], to_ship=row["ship"], mail_trouble=row["trouble"])

    async def days(self, caller: Principal, days: int) -> Sequence[Day]:
        """The last days, oldest first, each in the shop's time zone. Raises ``Forbidden``."""
        _require_staff(caller)
        today = self._today()
        return [await self._day(today - timedelta(days=ago)) for ago in reversed(range(days))]

    async def _day(self, day: date) -> Day:
        with request_deadline():  # one for each day: all days of a large shop together can take longer
            return await self._days.get(day)

    def _today(self) -> date:
        return now().astimezone(self._zone).date()

    def _lifetime(self, day: Day) -> Lifetime:
        return _NEW if day.date >= self._today() - timedelta(days=1) else _OLD

    async def _load(self, day: date) -> Day:
        since, until = (datetime.combine(date_, time(), self._zone) for date_ in (day, day + timedelta(days=1)))
        ids = first_id_of(since - _ID_MARGIN), first_id_of(until + _ID_MARGIN)
        row = await self._reads.run(lambda database: database.fetchrow(_DAY, *ids, since, until, self.currency))
        assert row is not None  # noqa: S101 - an aggregate always has a row
        median, late = row["mail"] or (None, None)
        return Day(
            date=day,
            orders=row["orders"],
            revenue=row["revenue"],
            mail_p50_s=None if median is None else round(float(median), 3),
            mail_p95_s=None if late is None else round(float(late), 3),
        )


def _require_staff(caller: Principal) -> None:
    if not caller.is_staff:
        raise Forbidden("Only staff may see the figures of the shop.")
