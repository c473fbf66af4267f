"""What PgBouncer in transaction mode changes: no session is kept."""

import asyncio
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import Database
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
