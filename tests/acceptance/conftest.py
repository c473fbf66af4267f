"""People that several tests need, and a shop that is not busy with what another test ordered."""

import pytest
import pytest_asyncio

from shop import Customer, Shop

_WAITING = 20
"""Mails of other tests that a test's own may have to wait for."""


@pytest_asyncio.fixture(autouse=True)
async def _caught_up(request: pytest.FixtureRequest) -> None:
    if "shop" in request.fixturenames:
        shop: Shop = request.getfixturevalue("shop")
        await shop.confirmed(but=_WAITING)


@pytest_asyncio.fixture
async def ada(shop: Shop) -> Customer:
    """A customer of this test alone."""
    return await shop.customer()


@pytest_asyncio.fixture
async def stranger(shop: Shop) -> Customer:
    """Another customer, who must not see what is Ada's."""
    return await shop.customer(name="Eve Stranger")


@pytest_asyncio.fixture(scope="session")
async def staff(shop: Shop) -> Customer:
    """An employee."""
    return await shop.staff()


@pytest_asyncio.fixture(scope="session")
async def visitor(shop: Shop) -> Customer:
    """A customer for tests that leave no trace: whatever they ask is refused."""
    return await shop.customer()
