"""One shop and one browser for all tests of this folder; each test has people and tabs of its own."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from browser.chromium import Chromium, open_chromium
from browser.page import Page, open_page
from browser.people import Person, new_person, new_staff
from own_processes import Processes, own_processes
from running import public_client
from server_shapes import PATIENT

OpenTab = Callable[[], AbstractAsyncContextManager[Page]]
ROLES = "auth,orders,email,catalog,shop"


@pytest_asyncio.fixture(scope="session")
async def processes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Processes]:
    """The whole shop in one process, on the embedded default."""
    folder = tmp_path_factory.mktemp("browser-shop")
    async with own_processes(
        folder, RATE_LIMIT_LOGIN="1000/minute", BANK_DETAILS="IBAN DE02", **PATIENT
    ) as running:
        running.start("shop", "serve", ROLES)
        await running.ready("shop")
        yield running


@pytest_asyncio.fixture(scope="session")
async def client(processes: Processes) -> AsyncIterator[httpx.AsyncClient]:
    async with public_client(processes.ports["shop"]) as connected:
        yield connected


@pytest_asyncio.fixture(scope="session")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not on the PATH")
    async with open_chromium(path, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def tab(chromium: Chromium, processes: Processes, tmp_path: Path) -> OpenTab:
    """Opens tabs. A tab in which a script failed, or that asked another host for something, fails its test."""
    origin = f"http://127.0.0.1:{processes.ports['shop']}"

    @asynccontextmanager
    async def opened() -> AsyncIterator[Page]:
        async with open_page(chromium, origin, downloads=str(tmp_path)) as page:
            yield page
        assert page.troubles == []
        foreign = [
            url
            for _, url in page.requests
            if not url.startswith((f"{origin}/", "about:", "data:", f"blob:{origin}"))
        ]
        assert foreign == []

    return opened


@pytest.fixture
async def customer(client: httpx.AsyncClient) -> Person:
    return await new_person(client)


@pytest_asyncio.fixture(scope="session")
async def staff(client: httpx.AsyncClient, processes: Processes) -> Person:
    return await new_staff(client, processes)
