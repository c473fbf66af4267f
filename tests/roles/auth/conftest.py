"""The use cases of role auth, over the module's database."""

from collections.abc import Iterator

import pytest

from purveyor.kit.db.postgres import Database
from purveyor.roles.auth.passwords import Passwords
from roles.auth.samples import Process


@pytest.fixture(scope="session")
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


@pytest.fixture
def here(database: Database, passwords: Passwords) -> Process:
    return Process(database, passwords)


@pytest.fixture
def neighbour(database: Database, passwords: Passwords) -> Process:
    """Another process on the same database."""
    return Process(database, passwords)
