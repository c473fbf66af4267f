"""The gateway, for all tests of this folder: they make their own customers."""

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.proxy import Gateway, open_gateway


@pytest_asyncio.fixture(scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """The split shape behind nginx."""
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not on the PATH")
    async with open_gateway(nginx, tmp_path_factory.mktemp("gateway")) as running:
        yield running
