"""One suite over both mail ledgers: whatever holds of one holds of the other."""

from collections.abc import AsyncIterator, Iterator

import pytest

from purveyor.roles.email.ledger import mongo, mongo_documents, postgres
from purveyor.roles.email.ports import Ledger
from purveyor_drill.servers.mongodb import MongoServer
from purveyor_drill.servers.postgres import PostgresServer
from roles.email.ledger.ledger_owner import connected
from roles.email.ledger.support import Bench


@pytest.fixture(scope="module", params=[PostgresServer, MongoServer], ids=["postgres", "mongodb"])
def kind(request: pytest.FixtureRequest) -> Iterator[Bench]:
    server = request.param()
    if not server.ours:
        pytest.skip(f"{server.variable} is set: not ours to freeze")
    if reason := server.available():
        pytest.skip(reason)
    with server:
        yield Bench(server)


@pytest.fixture
async def bench(kind: Bench) -> Bench:
    await kind.renew()
    return kind


@pytest.fixture
async def ledger(bench: Bench) -> AsyncIterator[Ledger]:
    async with connected(bench.url) as opened:
        yield opened


@pytest.fixture
async def other(bench: Bench) -> AsyncIterator[Ledger]:
    """The same ledger as another process sees it."""
    async with connected(bench.url) as opened:
        yield opened


@pytest.fixture
async def me(ledger: Ledger) -> AsyncIterator[str]:
    """The name of a sender that lives throughout the test."""
    async with ledger.ownership() as owner:
        yield owner.name


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that a busy machine keeps, for what is not about deadlines."""
    monkeypatch.setattr(mongo, "OPERATION_TIMEOUT_S", 10.0)


@pytest.fixture
def doubt_pause_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """A short pause before a doubtful mail is sent again, for what is not about its length."""
    pause_s = 0.2
    for module in (mongo_documents, postgres):
        monkeypatch.setattr(module, "DOUBT_PAUSE_S", pause_s)
    return pause_s
