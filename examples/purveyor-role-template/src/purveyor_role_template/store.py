"""The counted orders in PostgreSQL."""

from datetime import timedelta

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.events.message import Envelope
from purveyor.roles.orders.contract import OrderCreated
from purveyor_role_template.contract import OrderDay, OrderDays, TallyOrders


class TallyStore:
    """Owns the SQL of schema tally."""

    def __init__(self, database: Database, keep_days: int) -> None:
        self._database = database
        self._keep_days = keep_days

    async def count(self, _event: OrderCreated, envelope: Envelope) -> None:
        """Count an order. Events are delivered at least once, so the event id is the key."""
        await self._database.execute(
            "insert into tally.orders (event_id, day) values ($1, $2) on conflict do nothing",
            envelope.id,
            envelope.occurred_at.date(),
        )

    async def days(self, ask: TallyOrders) -> OrderDays:
        rows = await self._database.fetch(
            "select day, count(*) as orders from tally.orders where day > $1 group by day order by day desc",
            now().date() - timedelta(days=ask.days),
        )
        return OrderDays(days=tuple(OrderDay(date=str(row["day"]), orders=row["orders"]) for row in rows))

    async def purge(self) -> None:
        """Forget days that are older than the setting says."""
        await self._database.execute(
            "delete from tally.orders where day <= $1", now().date() - timedelta(days=self._keep_days)
        )
