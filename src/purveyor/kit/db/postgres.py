"""PostgreSQL for the stores: a pool with deadlines that raises ``Unavailable`` when the server is lost.

Pooled connections never use ``LISTEN``, ``SET`` or session locks, so releasing one needs no reset query. One
deadline covers acquiring a connection and the command. It uses asyncpg's own timeouts, as ``wait_for`` does not
bound a call to a frozen server (MagicStack/asyncpg#431).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from purveyor.kit.deadline import seconds_left
from purveyor.kit.errors import ServerAway, StartupError, Unavailable

Connection: TypeAlias = asyncpg.Connection
Record: TypeAlias = asyncpg.Record
NotAllowed: TypeAlias = asyncpg.InsufficientPrivilegeError

CONNECT_TIMEOUT_S = 2.0
ACQUIRE_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 2.0
_SESSION_SETTINGS = {  # in milliseconds
    "idle_in_transaction_session_timeout": "15000",
    "lock_timeout": "2000",
    "statement_timeout": "5000",  # longer than any caller waits
}
_IDLE_S = 30.0
"""Seconds until an unused connection is closed."""
_OLDEST = 14
_PURGE_BATCH = 1000

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # deadlock or conflict: nothing was done, a retry may succeed
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""Errors of asyncpg for a lost server, or for a failure that a retry may cure.

``InternalClientError`` is raised for an idle pooled connection to which the server has said goodbye.
"""

_BROKEN = (
    TimeoutError,
    asyncio.CancelledError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
)
"""After these the connection is terminated: an orderly release would wait for the server once more, and a server
that became a standby is not the one that a new connection reaches."""

AWAY = "The database does not answer."


_in_transaction: ContextVar[bool] = ContextVar("in_transaction", default=False)


def columns(rows: Iterable[tuple[object, ...]]) -> Iterable[list[object]]:
    """Turn rows of arguments into the arrays of an ``unnest``. There must be a row."""
    return map(list, zip(*rows, strict=True))


def unnest(*types: str, first: int = 1) -> str:
    """Return SQL that turns arrays of these types, the parameters from ``$first`` on, into rows.

    The subqueries hide the lengths of the arrays from the planner, which would otherwise plan every call anew for
    its number of rows.
    """
    arrays = ", ".join(f"(select ${place}::{type_}[])" for place, type_ in enumerate(types, first))
    return f"unnest({arrays})"


def inside_transaction() -> bool:
    """Return whether this task holds a transaction open. Asks are refused then: they would wait on the network."""
    return _in_transaction.get()


@contextmanager
def _lost_means_unavailable() -> Iterator[None]:
    try:
        yield
    except LOST as lost:
        raise Unavailable(AWAY) from lost


@contextmanager
def lost_means_away(dsn: str) -> Iterator[None]:
    """Raise ``ServerAway`` for a server that is lost at start."""
    try:
        yield
    except LOST as lost:
        reason = str(lost) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
        raise ServerAway(f"PostgreSQL at {address_of(dsn)} does not answer: {reason}.") from lost


class _PooledConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg carries no types
    """A connection that is released without a reset query."""

    def get_reset_query(self) -> str:
        return ""


