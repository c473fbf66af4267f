"""Broken on purpose: the relay remembers how far it came, and never looks below that again."""

import sys
from collections import defaultdict
from uuid import UUID

from purveyor.cli import main
from purveyor.kit.events import outbox

_marks: defaultdict[str, UUID] = defaultdict(lambda: UUID(int=0))


async def _batch(self: outbox.Relay) -> int:
    rows = await self._database.fetch(
        f"select {outbox.COLUMNS} from {self._schema}.outbox where id > $1 order by id limit {outbox.BATCH}",
        _marks[self._schema],
    )
    if not rows:
        return 0
    outcomes = await self._transport.publish([outbox.envelope(row) for row in rows])
    if all(outcome is None for outcome in outcomes):
        await self._database.execute(
            f"update {self._schema}.outbox set published_at = now() where id = any($1)",
            [row["id"] for row in rows],
        )
        _marks[self._schema] = rows[-1]["id"]
    return len(rows)


outbox.Relay.batch = _batch
sys.exit(main())
