"""The shared databases, with the schema of the role whose tests a module holds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import Database, open_database
from purveyor.registry import ROLES


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("databases")


@pytest.fixture(scope="module")
async def dsn(request: pytest.FixtureRequest, database_url: str) -> str:
    """The module's database, migrated."""
    role = ROLES[Path(request.path).parent.name]
    assert role.migrations is not None
    await migrate(database_url, role.name, role.migrations)
    return database_url


@pytest.fixture(scope="module")
async def database(dsn: str) -> AsyncIterator[Database]:
    """A pool on the migrated database."""
    async with open_database(dsn, application="tests", max_size=10) as opened:
        yield opened
