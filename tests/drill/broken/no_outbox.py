"""Broken on purpose: events are published after the commit and never again, as if there were no outbox."""

import sys

from purveyor.cli import main
from purveyor.kit.events import outbox


async def _batch(self: outbox.Relay) -> int:
    async with self._database.transaction() as connection:
        rows = await connection.fetch(
            f"""
            update {self._schema}.outbox set published_at = now()
            where id in (
                select id from {self._schema}.outbox where published_at is null
                order by id limit {outbox.BATCH} for update skip locked)
            returning {outbox.COLUMNS}"""
        )
    if rows:
        await self._transport.publish([outbox.envelope(row) for row in rows])
    return len(rows)


outbox.Relay.batch = _batch
sys.exit(main())
