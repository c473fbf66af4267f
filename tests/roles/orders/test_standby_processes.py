"""Two processes that list from a standby: each shows at once what the other has stored."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from own_processes import Processes, own_processes
from purveyor_drill.servers.postgres import PostgresServer, PostgresStandby
from running import shops_through
from shop import Shop
from waiting import until

NAMES = ("one", "two")
ANSWERED = 'purveyor_standby_reads_total{schema="orders",server="standby"}'


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def standby(primary: PostgresServer) -> Iterator[PostgresStandby]:
    with PostgresStandby(primary) as server:
        yield server


@pytest_asyncio.fixture
async def house(tmp_path: Path, primary: PostgresServer, standby: PostgresStandby) -> AsyncIterator[Processes]:
    settings = {"DATABASE_URL": primary.url, "ORDERS_READ_DATABASE_URL": standby.url}
    async with own_processes(tmp_path, **settings) as processes:
        for name in NAMES:
            processes.start(name, "serve", "auth,orders,catalog")
            await processes.ready(name)
        yield processes


@pytest_asyncio.fixture
async def shops(house: Processes) -> AsyncIterator[list[Shop]]:
    """The shop through each of them."""
    async with shops_through(house, *NAMES) as shops:
        yield shops


async def test_a_list_shows_what_another_process_has_just_stored(
    shops: list[Shop], standby: PostgresStandby
) -> None:
    one, two = shops
    ada = await one.customer()

    async def place_and_list() -> None:
        placed = (await one.place(ada)).json()["id"]
        assert (await two.list(ada, limit=1)).json()["orders"][0]["id"] == placed

    async def has_the_standby_answered() -> bool:
        await place_and_list()
        return ANSWERED in (await two.raw("GET", "/metrics")).text

    await until(has_the_standby_answered)
    standby.kill()
    await place_and_list()
