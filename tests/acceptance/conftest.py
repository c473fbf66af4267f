"""People that several tests need."""

import pytest_asyncio

from shop import Customer, Shop


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
