"""Reads from a real standby: never older than what was committed before, and from the primary in its absence."""

from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from purveyor.kit.db import standby as standby_module
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.db.standby import Reads
from purveyor.kit.errors import Unavailable
from purveyor.kit.metrics import STANDBY_READS
from purveyor_drill.servers.postgres import PostgresServer, PostgresStandby
from waiting import until

COUNT = "select count(*) from things"


@pytest.fixture(scope="module")
def primary_server() -> Iterator[PostgresServer]:
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def standby_server(primary_server: PostgresServer) -> Iterator[PostgresStandby]:
    with PostgresStandby(primary_server) as server:
        yield server


@pytest.fixture
async def primary(primary_server: PostgresServer) -> AsyncIterator[Database]:
    async with open_database(primary_server.url, application="tests", max_size=3) as opened:
        await opened.execute("drop table if exists things")
        await opened.execute("create table things (id int)")
        yield opened


@pytest.fixture
async def standby(standby_server: PostgresStandby) -> AsyncIterator[Database]:
    async with open_database(standby_server.url, application="tests", max_size=3) as opened:
        yield opened


@pytest.fixture
def reads(primary: Database, standby: Database, monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Reads that try the standby again at once after a failure."""
    monkeypatch.setattr(standby_module, "REST_S", 0.0)
    return Reads(primary, standby, schema="tests")


def answered_by(server: str) -> float:
    """How many reads the server has answered."""
    return STANDBY_READS.labels("tests", server)._value.get()


async def add(primary: Database) -> None:
    await primary.execute("insert into things values (1)")


async def count(reads: Reads) -> int:
    found: int = await reads.run(lambda database: database.fetchval(COUNT))
    return found


async def test_the_standby_answers_with_everything_committed_before(primary: Database, reads: Reads) -> None:
    before = answered_by("standby")
    for written in range(1, 31):
        await add(primary)
        assert await count(reads) == written

    await until(partial(_is_answered_by_standby, reads, before))


async def _is_answered_by_standby(reads: Reads, before: float) -> bool:
    await count(reads)
    return answered_by("standby") > before


async def test_the_primary_answers_while_the_standby_is_behind(
    primary: Database, standby: Database, reads: Reads
) -> None:
    await until(partial(_is_answered_by_standby, reads, answered_by("standby")))
    await standby.fetchval("select pg_wal_replay_pause()")
    try:
        await add(primary)
        behind = await standby.fetchval(COUNT)
        before = answered_by("primary")
        assert (behind, await count(reads)) == (0, 1)
        assert answered_by("primary") == before + 1
    finally:
        await standby.fetchval("select pg_wal_replay_resume()")
    await until(partial(_is_answered_by_standby, reads, answered_by("standby")))


async def test_the_primary_answers_while_the_standby_is_down(
    primary: Database, standby_server: PostgresStandby, reads: Reads
) -> None:
    await add(primary)
    standby_server.kill()
    try:
        assert await count(reads) == 1
        with pytest.raises(Unavailable):
            await reads.check()
    finally:
        standby_server.restart()
    await until(partial(_is_answered_by_standby, reads, answered_by("standby")))


async def test_a_read_that_fails_on_the_standby_runs_on_the_primary(
    primary: Database, standby: Database, reads: Reads
) -> None:
    """As after a conflict with recovery, which cancels a query on the standby."""
    await until(partial(_is_answered_by_standby, reads, answered_by("standby")))
    asked: list[Database] = []

    async def read(database: Database) -> int:
        asked.append(database)
        if database is standby:
            raise Unavailable
        found: int = await database.fetchval(COUNT)
        return found

    assert await reads.run(read) == 0
    assert asked == [standby, primary]


async def test_a_server_that_is_no_standby_of_the_primary_is_never_read(
    primary: Database, postgres_server: PostgresServer
) -> None:
    async with open_database(postgres_server.url, application="tests", max_size=2) as other:
        for wrong in (primary, other):
            reads = Reads(primary, wrong, schema="tests")
            before = answered_by("primary")
            assert await count(reads) == 0
            assert answered_by("primary") == before + 1
            with pytest.raises(Unavailable, match="not a standby of the primary"):
                await reads.check()


async def test_the_check_names_the_lag(primary: Database, standby: Database, reads: Reads) -> None:
    assert "bytes behind" in await reads.check()
    assert not Reads(primary).has_standby
