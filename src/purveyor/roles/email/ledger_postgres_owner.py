"""When PostgreSQL's mail ledger holds a sender for alive: as long as it holds an advisory lock.

When its process dies the server frees the lock at once, and its mails are taken over without waiting for a lease
to end. One that is frozen keeps its connection, and loses the lock when it has been silent for 10 s.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from purveyor.kit.postgres import COMMAND_TIMEOUT_S, Connection, Database

LOCK_CLASS = 0x6D61696C
"""``mail``: the first key of the senders' advisory locks; the second is the sender's number."""
BEAT_S = 2.0
DEAD_AFTER_S = 10.0

_KEEPALIVE = "set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3"
"""So that the server frees the lock within 11 s when a sender's whole machine is gone, without a word."""


class PostgresOwner:
    """Satisfies ``Owner``: alive while its connection, and so its lock, is there, and answers."""

    def __init__(self, number: int, connection: Connection) -> None:
        self.name = str(number)
        self._connection = connection
        self._beating = asyncio.create_task(self._beat(), name="mail sender's heartbeat")

    def is_alive(self) -> bool:
        """See ``Owner``."""
        return not (self._connection.is_closed() or self._beating.done())

    async def leave(self) -> None:
        """Stop beating."""
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)

    async def _beat(self) -> None:
        """Break the silence that the server would take for death; the first failure is the end."""
        while True:
            await asyncio.sleep(BEAT_S)
            await self._connection.execute("select", timeout=COMMAND_TIMEOUT_S)


@asynccontextmanager
async def ownership(database: Database) -> AsyncIterator[PostgresOwner]:
    """Become a sender, for as long as the context lasts. Raises ``Unavailable``."""
    async with database.dedicated("purveyor mail sender") as connection:
        number = await database.fetchval("select nextval('email.sender_number')::int")
        silence = f"set idle_session_timeout = '{DEAD_AFTER_S:g}s'"
        await connection.execute(f"{_KEEPALIVE}; {silence}", timeout=COMMAND_TIMEOUT_S)
        await connection.execute("select pg_advisory_lock($1, $2)", LOCK_CLASS, number, timeout=COMMAND_TIMEOUT_S)
        owner = PostgresOwner(number, connection)
        try:
            yield owner
        finally:
            await owner.leave()
