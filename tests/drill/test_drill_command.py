"""``app drill`` as an operator runs it: what it refuses, what it leaves behind, what its exit code says."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import msgspec
import pytest

from purveyor_drill.collect import preflight
from purveyor_drill.report import Report
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.testbed import House

_WITHIN_S = 180


def command(folder: Path, *options: str, **settings: str) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", **settings}
    return subprocess.Popen(
        [sys.executable, "-m", "purveyor", "drill", *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=_WITHIN_S)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("options", "settings", "told"),
    [
        ([], {"ENVIRONMENT": "production"}, "does not run in production"),
        (["--shape", "round"], {}, "allowed are embedded, monolith, split"),
        (["--mail-doubtful", "drop"], {}, "allowed are resend, park"),
        (["--ledger", "paper"], {}, "allowed are postgres, mongodb"),
        (["--only", "kill,bribe"], {}, "--only bribe: allowed are kill, term"),
        (["--use-settings", "--shape", "split"], {}, "DATABASE_URL is not set"),
        (["--use-settings"], {"DATABASE_URL": "postgresql://x/y"}, "Choose --shape monolith or split"),
        (["--report", "."], {}, "the folder is not empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refusals(tmp_path, options: list[str], settings: Mapping[str, str], told: str):
    (tmp_path / "something").touch()
    code, out, err = ended(command(tmp_path, *options, **settings))
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_a_missing_server_is_named(tmp_path):
    code, _, err = ended(command(tmp_path, PATH="/nonexistent"))
    assert code == 69
    assert "Not installed: smtp: openssl" in err


def test_a_drill_that_is_interrupted_still_judges(tmp_path):
    folder = tmp_path / "report"
    options = ("--seconds", "600", "--rate", "10", "--seed", "3", "--only", "kill", "--report", str(folder))
    process = command(tmp_path, *options)
    journal, deadline = folder / "journal.jsonl", time.monotonic() + _WITHIN_S
    while process.poll() is None and not (journal.exists() and journal.read_text().count("Answered") > 30):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert (code, err) == (0, ""), out
    assert "Proven" in out
    assert "seed 3; again: app drill --shape embedded --seconds 600 --rate 10 --seed 3" in out
    report = msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)
    assert report.proven
    assert report.figures.orders_accepted >= 10
    assert report.figures.mails_lost == 0
    assert "<svg" in (folder / "report.html").read_text()


async def test_an_installation_at_work_is_left_alone(tmp_path):
    with PostgresServer() as server:
        house = House(tmp_path, "resend", {}, given=True, places={"DATABASE_URL": server.url})
        await preflight(house)
        connection = await asyncpg.connect(server.url, server_settings={"application_name": "purveyor orders"})
        with pytest.raises(StartFailed, match="running on this database"):
            await preflight(house)
        await connection.execute("set application_name = ''")
        await connection.execute("create schema orders")
        await connection.execute("create table orders.outbox (published_at timestamptz)")
        await connection.execute("insert into orders.outbox values (null)")
        with pytest.raises(StartFailed, match="outbox 1"):
            await preflight(house)
        await connection.close()
