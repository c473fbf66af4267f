"""A private PostgreSQL for the tests of the roles, and a database of its own for each module."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from purveyor.kit.migrate import migrate
from purveyor.kit.postgres import Database, open_database
from purveyor.registry import ROLES
from servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    if reason := PostgresServer.available():
        pytest.skip(f"PostgreSQL: {reason}")
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
async def dsn(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> str:
    """A database with the schema of the role whose tests the module holds."""
    role = ROLES[Path(request.path).parent.name]
    assert role.migrations is not None
    url = postgres_server.create_database(f"{role.name}_{Path(request.path).stem}")
    await migrate(url, role.name, role.migrations)
    return url


@pytest.fixture(scope="module")
async def database(dsn: str) -> AsyncIterator[Database]:
    async with open_database(dsn, application="tests", max_size=10) as opened:
        yield opened
