"""Figures of many days."""

import asyncio
from typing import Any

import pytest

from purveyor.kit.db.standby import Reads
from purveyor.kit.deadline import deadline_at
from purveyor.kit.errors import Unavailable
from purveyor.roles.orders.figures import Figures
from roles.orders.samples import buyer

STAFF = buyer("staff")


class BusyDatabase:
    """Each statement takes longer than a request whose time is up may still wait."""

    async def fetchrow(self, *_: object) -> dict[str, Any]:
        await asyncio.sleep(0.3)
        return {"orders": 1, "revenue": 100, "mail": None}


class LostDatabase:
    """Every statement fails."""

    async def fetchrow(self, *_: object) -> dict[str, Any]:
        raise Unavailable


async def test_days_that_take_longer_than_a_request_together_are_all_loaded() -> None:
    figures = Figures(Reads(BusyDatabase()), "UTC", "EUR")  # type: ignore[arg-type]
    with deadline_at(0.0):
        days = await figures.days(STAFF, 2)
    assert [day.orders for day in days] == [1, 1]


async def test_figures_are_unavailable_without_the_database() -> None:
    with pytest.raises(Unavailable):
        await Figures(Reads(LostDatabase()), "UTC", "EUR").days(STAFF, 90)  # type: ignore[arg-type]
