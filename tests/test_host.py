"""Which database each part of a process is in, with these settings or those."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from purveyor.host import Host, choose_roles, declared_settings
from purveyor.kit.errors import ConfigError
from purveyor.kit.http.health import probe
from purveyor.kit.http.server import uvicorn_config
from purveyor.kit.metrics import REGISTRY
from purveyor.kit.mode import Mode
from purveyor.registry import ROLES, TRANSPORTS
from purveyor.settings import Sources, Url
from purveyor.transports import Transport
from purveyor_drill.servers.postgres import PostgresServer
from real_servers import SERVERS

NOWHERE = "postgresql://127.0.0.1:1/x"
RABBIT = "amqp://127.0.0.1:1/"


def host(*roles: str, **settings: str) -> Host:
    environ = {"AUTH_SERVICE": "http://127.0.0.1:1", **settings}
    return Host(choose_roles(roles), Sources(environ=environ, dotenv=None))


@pytest.mark.parametrize(
    ("roles", "settings", "embedded"),
    [
        (["auth"], {}, {"auth", "events"}),
        (["auth"], {"DATABASE_URL": NOWHERE}, set()),
        (["auth"], {"AUTH_DATABASE_URL": NOWHERE}, {"events"}),
        (["auth"], {"RABBITMQ_URL": RABBIT}, {"auth"}),
        (["auth"], {"AUTH_DATABASE_URL": NOWHERE, "RABBITMQ_URL": RABBIT}, set()),
        (["auth", "orders"], {"AUTH_DATABASE_URL": NOWHERE, "RABBITMQ_URL": RABBIT}, {"orders"}),
        (["email"], {"MONGODB_URI": "mongodb://127.0.0.1:1/x", "RABBITMQ_URL": RABBIT}, set()),
        (["email"], {"MONGODB_URI": "mongodb://127.0.0.1:1/x"}, {"events"}),
        (["email"], {"RABBITMQ_URL": RABBIT, "_DATABASE_URL": NOWHERE}, {"email"}),
        (["auth"], {"AUTH_DATABASE_URL": NOWHERE, "_DATABASE_URL": NOWHERE}, {"events"}),
        (["catalog"], {}, set()),
    ],
    ids=lambda given: ",".join(sorted(given)) or "none",
)
def test_what_is_in_the_embedded_database(roles: list[str], settings: dict[str, str], embedded: set[str]) -> None:
    made = host(*roles, **settings)

    assert {schema.name for schema in made.schemas() if not made.databases.configured(schema.role)} == embedded


@pytest.mark.parametrize("shared", ["", "DATABASE_URL"])
async def test_events_that_no_other_machine_can_hear_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shared: str
) -> None:
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")
    own = SERVERS.create_database("lonely")
    settings = {"DATA_DIR": str(tmp_path), "AUTH_DATABASE_URL": own, **({shared: own} if shared else {})}
    with caplog.at_level(logging.WARNING):
        async with host("auth", **settings).running():
            told = [
                record.getMessage() for record in caplog.records if "go through the embedded" in record.message
            ]

    assert [line.partition(" ")[0] for line in told] == ([] if shared else ["AUTH_DATABASE_URL"])


@pytest.mark.parametrize(("processes", "size"), [(1, 10), (2, 5), (3, 4), (16, 4)])
async def test_workers_share_the_connections_of_one_process(processes: int, size: int) -> None:
    made = Host(choose_roles(["auth"]), Sources(environ={}, dotenv=None), processes=processes, mode=Mode.OFFLINE)
    async with made.databases.open(made.schemas()[0]) as database:
        assert database._pool.get_max_size() == size


async def test_connections_of_a_pool_are_shown_while_it_is_open() -> None:
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")

    def shown() -> list[float | None]:
        states = [{"schema": "auth", "state": state} for state in ("in_use", "idle")]
        return [REGISTRY.get_sample_value("purveyor_database_connections", each) for each in states]

    made = host("auth", DATABASE_URL=SERVERS.create_database("shown"))
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(made.databases.open(made.schemas()[0]))
        async with database.connection(), database.connection():
            assert shown() == [2, 0]
        assert shown() == [0, 2]
        assert REGISTRY.get_sample_value("purveyor_database_connections_max", {"schema": "auth"}) == 10

    assert shown() == [None, None]


@pytest.mark.parametrize(("error", "told"), [(asyncio.CancelledError("shutdown"), 0), (ValueError("a bug"), 1)])
def test_a_request_that_is_cancelled_at_the_end_leaves_no_traceback(
    caplog: pytest.LogCaptureFixture, error: BaseException, told: int
) -> None:
    uvicorn_config(None)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)

    assert len(caplog.records) == told


async def test_the_role_that_is_asked_over_http_is_checked(tmp_path: Path) -> None:
    """Any HTTP answer is a sign of life: a foreign service has other routes. A proxy's is none."""
    async with answering(404) as foreign, answering(502) as proxy:
        for url, well in ((foreign, True), (proxy, False), ("http://127.0.0.1:1", False)):
            sources = Sources(environ={"DATA_DIR": str(tmp_path), "AUTH_SERVICE": url}, dotenv=None)
            async with Host(choose_roles(["orders"]), sources, mode=Mode.OFFLINE).running() as made:
                checks = {check.name: check for check in made.checks()["orders"]}
                assert (await probe(checks[f"auth at {url.removeprefix('http://')}"]))[0] == well


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[str]:
    """A server that gives every request the same answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class NextSettings(msgspec.Struct, frozen=True):
    next_url: Url = Url()


NEXT: Transport[NextSettings] = Transport(
    name="next", settings=NextSettings, schemes=("next",), open=lambda _env, _settings: pytest.fail("opened")
)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "postgres"),
        ({"DATABASE_URL": NOWHERE}, "postgres"),
        ({"RABBITMQ_URL": RABBIT}, "rabbitmq"),
        ({"NATS_URL": "nats://x"}, "nats"),
        ({"NEXT_URL": "next://x"}, "next"),
    ],
)
def test_transport_whose_url_is_set_is_taken(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], name: str
) -> None:
    """A new transport needs its line in the registry and nothing else of the shell."""
    monkeypatch.setattr("purveyor.host.TRANSPORTS", (NEXT, *TRANSPORTS))
    made = host("auth", **settings)

    assert made.transport.name == name
    assert NextSettings in declared_settings(made.roles)
    assert made._events_check().setting == ("DATABASE_URL" if name == "postgres" else f"{name.upper()}_URL")


def test_production_needs_a_service_secret_only_where_roles_run_apart() -> None:
    production = {"ENVIRONMENT": "production", "JWT_SECRET": "a secret for tests that is long enough"}
    host(*ROLES, **production)
    host("catalog", **production)
    for roles in (["auth"], ["orders"], ["email"], ["auth", "orders", "email"]):
        with pytest.raises(ConfigError, match="SERVICE_SECRET"):
            host(*roles, **production)
        host(*roles, **production, SERVICE_SECRET="another secret for tests, long enough")


def test_service_secret_of_development_is_kept_for_the_owner_alone(tmp_path: Path) -> None:
    """Processes that share ``DATA_DIR`` share it."""
    one, other = host("email", DATA_DIR=str(tmp_path)), host("auth", DATA_DIR=str(tmp_path))
    token = one.service_tokens.sign(asking="shop", asked="email")

    assert other.service_tokens.read(token, asked="email") == "shop"
    assert (tmp_path / "service-secret").stat().st_mode & 0o777 == 0o600
