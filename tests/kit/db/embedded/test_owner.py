"""The embedded PostgreSQL with real servers and real kills: who owns it, who takes over, what survives."""

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
from embedded_support import HOLDER, notes, postmaster, run, unlocked, write_note

from purveyor.kit.db.embedded import server as pgserver
from purveyor.kit.db.embedded.owner import EmbeddedPostgres
from purveyor.kit.errors import StartupError
from waiting import PATIENCE_S, until

ROOT = os.geteuid() == 0


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def hold() -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """Start processes that hold the database of a folder until they read a line; ends those that are left."""
    holders: list[Process] = []

    async def start(data_dir: Path, *before: str) -> Process:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [*before, sys.executable, "-c", HOLDER, str(data_dir)]
        holders.append(
            await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env)
        )
        return holders[-1]

    yield start
    for holder in holders:
        with contextlib.suppress(ProcessLookupError):
            holder.kill()
        await holder.communicate()


async def test_starts_first_and_again_with_the_data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPORT", "PGDATABASE", "PGUSER", "PGHOST"):  # a developer's own settings change nothing
        monkeypatch.setenv(name, "1")
    postgres = EmbeddedPostgres(data_dir, max_connections=33)
    async with postgres as dsn:
        assert postgres.owner
        [settings] = await run(
            dsn,
            "SELECT current_database(), current_setting('max_connections') AS connections,"
            " current_setting('fsync') AS fsync, current_setting('listen_addresses') AS addresses,"
            " (SELECT datcollate || datctype || pg_encoding_to_char(encoding) FROM pg_database"
            " WHERE datname = current_database()) AS locale",
        )
        assert tuple(settings) == ("purveyor", "33", "on", "", "CCUTF8")
        await write_note(dsn)
    assert unlocked(data_dir)
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    async with EmbeddedPostgres(data_dir, durable=False) as dsn:
        assert await notes(dsn) == ["kept"]
        assert (await run(dsn, "SHOW fsync"))[0][0] == "off"


async def test_makes_the_database_again_where_it_is_missing(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir, durable=False) as dsn:
        await run(dsn.replace("/purveyor?", "/postgres?"), "DROP DATABASE purveyor WITH (FORCE)")
    async with EmbeddedPostgres(data_dir, durable=False) as dsn:
        assert (await run(dsn, "SELECT 1"))[0][0] == 1


async def test_killed_owner_takes_the_server_with_it(
    data_dir: Path, hold: Callable[..., Awaitable[Process]]
) -> None:
    holder = await hold(data_dir)
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"owner\n"
    await write_note(pgserver.Server(data_dir, durable=False, max_connections=1).dsn())
    holder.kill()
    await until(lambda: unlocked(data_dir))
    assert not (data_dir / "postgres" / "postmaster.pid").exists()  # in order, not by crash
    async with EmbeddedPostgres(data_dir) as dsn:
        assert await notes(dsn) == ["kept"]


async def test_heals_when_the_server_is_killed(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir) as dsn:
        await write_note(dsn)
        killed = postmaster(data_dir)
        os.kill(killed, signal.SIGKILL)
        assert await notes(dsn) == ["kept"]
        assert postmaster(data_dir) != killed


