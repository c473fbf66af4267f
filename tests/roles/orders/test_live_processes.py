"""Live timelines between real processes: one hears of the other's changes, and lets its readers go at its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio

from own_processes import Processes, own_processes
from running import shops_through
from shop import Shop
from waiting import PATIENCE_S

NAMES = ("one", "two")


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[Processes]:
    """Two processes that serve the same shop."""
    async with own_processes(tmp_path) as processes:
        for name in NAMES:
            processes.start(name, "serve", "auth,orders,catalog")
            await processes.ready(name)
        yield processes


@pytest_asyncio.fixture
async def shops(house: Processes) -> AsyncIterator[list[Shop]]:
    """The shop through each of them."""
    async with shops_through(house, *NAMES) as shops:
        yield shops


async def test_a_stream_hears_of_other_processes_and_ends_with_its_own(
    house: Processes, shops: list[Shop]
) -> None:
    one, two = shops
    ada = await one.customer()
    orders = [(await one.place(ada)).json()["id"] for _ in range(3)]
    async with AsyncExitStack() as stack:
        sources = [await stack.enter_async_context(two.live(ada, order)) for order in orders]
        async with asyncio.timeout(PATIENCE_S):
            assert [(await source.next()).event for source in sources] == ["placed"] * 3
            for order in orders:
                assert (await one.cancel(ada, order)).status_code == 200
            told = [await source.next() for source in sources]
        assert [event.event for event in told] == ["cancelled"] * 3

        ending = asyncio.create_task(house.end("two"))
        async with asyncio.timeout(PATIENCE_S):
            for source in sources:
                await source.rest()  # to a proper end: an answer that is cut off would be an error
            await ending

    async with one.live(ada, orders[0], last_event_id=told[0].id) as source:
        assert source.answer.status_code == 200
