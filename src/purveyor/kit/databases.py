"""Which PostgreSQL each role has: the server that the settings name, or the embedded one that all share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from purveyor.kit.embedded import EmbeddedPostgres
from purveyor.kit.postgres import Database, open_database

_POOL_SIZE = 10
_NOWHERE = "postgresql://offline"


class Databases:
    """Gives roles their databases. The embedded server ends with ``stack``.

    ``configured`` tells the DSN that the settings give to a role, empty for none. An ``offline`` one opens
    pools that are never used.
    """

    def __init__(
        self,
        configured: Callable[[str], str],
        data_dir: Path,
        stack: AsyncExitStack,
        *,
        statement_cache: int,
        offline: bool,
    ) -> None:
        self.configured = configured
        self._data_dir = data_dir
        self._stack = stack
        self._statement_cache = statement_cache
        self._offline = offline
        self._starting = asyncio.Lock()
        self._embedded = ""

    async def dsn(self, role: str) -> str:
        """The DSN of a role's database; starts the embedded server, or attaches to it, at the first need."""
        if self._offline:
            return _NOWHERE
        if configured := self.configured(role):
            return configured
        async with self._starting:
            if not self._embedded:
                self._embedded = await self._stack.enter_async_context(EmbeddedPostgres(self._data_dir))
        return self._embedded

    @asynccontextmanager
    async def open(self, role: str, schema: str) -> AsyncIterator[Database]:
        """A pool for a schema; it connects at its first use."""
        async with open_database(
            await self.dsn(role),
            application=f"purveyor {schema}",
            max_size=_POOL_SIZE,
            statement_cache_size=self._statement_cache,
        ) as database:
            yield database