async def test_keeps_trying_while_the_server_does_not_start(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedPostgres(data_dir) as dsn:
        await write_note(dsn)
        control = data_dir / "postgres" / "global" / "pg_control"
        control.rename(data_dir / "pg_control")
        os.kill(postmaster(data_dir), signal.SIGKILL)
        await until(lambda: "did not start; next try in 0.5 s" in caplog.text)
        (data_dir / "pg_control").rename(control)
        assert await notes(dsn) == ["kept"]


async def test_kill_during_initdb_leaves_nothing_half_done(
    data_dir: Path, hold: Callable[..., Awaitable[Process]]
) -> None:
    holder = await hold(data_dir)
    await until((data_dir / "postgres.init" / "PG_VERSION").exists)
    holder.kill()
    await holder.wait()
    assert not (data_dir / "postgres").exists()
    async with EmbeddedPostgres(data_dir, durable=False) as dsn:
        assert (await run(dsn, "SELECT 1"))[0][0] == 1
    assert not (data_dir / "postgres.init").exists()


@pytest.mark.parametrize("end", ["clean", "kill"])
async def test_attaches_during_initdb_and_takes_over(
    data_dir: Path, hold: Callable[..., Awaitable[Process]], end: str
) -> None:
    holder = await hold(data_dir)
    await until((data_dir / "postgres.init").exists)
    postgres = EmbeddedPostgres(data_dir)
    async with postgres as dsn:
        assert not postgres.owner
        await write_note(dsn)
        first = postmaster(data_dir)
        if end == "kill":
            holder.kill()
        else:
            await holder.communicate(b"\n")
        assert await holder.wait() == (-signal.SIGKILL if end == "kill" else 0)
        await until(lambda: postgres.owner)
        assert await notes(dsn) == ["kept"]
        assert postmaster(data_dir) != first
    assert unlocked(data_dir)


async def test_an_attached_process_only_lets_go(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir, durable=False) as dsn:
        attached = EmbeddedPostgres(data_dir, durable=False)
        assert await attached.start() == dsn
        assert not attached.owner
        await attached.stop()
        await write_note(dsn)


async def test_a_cancelled_start_leaves_nothing_running(data_dir: Path) -> None:
    start = asyncio.create_task(EmbeddedPostgres(data_dir, durable=False).start())
    await until((data_dir / "postgres.init").exists)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await until(lambda: unlocked(data_dir))


@pytest.mark.parametrize("stale", ["reused", "empty"])
async def test_a_stale_pid_file_does_not_matter(data_dir: Path, stale: str) -> None:
    async with EmbeddedPostgres(data_dir) as dsn:
        await write_note(dsn)
        socket = Path((await run(dsn, "SHOW unix_socket_directories"))[0][0])
        lock_files = [data_dir / "postgres" / "postmaster.pid", socket / ".s.PGSQL.5432.lock"]
        left = {path: path.read_text().partition("\n")[2] for path in lock_files}
        account = (data_dir / "postgres").stat().st_uid
    socket.mkdir(exist_ok=True)
    living = subprocess.Popen(["sleep", "60"], user=account if ROOT else None)
    try:
        for path, rest in left.items():
            path.write_text(f"{living.pid}\n{rest}" if stale == "reused" else "")
            if ROOT:
                os.chown(path, account, -1)
        async with EmbeddedPostgres(data_dir) as dsn:
            assert await notes(dsn) == ["kept"]
        assert living.poll() is None
    finally:
        living.kill()
        living.wait()


@pytest.mark.parametrize("name", ["long" * 30, "comma, and space"])
async def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    async with EmbeddedPostgres(tmp_path / name, durable=False) as dsn:
        [host] = await run(dsn, "SHOW unix_socket_directories")
        assert (await run(dsn, "SELECT 1"))[0][0] == 1
        folder = Path(host[0])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.parent == Path("/tmp")
    assert not folder.exists()


async def test_sets_a_big_log_aside(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "postgres.log").write_bytes(b"\n" * 1_000_001)
    async with EmbeddedPostgres(data_dir, durable=False) as dsn:
        with pytest.raises(asyncpg.UndefinedTableError):
            await run(dsn, "SELECT * FROM nowhere")
    assert (data_dir / "postgres.log.1").stat().st_size == 1_000_001
    assert "nowhere" not in (data_dir / "postgres.log").read_text()


async def test_says_what_the_server_said(data_dir: Path) -> None:
    with pytest.raises(StartupError, match=r"did not start: .*max_connections.*\(see .*postgres\.log\)$") as told:
        await EmbeddedPostgres(data_dir, durable=False, max_connections=1).start()
    assert "\n" not in str(told.value)
    assert unlocked(data_dir)


async def test_says_which_folder_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match=r"cannot use .*file.*\. Run as the owner of that folder or set"):
        await EmbeddedPostgres(tmp_path / "file" / "data").start()


def test_the_guard_ends_the_server_when_its_pipe_closes() -> None:
    # A server heeds SIGINT, which a background job of a shell ignores.
    heeds = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", heeds], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        guard = pgserver._guard(server.pid)
        assert guard.stdin is not None
        guard.stdin.close()
        assert server.wait(PATIENCE_S) == -signal.SIGINT
        assert guard.wait(PATIENCE_S) == 0
