"""Rows that are read by id: one statement for those who wait at the same time."""

import asyncio
from uuid import UUID, uuid4

import pytest

from purveyor.kit.db.postgres import Database
from purveyor.kit.db.rows import Rows
from purveyor.kit.deadline import deadline_at
from purveyor.kit.errors import Unavailable

_IDS = [UUID(int=number) for number in range(50)]


async def test_reads_at_the_same_time_share_a_statement(database: Database) -> None:
    rows = Rows(database, "select id, statement_timestamp() as read_at from unnest($1::uuid[]) as id")
    found = await asyncio.gather(*map(rows.find, _IDS))

    assert [row["id"] for row in found if row] == _IDS
    assert len({row["read_at"] for row in found if row}) <= 2


async def test_an_unknown_id_has_no_row_beside_those_of_others(database: Database) -> None:
    rows = Rows(database, f"select id from unnest($1::uuid[]) as id where id <> '{_IDS[1]}'")
    first, unknown, again = await asyncio.gather(*map(rows.find, (_IDS[0], _IDS[1], _IDS[0])))

    assert first is not None
    assert first["id"] == _IDS[0]
    assert unknown is None
    assert again == first


async def test_a_read_waits_no_longer_than_its_request(database: Database) -> None:
    rows = Rows(database, "select id from unnest($1::uuid[]) as id, pg_sleep(1)")
    with deadline_at(0.0), pytest.raises(Unavailable):
        await rows.find(uuid4())
