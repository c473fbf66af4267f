"""Commands on a server of the user's own: they look, and only ``app migrate`` and the roles change its schemas."""

from collections.abc import Mapping
from pathlib import Path

import asyncpg
import pytest
from app_process import Console

from purveyor_drill.servers.postgres import PostgresServer
from real_servers import SERVERS

ADD = ("user", "add", "ada@example.com", "--name", "Ada", "--role", "admin", "--password-stdin")
PASSWORD = "correct horse\n"


@pytest.fixture
def settings() -> Mapping[str, str]:
    """An empty database."""
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")
    return {"DATABASE_URL": SERVERS.create_database("console")}


async def schemas(settings: Mapping[str, str]) -> set[str]:
    connection = await asyncpg.connect(settings["DATABASE_URL"])
    try:
        rows = await connection.fetch("select nspname from pg_namespace where nspname !~ '^(pg_|information_)'")
        return {row["nspname"] for row in rows} - {"public"}
    finally:
        await connection.close()


async def write_event(settings: Mapping[str, str]) -> None:
    """An event of an hour ago that no relay has taken yet."""
    connection = await asyncpg.connect(settings["DATABASE_URL"])
    try:
        await connection.execute(
            """
            insert into orders.outbox values
                (gen_random_uuid(), 'order.created', '{}', now() - interval '1 hour', '', 1, '', '', '', '')"""
        )
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "arguments",
    [("events", "list"), ("mail", "list"), ("trace", "1"), ADD],
    ids=lambda arguments: " ".join(arguments[:2]),
)
async def test_a_command_on_an_empty_database_changes_nothing_and_says_what_to_do(
    console: Console, settings: Mapping[str, str], arguments: tuple[str, ...]
) -> None:
    done = console(*arguments, stdin=PASSWORD, settings=settings)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("app: The schema ")
    assert done.stderr.endswith(". Run app migrate.\n")
    assert await schemas(settings) == set()


async def test_doctor_finds_what_is_missing_and_all_is_well_after_a_migration(
    console: Console, settings: Mapping[str, str]
) -> None:
    ill = console("doctor", settings=settings)
    assert ill.returncode == 1
    for name, schema, first in (
        ("postgres auth", "auth", "0001_accounts"),
        ("postgres orders, event backlog", "orders", "0001_orders"),
        ("mail ledger", "email", "0001_mails"),
    ):
        line = f"down  {name} (external): The schema {schema} lacks migration {first}. Run app migrate."
        assert line in ill.stdout.splitlines()
    assert await schemas(settings) == set()

    assert "Applied events 0001_deliveries." in console("migrate", settings=settings).stdout
    assert await schemas(settings) == {"auth", "orders", "email", "events"}
    await write_event(settings)
    well = console("doctor", settings=settings)
    assert well.returncode == 0, well.stdout
    assert "event backlog (external): events waiting: 1, oldest: 36" in well.stdout
    added = console(*ADD, stdin=PASSWORD, settings=settings)
    assert "ada@example.com with role admin" in added.stdout, added.stderr
    assert "user.registered" in console("events", "list", settings=settings).stdout


async def test_one_role_can_be_migrated_and_used_alone(console: Console, settings: Mapping[str, str]) -> None:
    assert console("migrate", "--roles", "auth", settings=settings).returncode == 0

    assert "with role admin" in console(*ADD, stdin=PASSWORD, settings=settings).stdout
    assert await schemas(settings) == {"auth", "events"}


def test_the_embedded_database_is_made_ready_by_whatever_comes_first(console: Console, tmp_path: Path) -> None:
    settings = {"DATA_DIR": str(tmp_path)}

    assert "with role admin" in console(*ADD, stdin=PASSWORD, settings=settings).stdout
    assert "user.registered" in console("events", "list", settings=settings).stdout