class Database:
    """One role's access to its PostgreSQL schema.

    Every method raises ``Unavailable`` when the server is down, frozen or out of connections. The outcome of a
    write is then unknown; only an idempotency key tells.
    """

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self._pool = pool
        self._dsn = dsn
        self._limits = sorted(_session_settings(dsn))
        self._keeps_sessions = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled connection, for several statements without a transaction."""
        with _lost_means_unavailable():
            connection = await self._pool.acquire(timeout=seconds_left(ACQUIRE_TIMEOUT_S))
            try:
                yield connection
            except _BROKEN:
                connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A pooled connection inside a transaction: committed at the end, rolled back by an exception."""
        async with self.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            token = _in_transaction.set(True)
            try:
                yield connection
            except _BROKEN:
                raise  # ``connection`` terminates it; a rollback would wait for the server once more
            except BaseException:
                await transaction.rollback()
                raise
            else:
                await transaction.commit()
            finally:
                _in_transaction.reset(token)

    @asynccontextmanager
    async def dedicated(self, application: str) -> AsyncIterator[Connection]:
        """A connection outside the pool, for session locks whose loss must be noticed."""
        try:
            connection = await connect(self._dsn, application=application)
        except StartupError as away:
            raise Unavailable(str(away)) from away
        try:
            yield connection
        finally:
            connection.terminate()

    async def fetch(self, sql: str, *args: object) -> Sequence[Record]:
        """All rows of one statement, in one round trip."""
        rows: Sequence[Record] = await self._run("fetch", sql, args)
        return rows

    async def fetchrow(self, sql: str, *args: object) -> Record | None:
        """The first row of one statement, or ``None``, in one round trip."""
        return await self._run("fetchrow", sql, args)

    async def fetchmany(self, sql: str, rows: Sequence[Sequence[object]]) -> Sequence[Record]:
        """All rows of one statement that is run for each of ``rows``, in one round trip and one transaction."""
        found: Sequence[Record] = await self._run("fetchmany", sql, (rows,))
        return found

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or ``None``, in one round trip."""
        return await self._run("fetchval", sql, args)

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement and return the number of rows it touched."""
        status: str = await self._run("execute", sql, args)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def purge(self, table: str, due: str, *args: object) -> int:
        """Delete the rows that meet ``due``, an SQL condition, and return how many there were.

        Works in batches, because a single statement could exceed its time limit on every attempt. Locked rows are
        left for the next purge.
        """
        statement = f"""
            delete from {table} where ctid = any(array(
                select ctid from {table} where {due} limit {_PURGE_BATCH} for update skip locked
            ))"""  # noqa: S608 - our own names and conditions
        deleted = 0
        while True:
            batch = await self.execute(statement, *args)
            deleted += batch
            if batch < _PURGE_BATCH:
                return deleted

    async def _run(self, method: str, sql: str, args: Sequence[object]) -> Any:
        """``connection`` inlined: its two generators are measurable in every request."""
        now = asyncio.get_running_loop().time
        deadline = now() + seconds_left(COMMAND_TIMEOUT_S)
        try:
            connection = await self._pool.acquire(timeout=min(ACQUIRE_TIMEOUT_S, deadline - now()))
            try:
                return await getattr(connection, method)(sql, *args, timeout=deadline - now())
            except _BROKEN:
                connection.terminate()  # releasing it would wait for the answer to a cancel request
                raise
            finally:
                await self._pool.release(connection)
        except LOST as lost:
            raise Unavailable(AWAY) from lost

    def connections(self) -> tuple[int, int]:
        """The connections of the pool that are in use, and those that are open and idle."""
        idle: int = self._pool.get_idle_size()
        return self._pool.get_size() - idle, idle

    async def require_sessions(self, setting: str) -> None:
        """Raise ``Unavailable`` behind a pooler in transaction mode; the text names ``setting``.

        There a session lock outlives its owner. A success is remembered.
        """
        if self._keeps_sessions:
            return
        async with self.dedicated("purveyor check") as one, self.dedicated("purveyor check") as other:
            with _lost_means_unavailable():
                sessions = [
                    await each.fetchval("select pg_backend_pid()", timeout=COMMAND_TIMEOUT_S)
                    for each in (one, other, one, other)
                ]
        if sessions[:2] != sessions[2:] or sessions[0] == sessions[1]:
            raise Unavailable(
                "Mail senders hold locks for as long as their session lives, which a pooler in transaction mode "
                f"does not keep. Correct {setting} to reach PostgreSQL directly."
            )
        self._keeps_sessions = True

    async def check(self) -> str:
        """The server's version, and a warning if it has no time limits. Raises ``Unavailable`` if it is unfit."""
        version, number, read_only, unlimited = await self.fetchrow(  # type: ignore[misc]  # it always has a row
            """
            select current_setting('server_version'), current_setting('server_version_num')::int,
                pg_is_in_recovery() or current_setting('transaction_read_only')::bool,
                array(select name from unnest($1::text[]) as name where current_setting(name) = '0')""",
            self._limits,
        )
        if number < _OLDEST * 10_000:
            raise Unavailable(
                f"PostgreSQL {version} is too old. Upgrade to {_OLDEST} or newer, or correct DATABASE_URL."
            )
        if read_only:
            raise Unavailable(
                f"PostgreSQL {version} is read-only or a standby. Correct DATABASE_URL to point to the primary."
            )
        if unlimited:
            names = ", ".join(unlimited)
            return f"PostgreSQL {version}, warning: a pooler dropped {names}; set them with ALTER ROLE"
        return f"PostgreSQL {version}"


async def connect(dsn: str, *, application: str) -> Connection:
    """Open a connection outside any pool, for migrations, locks and listening.

    Raises ``ServerAway``, or ``StartupError`` when the server refuses the user or the database.
    """
    try:
        with lost_means_away(dsn):
            return await asyncpg.connect(
                dsn,
                timeout=CONNECT_TIMEOUT_S,
                statement_cache_size=0,  # few statements, and PgBouncer before 1.21 keeps none
                server_settings={"application_name": application},
            )
    except asyncpg.PostgresError as error:
        raise StartupError(f"PostgreSQL at {address_of(dsn)} refused the connection: {error}.") from error


@asynccontextmanager
async def open_database(
    dsn: str, *, application: str, max_size: int, statement_cache_size: int = 100
) -> AsyncIterator[Database]:
    """Open a pool of at most ``max_size`` connections and close it at the end.

    Connections are opened on demand, and again after an outage. ``statement_cache_size=0`` is for PgBouncer before
    1.21 in transaction mode.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=max_size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        max_inactive_connection_lifetime=_IDLE_S,
        statement_cache_size=statement_cache_size,
        connection_class=_PooledConnection,
        server_settings={"application_name": application, **_session_settings(dsn)},
    )
    try:
        yield Database(pool, dsn)
    finally:
        pool.terminate()


def _session_settings(dsn: str) -> dict[str, str]:
    """Time limits that the server enforces. A limit in the DSN wins, which asyncpg would overrule."""
    named = {name for name, _ in parse_qsl(urlsplit(dsn).query, keep_blank_values=True)}
    return {name: value for name, value in _SESSION_SETTINGS.items() if name not in named}


def address_of(dsn: str) -> str:
    """The host, port and database of a DSN."""
    return dsn.partition("://")[2].rpartition("@")[2].partition("?")[0] or "the default address"


def storable(text: str, length: int) -> str:
    """Cut a foreign text, such as an error message, to ``length`` and escape what PostgreSQL refuses."""
    return text[:length].encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
