"""What a database that is busy, lost or turned into a standby looks like to the stores."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped]
import pytest

from faults.proxy import Proxy, SlowClose
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import Unavailable
from waiting import PATIENCE_S


@pytest.fixture
async def things(database: Database) -> Database:
    """A table of ids in which no single statement may delete more than 1000 rows."""
    await database.execute("drop table if exists things")
    await database.execute("create table things (id int primary key)")
    await database.execute(
        """
        create or replace function few() returns trigger language plpgsql as $$
        begin
            if (select count(*) from gone) > 1000 then raise 'too many at once'; end if;
            return null;
        end $$"""
    )
    await database.execute(
        """
        create trigger few after delete on things referencing old table as gone
        for each statement execute function few()"""
    )
    return database


@pytest.mark.parametrize("count", [0, 1, 1000, 2500])
async def test_what_is_due_is_deleted_in_batches_until_none_is_left(things: Database, count: int) -> None:
    await things.execute("insert into things select generate_series(1, $1::int + 3)", count)

    assert await things.purge("things", "id <= $1", count) == count
    assert await things.fetchval("select count(*) from things") == 3


async def test_a_purge_waits_for_nobody(things: Database) -> None:
    await things.execute("insert into things select generate_series(1, 10)")
    async with things.transaction() as connection:
        await connection.execute("select from things where id = 4 for update")
        async with asyncio.timeout(PATIENCE_S):
            assert await things.purge("things", "id <= 10") == 9

    assert await things.purge("things", "id <= 10") == 1


async def test_a_server_that_turned_read_only_is_one_that_does_not_answer(
    database: Database, database_url: str, things: Database
) -> None:
    """As after a fail-over. Once the primary is back, connections that were made to the standby are not used."""
    name = database_url.rpartition("/")[2].partition("?")[0]
    await things.execute(f"alter database {name} set default_transaction_read_only = on")
    async with open_database(database_url, application="standby", max_size=1) as standby:
        with pytest.raises(Unavailable, match=r"is read-only or a standby\. Correct DATABASE_URL"):
            await standby.check()
        await things.execute(f"alter database {name} reset default_transaction_read_only")
        with pytest.raises(Unavailable, match="does not answer"):
            await standby.execute("insert into things values (1)")

        assert await standby.execute("insert into things values (1)") == 1
        assert (await standby.check()).startswith("PostgreSQL ")


async def test_the_loser_of_a_deadlock_is_told_to_try_again(things: Database) -> None:
    await things.execute("insert into things values (1), (2)")
    locked = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with things.transaction() as connection:
            await connection.execute("set local deadlock_timeout = '50ms'")
            await connection.execute("select from things where id = $1 for update", first)
            await locked.wait()
            await connection.execute("select from things where id = $1 for update", second)

    outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)

    assert sorted(type(outcome) for outcome in outcomes if outcome) == [Unavailable]


async def test_two_changes_that_exclude_each_other_are_told_to_try_again(things: Database) -> None:
    await things.execute("insert into things values (1)")

    async def change() -> None:
        async with things.transaction() as connection:
            await connection.execute("set transaction isolation level serializable")
            await connection.fetchval("select count(*) from things")
            await things.execute("update things set id = id + 1")
            await connection.execute("update things set id = id + 1")

    with pytest.raises(Unavailable):
        await change()


async def test_a_transaction_that_was_idle_for_too_long_is_lost(things: Database) -> None:
    async def idle() -> None:
        async with things.transaction() as connection:
            await connection.execute("set local idle_in_transaction_session_timeout = '50ms'")
            await asyncio.sleep(0.3)
            await connection.execute("insert into things values (1)")

    with pytest.raises(Unavailable):
        await idle()
    assert await things.fetchval("select count(*) from things") == 0


async def in_a_statement(database: Database) -> None:
    await database.fetchval("select 1")


async def in_a_transaction(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.fetchval("select 1")


@pytest.mark.parametrize("ask", [in_a_statement, in_a_transaction])
async def test_a_connection_that_was_told_of_the_servers_end_is_lost(
    database: Database, database_url: str, ask: Callable[[Database], Awaitable[None]]
) -> None:
    """Between these words and the end of the connection, which a busy machine sees later."""
    parts = urlsplit(database_url)
    async with Proxy(parts.hostname or "", parts.port or 0) as proxy:
        proxy.set(SlowClose(delay_s=5.0))
        async with open_database(proxy.through(database_url), application="told", max_size=1) as told:
            pid = await told.fetchval("select pg_backend_pid()")
            received = proxy.passed["to_client"]
            assert await database.fetchval("select pg_terminate_backend($1, 5000)", pid)
            async with asyncio.timeout(PATIENCE_S):
                while proxy.passed["to_client"] == received:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)

            with pytest.raises(Unavailable):
                await ask(told)

            assert await told.fetchval("select pg_backend_pid()") != pid


async def test_cancellation_inside_a_transaction_stays_a_cancellation(database: Database) -> None:
    """As ``Unavailable`` it would have a background task restarted that was asked to end."""
    begun = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as connection:
            begun.set()
            await connection.execute("select pg_sleep(60)")

    task = asyncio.create_task(work())
    await begun.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_error_inside_a_transaction_rolls_back_and_is_raised(database: Database) -> None:
    await database.execute("create table if not exists rolled_back (id int)")

    async def work() -> None:
        async with database.transaction() as connection:
            await connection.execute("insert into rolled_back values (1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert await database.fetchval("select count(*) from rolled_back") == 0


@pytest.mark.parametrize(("numbers", "left"), [((5, 6, 7), 3), ((5, 6, 5), 0)], ids=["all", "one is refused"])
async def test_statement_for_many_rows_answers_in_order_and_succeeds_or_fails_as_one(
    things: Database, numbers: tuple[int, ...], left: int
) -> None:
    with nullcontext() if left else pytest.raises(asyncpg.UniqueViolationError):
        found = await things.fetchmany("insert into things values ($1) returning id", [(one,) for one in numbers])
        assert [row["id"] for row in found] == list(numbers)
    assert await things.fetchval("select count(*) from things") == left
