"""Migrations on a real server: in order, once, by any number of runners, whole or not at all."""

import asyncio
import zlib
from itertools import chain
from pathlib import Path

import pytest

from purveyor.kit.db.migrate import load, migrate, require
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import ServerAway, StartupError
from waiting import PATIENCE_S

FIRST = "create table {schema}.things (id int primary key);"
SECOND = "alter table {schema}.things add column name text;\ninsert into {schema}.things values (1, 'one');"


@pytest.fixture
def schema(request: pytest.FixtureRequest) -> str:
    """A schema of the test's own."""
    return f"s{zlib.crc32(request.node.name.encode())}"


@pytest.fixture
def folder(tmp_path: Path, schema: str) -> Path:
    """Two migrations, written in the wrong order, beside what is none."""
    write(tmp_path, schema, "0002_name.sql", SECOND)
    write(tmp_path, schema, "0001_things.sql", FIRST)
    (tmp_path / "README.sql").write_text("nonsense")
    (tmp_path / "0003_notes.txt").write_text("nonsense")
    return tmp_path


def write(folder: Path, schema: str, name: str, sql: str) -> None:
    (folder / name).write_text(sql.format(schema=schema))


async def applied(database: Database, schema: str) -> list[str]:
    rows = await database.fetch(f"select name from {schema}.migrations order by applied_at, version")
    return [row["name"] for row in rows]


async def test_they_are_applied_in_the_order_of_their_numbers(
    database: Database, database_url: str, schema: str, folder: Path
) -> None:
    assert await migrate(database_url, schema, folder) == [f"{schema} 0001_things", f"{schema} 0002_name"]

    assert await applied(database, schema) == ["0001_things", "0002_name"]
    assert await database.fetchval(f"select name from {schema}.things") == "one"


async def test_numbers_count_and_not_their_digits(schema: str, tmp_path: Path) -> None:
    for name in ("0010_c.sql", "0009_b.sql", "0001_a.sql"):
        write(tmp_path, schema, name, "select 1")

    assert [migration.version for migration in load(tmp_path)] == [1, 9, 10]


async def test_a_second_time_does_nothing_and_a_new_file_is_added(
    database: Database, database_url: str, schema: str, folder: Path
) -> None:
    await migrate(database_url, schema, folder)
    assert await migrate(database_url, schema, folder) == []

    write(folder, schema, "0003_more.sql", "insert into {schema}.things values (3, 'three')")
    assert await migrate(database_url, schema, folder) == [f"{schema} 0003_more"]
    assert await database.fetchval(f"select count(*) from {schema}.things") == 2


async def test_many_runners_at_once_apply_each_file_once(
    database: Database, database_url: str, schema: str, folder: Path
) -> None:
    write(folder, schema, "0003_slow.sql", "select pg_sleep(0.3); insert into {schema}.things values (3, 'three')")
    done = await asyncio.gather(*(migrate(database_url, schema, folder) for _ in range(6)))

    assert sorted(chain(*done)) == [f"{schema} {name}" for name in ("0001_things", "0002_name", "0003_slow")]
    assert await applied(database, schema) == ["0001_things", "0002_name", "0003_slow"]
    assert await database.fetchval(f"select count(*) from {schema}.things") == 2


async def test_two_roles_do_not_wait_for_each_other(database_url: str, schema: str, tmp_path: Path) -> None:
    slow, quick = tmp_path / "slow", tmp_path / "quick"
    for place in (slow, quick):
        place.mkdir()
    write(slow, schema, "0001_slow.sql", "select pg_sleep(1)")
    write(quick, schema, "0001_quick.sql", "select 1")
    waiting = asyncio.create_task(migrate(database_url, f"{schema}_slow", slow))
    await asyncio.sleep(0.2)
    await migrate(database_url, f"{schema}_quick", quick)

    assert not waiting.done()
    await waiting


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(
    database: Database, database_url: str, schema: str, folder: Path
) -> None:
    await migrate(database_url, schema, folder)
    write(folder, schema, "0001_things.sql", FIRST + " ")
    write(folder, schema, "0003_more.sql", "create table {schema}.more (id int)")

    with pytest.raises(StartupError, match=rf"^Migration {schema} 0001_things was modified"):
        await migrate(database_url, schema, folder)
    assert await applied(database, schema) == ["0001_things", "0002_name"]


async def test_a_database_of_a_newer_version_is_refused(
    database: Database, database_url: str, schema: str, folder: Path
) -> None:
    await migrate(database_url, schema, folder)
    (folder / "0002_name.sql").unlink()

    with pytest.raises(StartupError, match=rf"The schema {schema} has migration 2, .*Run the newer version"):
        await migrate(database_url, schema, folder)


