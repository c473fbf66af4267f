"""Pytest plugin: one private PostgreSQL for the whole run, one fresh database per test module.

Loaded with ``config.pluginmanager.import_plugin("databases")`` by whichever ``conftest.py`` needs it.
"""

import re
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest

from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import Database, open_database
from purveyor_drill.servers.postgres import PostgresServer
from real_servers import SERVERS


@pytest.fixture(scope="session")
def postgres_server() -> PostgresServer:
    """The server that every test shares; a test that kills or freezes one starts its own."""
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")
    return SERVERS.postgres


@pytest.fixture(scope="module")
def database_url(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> str:
    """The URL of an empty database that belongs to the test module."""
    return SERVERS.create_database(re.sub(r"\W", "_", request.module.__name__))


@pytest.fixture(scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on the module's database."""
    async with open_database(database_url, application="tests", max_size=10) as opened:
        yield opened


@pytest.fixture(scope="module")
async def order_tables(database_url: str, database: Database) -> Database:
    """The module's database with the tables of role orders, which has an outbox and an outlet."""
    await migrate(database_url, "orders", Path(str(files("purveyor.roles.orders") / "migrations")))
    return database
