"""Opens each schema in the PostgreSQL server that the settings name, or in the embedded one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from purveyor.kit.db.embedded.owner import EmbeddedPostgres
from purveyor.kit.db.migrate import migrate, require
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.db.schema import Schema
from purveyor.kit.errors import StartupError
from purveyor.kit.metrics import DATABASE_CONNECTIONS, DATABASE_CONNECTIONS_MAX
from purveyor.kit.mode import Mode
from purveyor.kit.retry import stand_in, wait_for_server

_POOL_SIZE, _LEAST_POOL_SIZE = 10, 4
_NOWHERE = "postgresql://offline"


@contextmanager
def _shown(schema: str, database: Database, size: int) -> Iterator[None]:
    """Show the connections of a pool in the metrics."""
    DATABASE_CONNECTIONS.labels(schema, "in_use").set_function(lambda: database.connections()[0])
    DATABASE_CONNECTIONS.labels(schema, "idle").set_function(lambda: database.connections()[1])
    DATABASE_CONNECTIONS_MAX.labels(schema).set(size)
    try:
        yield
    finally:
        for state in ("in_use", "idle"):
            DATABASE_CONNECTIONS.remove(schema, state)


class Databases:
    """Migrates schemas and opens their connection pools. The embedded server stops with ``stack``.

    ``configured`` returns the DSN of a role, or of all roles for ``None``; an empty one means the embedded server.
    ``wait_s`` bounds the wait for a server, ``migration_wait_s`` the wait for another process that migrates.
    ``processes`` share the server's connections. Console and doctor migrate only the embedded server. The doctor
    gets a stub for a database that is down. Offline, no pool connects.
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
        """Bring a schema up to date and return the names of the applied migrations."""
        dsn = await self._dsn(schema)
        return await wait_for_server(
            lambda: migrate(dsn, schema.name, schema.migrations, wait_s=self._migration_wait_s), self._wait_s
        )

    @asynccontextmanager
    async def open(self, schema: Schema) -> AsyncIterator[Database]:
        """Migrate a schema and open its pool, which connects at its first use."""
        try:
            dsn = await self._ready(schema)
        except StartupError as trouble:
            if self._mode is not Mode.DOCTOR:
                raise
            yield stand_in(trouble)
            return
        async with self._pool(schema.name, dsn) as database:
            yield database

    @asynccontextmanager
    async def open_standby(self, schema: str, dsn: str) -> AsyncIterator[Database]:
        """Open the pool of a standby, which connects at its first use and may be away."""
        async with self._pool(f"{schema} standby", _NOWHERE if self._mode is Mode.OFFLINE else dsn) as database:
            yield database

    @asynccontextmanager
    async def _pool(self, name: str, dsn: str) -> AsyncIterator[Database]:
        async with open_database(
            dsn,
            application=f"purveyor {name}",
            max_size=self._pool_size,
            statement_cache_size=self._statement_cache,
        ) as database:
            with _shown(name, database, self._pool_size):
                yield database

    async def _ready(self, schema: Schema) -> str:
        """The DSN of the schema, once it is up to date."""
        dsn = await self._dsn(schema)
        if self._mode is Mode.OFFLINE:
            return dsn
        if self._mode is not Mode.SERVE and self.configured(schema.role):
            await wait_for_server(lambda: require(dsn, schema.name, schema.migrations), self._wait_s)
        else:
            await self.migrate(schema)
        return dsn

    async def _dsn(self, schema: Schema) -> str:
        """The schema's DSN. The first call for an embedded schema starts the server or attaches to it."""
        if self._mode is Mode.OFFLINE:
            return _NOWHERE
        if configured := self.configured(schema.role):
            return configured
        async with self._starting:
            if not self._embedded:
                self._embedded = await self._stack.enter_async_context(EmbeddedPostgres(self._data_dir))
        return self._embedded
