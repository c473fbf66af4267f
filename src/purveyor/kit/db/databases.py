"""Which PostgreSQL each schema is in: the server that the settings name, or the embedded one that all share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from purveyor.kit.db.embedded.owner import EmbeddedPostgres
from purveyor.kit.db.migrate import migrate, require
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import StartupError
from purveyor.kit.retry import wait_for_server

_POOL_SIZE, _LEAST_POOL_SIZE = 10, 4
_NOWHERE = "postgresql://offline"


@dataclass(frozen=True)
class Schema:
    """A schema and its migrations. ``role`` is whose it is; ``None``: everybody's, as the events are."""

    name: str
    migrations: Path
    role: str | None


class Databases:
    """Opens schemas, each in its database. The embedded server ends with ``stack``.

    ``configured`` tells the DSN that the settings give to a role, or to everybody; empty for none. ``wait_s`` is
    how long a server that is away is waited for, ``migration_wait_s`` how long another process that migrates.
    ``processes`` like this one share the servers' connections. A ``looking`` one migrates no server but the
    embedded: that is private to this installation, and has nobody else to do it. An ``offline`` one opens pools
    that are never used. ``stand_in`` makes what stands in for a database that cannot be opened.
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
        looking: bool,
        stand_in: Callable[[StartupError], Database] | None = None,
        offline: bool,
    ) -> None:
        self.configured = configured
        self._data_dir = data_dir
        self._stack = stack
        self._statement_cache = statement_cache
        self._wait_s, self._migration_wait_s = wait_s, migration_wait_s
        self._pool_size = max(_LEAST_POOL_SIZE, _POOL_SIZE // processes)
        self._looking, self._offline, self._stand_in = looking, offline, stand_in
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
            if self._stand_in is None:
                raise
            yield self._stand_in(trouble)
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
        if self._looking and self.configured(schema.role):
            await wait_for_server(lambda: require(dsn, schema.name, schema.migrations), self._wait_s)
        elif not self._offline:
            await self.migrate(schema)
        return dsn

    async def _dsn(self, schema: Schema) -> str:
        """Starts the embedded server, or attaches to it, at the first need."""
        if self._offline:
            return _NOWHERE
        if configured := self.configured(schema.role):
            return configured
        async with self._starting:
            if not self._embedded:
                self._embedded = await self._stack.enter_async_context(EmbeddedPostgres(self._data_dir))
        return self._embedded
