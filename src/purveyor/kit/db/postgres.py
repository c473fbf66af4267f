"""PostgreSQL for the stores: a pool with deadlines, one place that turns lost servers into ``Unavailable``.

Two rules make the pool cheap and safe: no ``LISTEN``, ``SET`` or session lock on a pooled connection, so that
giving one back needs no reset round trip; and one deadline bounds acquiring and commanding together, through
asyncpg's own timeouts (``wait_for`` round its calls does not bound a frozen server: MagicStack/asyncpg#431).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from purveyor.kit.deadline import seconds_left
from purveyor.kit.errors import ServerAway, StartupError, Unavailable

Connection: TypeAlias = asyncpg.Connection
Record: TypeAlias = asyncpg.Record

CONNECT_TIMEOUT_S = 2.0
ACQUIRE_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 2.0
_SESSION_SETTINGS = {  # in milliseconds
    "idle_in_transaction_session_timeout": "15000",
    "lock_timeout": "2000",
    "statement_timeout": "5000",  # the server ends a statement that nobody waits for any longer
}
_IDLE_S = 30.0
"""How long a connection stays without use: what a moment of load took is given back soon after it."""
_OLDEST = 14
_PURGE_BATCH = 1000

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # a deadlock, a conflict: nothing was done, and the next attempt may succeed
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What asyncpg raises when a server is lost, or cannot do now what it could do later.

``InternalClientError`` is one: an idle connection that was told of the server's end is in the pool until closed.
"""

_USELESS = (
    TimeoutError,
    asyncio.CancelledError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
)
"""What ends a connection too: to give it back in order would be to wait once more for who does not answer, and a
server that became a standby is not the one that the next connection reaches."""

_AWAY = "The database does not answer."

_in_transaction: ContextVar[bool] = ContextVar("in_transaction", default=False)


def inside_transaction() -> bool:
    """Whether this task holds a database transaction open: no ask may wait on the network then."""
    return _in_transaction.get()


@contextmanager
def _lost_means_unavailable() -> Iterator[None]:
    try:
        yield
    except LOST as lost:
        raise Unavailable(_AWAY) from lost


@contextmanager
def lost_means_away(dsn: str) -> Iterator[None]:
    """Raise ``ServerAway`` for a server that is lost at start."""
    try:
        yield
    except LOST as lost:
        reason = str(lost) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
        raise ServerAway(f"PostgreSQL at {address_of(dsn)} does not answer: {reason}.") from lost


class _PooledConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg carries no types
    """A connection that is given back without the reset query (see the module's first lines)."""

    def get_reset_query(self) -> str:
        return ""


class Database:
    """One role's access to its PostgreSQL schema.

    Every method raises ``Unavailable`` when the server is down, frozen or out of connections. A write that
    ended so may still have been committed: only an idempotency key tells.
    """

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self._pool = pool
        self._dsn = dsn

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled connection, for several statements without a transaction."""
        with _lost_means_unavailable():
            connection = await self._pool.acquire(timeout=seconds_left(ACQUIRE_TIMEOUT_S))
            try:
                yield connection
            except _USELESS:
                connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A pooled connection inside a transaction: committed at the end, rolled back by an exception."""
        async with self.connection() as connection, connection.transaction():
            token = _in_transaction.set(True)
            try:
                yield connection
            except _USELESS:
                connection.terminate()  # who does not answer would be waited for once more by the rollback
                raise
            finally:
                _in_transaction.reset(token)

    @asynccontextmanager
    async def dedicated(self, application: str) -> AsyncIterator[Connection]:
        """A connection of one's own, outside the pool: for session locks, whose loss must be noticed."""
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

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row, or ``None``, in one round trip."""
        return await self._run("fetchval", sql, args)

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement; the number of rows that it touched."""
        status: str = await self._run("execute", sql, args)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def purge(self, table: str, due: str, *args: object) -> int:
        """Delete every row of a table that is ``due``, an SQL condition; how many there were.

        In batches: one statement for all of them could run out of time, now and at every later attempt. Rows that
        somebody else holds are left for the next purge.
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
        """``connection`` written out: on the way of every request, its two generators are felt."""
        now = asyncio.get_running_loop().time
        deadline = now() + seconds_left(COMMAND_TIMEOUT_S)
        try:
            connection = await self._pool.acquire(timeout=min(ACQUIRE_TIMEOUT_S, deadline - now()))
            try:
                return await getattr(connection, method)(sql, *args, timeout=deadline - now())
            except _USELESS:
                connection.terminate()  # its release would wait for the server's answer to a cancel request
                raise
            finally:
                await self._pool.release(connection)
        except LOST as lost:
            raise Unavailable(_AWAY) from lost

    async def check(self) -> str:
        """The server's version, as a sign of life. Raises ``Unavailable``: too old, or read-only."""
        version, number, read_only = await self.fetchrow(  # type: ignore[misc]  # it always has a row
            """
            select current_setting('server_version'), current_setting('server_version_num')::int,
                pg_is_in_recovery() or current_setting('transaction_read_only')::bool"""
        )
        if number < _OLDEST * 10_000:
            raise Unavailable(
                f"PostgreSQL {version} is too old. Upgrade to {_OLDEST} or newer, or correct DATABASE_URL."
            )
        if read_only:
            raise Unavailable(
                f"PostgreSQL {version} is read-only or a standby. Correct DATABASE_URL to point to the primary."
            )
        return f"PostgreSQL {version}"


async def connect(dsn: str, *, application: str) -> Connection:
    """A connection of one's own, outside any pool: for migrations, locks and listening.

    Raises ``ServerAway``, or ``StartupError`` when the server refuses the user or the database.
    """
    try:
        with lost_means_away(dsn):
            return await asyncpg.connect(
                dsn, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": application}
            )
    except asyncpg.PostgresError as error:
        raise StartupError(f"PostgreSQL at {address_of(dsn)} refused the connection: {error}.") from error


@asynccontextmanager
async def open_database(
    dsn: str, *, application: str, max_size: int, statement_cache_size: int = 100
) -> AsyncIterator[Database]:
    """Open a pool of at most ``max_size`` connections and close it at the end.

    ``statement_cache_size=0`` is for a pgbouncer in transaction mode older than 1.21.
    Connections are made when they are needed, and again when the server was away.
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
    """Bounds that the server keeps, unless the DSN itself names one of them: asyncpg would overrule that."""
    named = {name for name, _ in parse_qsl(urlsplit(dsn).query, keep_blank_values=True)}
    return {name: value for name, value in _SESSION_SETTINGS.items() if name not in named}


def address_of(dsn: str) -> str:
    """The host, port and database of a DSN, without the user, the password and the options."""
    return dsn.partition("://")[2].rpartition("@")[2].partition("?")[0] or "the default address"


def storable(text: str, length: int) -> str:
    """At most ``length`` characters of a foreign text, such as an error's, that a text column can hold."""
    return text[:length].encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
