"""Schema migrations: numbered plain SQL files per role, applied in order, each in its own transaction.

Processes that migrate at the same time poll an advisory lock, so that the wait is bounded and logged. It belongs
to the transaction of one file, so it ends with a process that dies, and a pooler in transaction mode keeps it.
"""

import asyncio
import hashlib
import logging
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from purveyor.kit.db.postgres import CONNECT_TIMEOUT_S, LOST, Connection, connect, lost_means_away
from purveyor.kit.errors import ServerAway, StartupError

log = logging.getLogger(__name__)

_LOCK_POLL_S = 0.2
_ANSWER_S = 5.0
"""Time limit of read-only queries. Migrations have none."""
_TABLE = """
create schema if not exists {schema};
create table if not exists {schema}.migrations (
    version int primary key,
    name text not null,
    digest text not null,
    applied_at timestamptz not null default now()
)"""


@dataclass(frozen=True)
class Migration:
    """One file: ``0001_what_it_does.sql``. Never changed once released; its digest is checked."""

    version: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load(folder: Path) -> Sequence[Migration]:
    """The migrations of a folder, in the order of their numbers."""
    files = sorted(folder.glob("[0-9]*.sql"))
    return [Migration(int(file.stem.partition("_")[0]), file.stem, file.read_text()) for file in files]


async def migrate(dsn: str, schema: str, folder: Path, *, wait_s: float = 30.0) -> Sequence[str]:
    """Bring one role's schema up to date and return the names of the applied migrations.

    Waits ``wait_s`` seconds for another process that migrates. Raises ``StartupError`` if that is not enough, an
    applied file was modified, or the database is newer than this code; ``ServerAway`` if the server is lost.
    """
    migrations = load(folder)
    done: list[str] = []
    async with _session(dsn, schema) as connection:
        while _missing(migrations, await _applied(connection, schema), schema):
            async with _locked(connection, schema, wait_s):
                await connection.execute(_TABLE.format(schema=schema))
                missing = _missing(migrations, await _applied(connection, schema), schema)
                if missing:
                    await _apply(connection, schema, missing[0])
                    done.append(f"{schema} {missing[0].name}")
    return done


async def require(dsn: str, schema: str, folder: Path) -> None:
    """Check that the schema is up to date. Raises ``StartupError`` if not, and ``ServerAway``."""
    async with _session(dsn, schema) as connection:
        missing = _missing(load(folder), await _applied(connection, schema), schema)
    if missing:
        raise StartupError(f"The schema {schema} lacks migration {missing[0].name}. Run app migrate.")


@asynccontextmanager
async def _session(dsn: str, schema: str) -> AsyncIterator[Connection]:
    connection = await connect(dsn, application=f"purveyor {schema} migrate")
    with lost_means_away(dsn):
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)


@asynccontextmanager
async def _locked(connection: Connection, schema: str, wait_s: float) -> AsyncIterator[None]:
    """A transaction that only one process at a time has."""
    number = zlib.crc32(f"purveyor migrate {schema}".encode())
    deadline, told = time.monotonic() + wait_s, False
    while True:
        transaction = connection.transaction()
        await transaction.start()
        if await connection.fetchval("select pg_try_advisory_xact_lock($1)", number, timeout=_ANSWER_S):
            try:
                yield
            except BaseException:
                with suppress(*LOST):  # a server that is lost rolls back by itself
                    await transaction.rollback()
                raise
            await transaction.commit()
            return
        await transaction.rollback()
        if time.monotonic() > deadline:
            raise StartupError(
                f"Another process is still migrating the schema {schema} after {wait_s:g} s. Try again later."
            )
        if not told:
            log.warning("waiting for another process to migrate schema %s", schema)
            told = True
        await asyncio.sleep(_LOCK_POLL_S)


async def _applied(connection: Connection, schema: str) -> dict[int, str]:
    if await connection.fetchval("select to_regclass($1)", f"{schema}.migrations", timeout=_ANSWER_S) is None:
        return {}
    rows = await connection.fetch(
        f"select version, digest from {schema}.migrations",  # noqa: S608 - our name
        timeout=_ANSWER_S,
    )
    return {row["version"]: row["digest"] for row in rows}


def _missing(migrations: Sequence[Migration], applied: dict[int, str], schema: str) -> list[Migration]:
    known = {migration.version for migration in migrations}
    if newer := set(applied) - known:
        raise StartupError(
            f"The schema {schema} has migration {max(newer)}, which this version of Purveyor does not know. "
            "Run the newer version."
        )
    for migration in migrations:
        if applied.get(migration.version, migration.digest) != migration.digest:
            raise StartupError(
                f"Migration {schema} {migration.name} was modified after it was applied. Restore the original "
                "file."
            )
    return [migration for migration in migrations if migration.version not in applied]


async def _apply(connection: Connection, schema: str, migration: Migration) -> None:
    try:
        await _run(connection, schema, migration)
    except LOST as lost:
        raise ServerAway(f"Migration {schema} {migration.name} was not applied: {lost}.") from lost
    except asyncpg.PostgresError as error:
        raise StartupError(f"Migration {schema} {migration.name} failed: {error.args[0]}.") from error
    log.info("migrated", extra={"schema": schema, "migration": migration.name})


async def _run(connection: Connection, schema: str, migration: Migration) -> None:
    await connection.execute("set local lock_timeout = '5s'; set local statement_timeout = 0")
    await connection.execute(migration.sql)
    await connection.execute(
        f"""
        insert into {schema}.migrations (version, name, digest, applied_at)
        values ($1, $2, $3, clock_timestamp())""",  # noqa: S608 - our name
        migration.version,
        migration.name,
        migration.digest,
    )
