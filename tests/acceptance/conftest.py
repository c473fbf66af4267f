"""People that several tests need."""

from collections.abc import Iterator

import pytest
import pytest_asyncio

from cheap_hashes import patience
from shop import Customer, Shop


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    """For the shapes in this process; the others are started with it."""
    with patience(60.0):
        yield


@pytest_asyncio.fixture
async def ada(shop: Shop) -> Customer:
    """A customer of this test alone."""
    return await shop.customer()


@pytest_asyncio.fixture
async def stranger(shop: Shop) -> Customer:
    """Another customer, who must not see what is Ada's."""
    return await shop.customer(name="Eve Stranger")


@pytest_asyncio.fixture(scope="module")
async def staff(shop: Shop) -> Customer:
    """An employee."""
    return await shop.staff()


@pytest_asyncio.fixture(scope="module")
async def visitor(shop: Shop) -> Customer:
    """A customer for tests that leave no trace: whatever they ask is refused."""
    return await shop.customer()
