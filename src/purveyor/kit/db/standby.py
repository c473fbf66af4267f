"""Reads that a standby answers once it has replayed everything that was committed before them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from purveyor.kit.coalescer import Coalescer
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import Unavailable
from purveyor.kit.metrics import STANDBY_READS

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_WAIT_S = 0.25
"""A read waits this long for the standby to catch up."""
REST_S = 5.0
"""The primary answers this long after a standby was away or too far behind."""
_POLL_S = 0.005
_MAX_GROUP = 1000
_MAX_RUNNING = 4

# The position up to which the log is on the disk: each commit that was answered lies before it.
_POSITION = "select pg_current_wal_flush_lsn()::text as lsn, system_identifier as cluster from pg_control_system()"
_REPLAYED = """
    select system_identifier = $2 as same, pg_is_in_recovery() as standing_by,
        pg_last_wal_replay_lsn() >= $1::text::pg_lsn as replayed
    from pg_control_system()"""


class Reads:
    """Runs reads on the standby if there is one, and on the primary when the standby cannot answer.

    A read sees all that was committed before it began, whichever process committed it: the primary is asked how
    far its log goes, and the standby must have replayed as much. Reads that begin together share the question.
    """

    def __init__(self, primary: Database, standby: Database | None = None, *, schema: str = "") -> None:
        self.primary, self._standby = primary, standby
        self._schema = schema
        self._resting_until = 0.0
        self._catching_up: Coalescer[None, None] = Coalescer(
            self._catch_up, max_size=_MAX_GROUP, max_running=_MAX_RUNNING
        )

    @property
    def has_standby(self) -> bool:
        return self._standby is not None

    async def run(self, read: Callable[[Database], Awaitable[T]]) -> T:
        """Run ``read``, which must not write. After a failure on the standby it runs again, on the primary."""
        if self._standby is None:
            return await read(self.primary)
        loop = asyncio.get_running_loop()
        if loop.time() >= self._resting_until:
            try:
                async with asyncio.timeout(2 * MAX_WAIT_S):
                    await self._catching_up.call(None)
                found = await read(self._standby)
            except (TimeoutError, Unavailable) as trouble:
                if loop.time() >= self._resting_until:
                    self._resting_until = loop.time() + REST_S
                    log.warning(
                        "the standby of %s is not read for %g s: %s", self._schema, REST_S, trouble or "no answer"
                    )
            else:
                STANDBY_READS.labels(self._schema, "standby").inc()
                return found
        STANDBY_READS.labels(self._schema, "primary").inc()
        return await read(self.primary)

    async def check(self) -> str:
        """The standby's version and how far it is behind. Raises ``Unavailable`` if it cannot be read."""
        assert self._standby is not None  # noqa: S101 - checked only where there is one
        position = await self.primary.fetchrow(_POSITION)
        assert position is not None  # noqa: S101 - it always has a row
        await self._has_replayed(position["lsn"], position["cluster"])
        version, behind = await self._standby.fetchrow(  # type: ignore[misc]  # it always has a row
            """
            select current_setting('server_version'),
                pg_wal_lsn_diff($1::text::pg_lsn, pg_last_wal_replay_lsn())::bigint""",
            position["lsn"],
        )
        return f"PostgreSQL {version}, {max(behind, 0):,} bytes behind"

    async def _catch_up(self, calls: Sequence[None]) -> Sequence[None]:
        """Wait until the standby has replayed what is committed now. Raises ``Unavailable``."""
        position = await self.primary.fetchrow(_POSITION)
        assert position is not None  # noqa: S101 - it always has a row
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                while not await self._has_replayed(position["lsn"], position["cluster"]):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise Unavailable(f"it has not caught up within {MAX_WAIT_S:g} s") from None
        return calls

    async def _has_replayed(self, lsn: str, cluster: int) -> bool:
        assert self._standby is not None  # noqa: S101 - asked only of a standby
        row = await self._standby.fetchrow(_REPLAYED, lsn, cluster)
        if row is None or not (row["same"] and row["standing_by"]):
            raise Unavailable("The server is not a standby of the primary.")
        return bool(row["replayed"])
