"""Pytest plugin: one private PostgreSQL per test session, one fresh database per test module.

Loaded with ``config.pluginmanager.import_plugin("databases")`` by whichever ``conftest.py`` needs it.
"""

import re
from collections.abc import AsyncIterator, Iterator

import pytest

from purveyor.kit.db.postgres import Database, open_database
from purveyor_drill.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server that every test shares; a test that kills or freezes one starts its own."""
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def database_url(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> str:
    """The URL of an empty database that belongs to the test module."""
    return postgres_server.create_database(re.sub(r"\W", "_", request.module.__name__)[-60:])


@pytest.fixture(scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on the module's database."""
    async with open_database(database_url, application="tests", max_size=10) as opened:
        yield opened
