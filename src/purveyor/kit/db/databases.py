"""Which PostgreSQL each schema is in: the server that the settings name, or the embedded one that all share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from purveyor.kit.db.embedded.owner import EmbeddedPostgres
from purveyor.kit.db.migrate import migrate, require
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.db.schema import Schema
from purveyor.kit.errors import StartupError
from purveyor.kit.mode import Mode
from purveyor.kit.retry import stand_in, wait_for_server

_POOL_SIZE, _LEAST_POOL_SIZE = 10, 4
_NOWHERE = "postgresql://offline"


class Databases:
    """Opens schemas, each in its database. The embedded server ends with ``stack``.

    ``configured`` gives the DSN that the settings name for a role, or for all of them; empty for none. ``wait_s``
    is how long to wait for a server that is away, ``migration_wait_s`` for another process that migrates.
    ``processes`` like this one share the servers' connections. Console and doctor migrate only the embedded
    server, which is private to this installation. The doctor gets a stub for a database that is down; offline,
    the pools are never used.
    """

    def __init__(
        self,
        configured: Callable[[str | None], str],
        data_dir: Path,
        stack: AsyncExitStack,
        *,
        statement_cache: int,
        wait_s: float,
        migration_wait_s: float,
        processes: int,
        mode: Mode,
    ) -> None:
        self.configured = configured
        self._data_dir = data_dir
        self._stack = stack
        self._statement_cache = statement_cache
        self._wait_s, self._migration_wait_s = wait_s, migration_wait_s
        self._pool_size = max(_LEAST_POOL_SIZE, _POOL_SIZE // processes)
        self._mode = mode
        self._starting = asyncio.Lock()
        self._embedded = ""

    async def migrate(self, schema: Schema) -> Sequence[str]:
        """Bring a schema up to date; the names of what was applied."""
        dsn = await self._dsn(schema)
        return await wait_for_server(
            lambda: migrate(dsn, schema.name, schema.migrations, wait_s=self._migration_wait_s), self._wait_s
        )

    @asynccontextmanager
    async def open(self, schema: Schema) -> AsyncIterator[Database]:
        """A pool for a schema that is up to date; it connects at its first use."""
        try:
            dsn = await self._ready(schema)
        except StartupError as trouble:
            if self._mode is not Mode.DOCTOR:
                raise
            yield stand_in(trouble)
            return
        async with open_database(
            dsn,
            application=f"purveyor {schema.name}",
            max_size=self._pool_size,
            statement_cache_size=self._statement_cache,
        ) as database:
            yield database

    async def _ready(self, schema: Schema) -> str:
        """Where the schema is, once it is up to date."""
        dsn = await self._dsn(schema)
        if self._mode is Mode.OFFLINE:
            return dsn
        if self._mode is not Mode.SERVE and self.configured(schema.role):
            await wait_for_server(lambda: require(dsn, schema.name, schema.migrations), self._wait_s)
        else:
            await self.migrate(schema)
        return dsn

    async def _dsn(self, schema: Schema) -> str:
        """Starts the embedded server, or attaches to it, at the first need."""
        if self._mode is Mode.OFFLINE:
            return _NOWHERE
        if configured := self.configured(schema.role):
            return configured
        async with self._starting:
            if not self._embedded:
                self._embedded = await self._stack.enter_async_context(EmbeddedPostgres(self._data_dir))
        return self._embedded
