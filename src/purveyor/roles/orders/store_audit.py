"""The SQL of the audit: orders whose event is not in the outbox."""

from collections.abc import Sequence
from datetime import timedelta

from purveyor.kit.clock import now
from purveyor.kit.ids import first_id_of
from purveyor.kit.message import Envelope
from purveyor.kit.outbox import KEEP, insert_into, values
from purveyor.kit.postgres import Database

_MARGIN = timedelta(days=1)


class PostgresAudits:
    """Satisfies ``Audits``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unannounced(self, type_: str, limit: int) -> Sequence[str]:
        """See ``Audits``."""
        rows = await self._database.fetch(
            """
            select o.id::text as id from orders.orders o
            where o.id > $1 and o.user_email <> '' and not exists (
                select from orders.outbox e where e.subject = o.id::text and e.type = $2
            )
            order by o.id limit $3""",
            first_id_of(now() - KEEP + _MARGIN),
            type_,
            limit,
        )
        return [row["id"] for row in rows]

    async def announce(self, event: Envelope) -> bool:
        """See ``Audits``."""
        added = await self._database.execute(f"{insert_into('orders')} on conflict do nothing", *values(event))
        return added == 1
