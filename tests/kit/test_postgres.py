"""What a database that is busy, lost or turned into a standby looks like to the stores."""

import asyncio

import pytest

from purveyor.kit.postgres import Database


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
        async with asyncio.timeout(1):
            assert await things.purge("things", "id <= 10") == 9

    assert await things.purge("things", "id <= 10") == 1
