"""Behind PgBouncer in transaction mode, no session is kept, and no time limit arrives."""

import asyncio
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import Unavailable
from purveyor_drill.servers.pgbouncer import PgBouncerServer


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    """The same database through the pooler."""
    if reason := PgBouncerServer.available():
        pytest.skip(f"no {PgBouncerServer.name}: {reason}")
    with PgBouncerServer(database_url) as pooler:
        yield pooler.database_url(database_url)


async def test_migrations_need_no_session(database: Database, pooled_url: str, tmp_path: Path) -> None:
    (tmp_path / "0001_one.sql").write_text("create table pooled.things (id int)")
    (tmp_path / "0002_two.sql").write_text("select pg_sleep(0.3); insert into pooled.things values (1)")
    done = await asyncio.gather(*(migrate(pooled_url, "pooled", tmp_path) for _ in range(6)))

    assert sorted(chain(*done)) == ["pooled 0001_one", "pooled 0002_two"]
    assert await database.fetchval("select count(*) from pooled.things") == 1
    locks = """
        select count(*) from pg_locks join pg_database d on d.oid = database
        where locktype = 'advisory' and datname = current_database()"""
    assert await database.fetchval(locks) == 0


async def test_a_pooler_is_told_from_a_server_that_keeps_sessions(database: Database, pooled_url: str) -> None:
    await database.require_sessions("SOME_URL")
    assert "warning" not in await database.check()

    async with open_database(pooled_url, application="test", max_size=2) as pooled:
        with pytest.raises(Unavailable, match="Correct SOME_URL to reach PostgreSQL directly"):
            await pooled.require_sessions("SOME_URL")
        limits = "idle_in_transaction_session_timeout, lock_timeout, statement_timeout"
        assert f"warning: a pooler dropped {limits}; " in await pooled.check()
