"""Rows read by their id, those of several callers in one statement."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from purveyor.kit.coalescer import Coalescer
from purveyor.kit.db.postgres import AWAY, COMMAND_TIMEOUT_S, Database, Record
from purveyor.kit.deadline import seconds_left
from purveyor.kit.errors import Unavailable

_MAX_GROUP = 100
_MAX_RUNNING = 2


class Rows:
    """Reads rows by id. Calls that wait at the same time share a statement; none joins one that has begun.

    ``select`` reads the rows whose ids are in the array ``$1``, each with its ``id``.
    """

    def __init__(self, database: Database, select: str) -> None:
        self._database, self._select = database, select
        self._calls: Coalescer[UUID, Record | None] = Coalescer(
            self._read, max_size=_MAX_GROUP, max_running=_MAX_RUNNING
        )

    async def find(self, row_id: UUID) -> Record | None:
        """One row as it is now. Raises ``Unavailable``."""
        try:
            async with asyncio.timeout(seconds_left(COMMAND_TIMEOUT_S)):
                return await self._calls.call(row_id)
        except TimeoutError as late:
            raise Unavailable(AWAY) from late

    async def _read(self, row_ids: Sequence[UUID]) -> Sequence[Record | None]:
        found = {row["id"]: row for row in await self._database.fetch(self._select, row_ids)}
        return [found.get(row_id) for row_id in row_ids]