async def test_a_file_that_fails_is_rolled_back_whole_and_those_before_it_stay(
    database: Database, database_url: str, schema: str, folder: Path
) -> None:
    bad = "insert into {schema}.things values (2, 'two');\ncreate table {schema}.late (id int);\nselect 1/0;"
    write(folder, schema, "0003_bad.sql", bad)
    write(folder, schema, "0004_after.sql", "create table {schema}.after (id int)")
    with pytest.raises(StartupError, match="0003_bad failed: division by zero"):
        await migrate(database_url, schema, folder)

    assert await applied(database, schema) == ["0001_things", "0002_name"]
    assert await database.fetchval(f"select count(*) from {schema}.things") == 1
    assert await database.fetchval("select to_regclass($1)", f"{schema}.late") is None

    write(folder, schema, "0003_bad.sql", bad.replace("select 1/0;", ""))
    assert await migrate(database_url, schema, folder) == [f"{schema} 0003_bad", f"{schema} 0004_after"]


async def test_a_file_whose_record_cannot_be_written_was_not_applied(
    database: Database, database_url: str, schema: str, folder: Path
) -> None:
    refuse = "create table {schema}.late (id int);\nalter table {schema}.migrations add check (version <> 3);"
    write(folder, schema, "0003_unrecorded.sql", refuse)
    with pytest.raises(StartupError, match="0003_unrecorded failed"):
        await migrate(database_url, schema, folder)

    assert await applied(database, schema) == ["0001_things", "0002_name"]
    assert await database.fetchval("select to_regclass($1)", f"{schema}.late") is None


async def test_a_runner_that_is_gone_leaves_no_lock(database_url: str, schema: str, folder: Path) -> None:
    write(folder, schema, "0003_slow.sql", "select pg_sleep(30)")
    runner = asyncio.create_task(migrate(database_url, schema, folder))
    await asyncio.sleep(0.3)
    runner.cancel()
    await asyncio.gather(runner, return_exceptions=True)
    write(folder, schema, "0003_slow.sql", "select 1")

    async with asyncio.timeout(PATIENCE_S):
        assert await migrate(database_url, schema, folder) == [f"{schema} 0003_slow"]


async def test_it_leaves_no_connection(database: Database, database_url: str, schema: str, folder: Path) -> None:
    await migrate(database_url, schema, folder)
    ours = "select count(*) from pg_stat_activity where application_name like 'purveyor % migrate'"
    async with asyncio.timeout(PATIENCE_S):
        while await database.fetchval(ours):
            await asyncio.sleep(0.02)


async def test_a_server_that_is_not_there_may_be_starting(schema: str, folder: Path) -> None:
    with pytest.raises(ServerAway, match=r"PostgreSQL at 127\.0\.0\.1:1/none does not answer"):
        await migrate("postgresql://u:canary@127.0.0.1:1/none", schema, folder)


async def test_the_wait_for_another_runner_has_an_end_and_is_told_once(
    database: Database, database_url: str, schema: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, schema, "0001_things.sql", "select pg_sleep(60)")
    runner = asyncio.create_task(migrate(database_url, schema, folder))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await database.fetchval(
                "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and application_name = $1",
                f"purveyor {schema} migrate",
            ):
                await asyncio.sleep(0.02)
        with pytest.raises(StartupError, match=rf"process is still migrating the schema {schema} after 0.5 s\."):
            await migrate(database_url, schema, folder, wait_s=0.5)
    finally:
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)

    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for another process to migrate schema {schema}"
    ]


async def test_a_server_that_is_lost_in_the_middle_may_come_back(
    database_url: str, schema: str, folder: Path
) -> None:
    write(folder, schema, "0003_killed.sql", "select pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(ServerAway, match=rf"Migration {schema} 0003_killed was not applied: "):
        await migrate(database_url, schema, folder)

    write(folder, schema, "0003_killed.sql", "select 1")
    assert await migrate(database_url, schema, folder) == [f"{schema} 0003_killed"]


async def test_what_is_missing_is_said_and_nothing_is_changed(
    database: Database, database_url: str, schema: str, folder: Path
) -> None:
    with pytest.raises(StartupError, match=rf"^The schema {schema} lacks migration 0001_things\. Run app mi"):
        await require(database_url, schema, folder)
    assert await database.fetchval("select to_regnamespace($1)::text", schema) is None

    await migrate(database_url, schema, folder)
    await require(database_url, schema, folder)
    write(folder, schema, "0003_more.sql", "select 1")
    with pytest.raises(StartupError, match="lacks migration 0003_more"):
        await require(database_url, schema, folder)
    assert await applied(database, schema) == ["0001_things", "0002_name"]
