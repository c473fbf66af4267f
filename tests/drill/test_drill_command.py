"""``app drill`` as an operator runs it: what it refuses, what it leaves behind, what its exit code says."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import msgspec
import pytest

from purveyor_drill.collect import preflight
from purveyor_drill.report import Report
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.testbed import Testbed
from waiting import wait_until

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
        (["--shape", "round"], {}, "not one of 'embedded', 'monolith', 'split'"),
        (["--mail-doubtful", "drop"], {}, "not one of 'resend', 'park'"),
        (["--ledger", "paper"], {}, "not one of 'postgres', 'mongodb'"),
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


@pytest.mark.parametrize("module", ["purveyor_drill", "aiosmtpd"])
def test_without_its_package_the_drill_says_what_to_install(tmp_path, module: str):
    script = f"import sys; sys.modules[{module!r}] = None; from purveyor.cli import main; main()"
    command = [sys.executable, "-c", script, "drill"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f'app: The drill is not installed ({module} is missing). Run: pip install "purveyor[drill]"\n'
    )


def test_a_missing_server_is_named(tmp_path):
    code, _, err = ended(command(tmp_path, PATH="/nonexistent"))
    assert code == 69
    assert "Not installed: smtp: openssl" in err


def test_a_drill_that_is_interrupted_still_judges(tmp_path):
    folder = tmp_path / "report"
    options = ("--seconds", "600", "--rate", "10", "--seed", "3", "--only", "kill", "--report", str(folder))
    process = command(tmp_path, *options)
    journal = folder / "journal.jsonl"
    wait_until(
        lambda: process.poll() is not None or (journal.exists() and journal.read_text().count("Answered") > 30)
    )
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert (code, err) == (0, ""), out
    assert "Proven" in out
    assert "seed 3; repeat with: app drill --shape embedded --seconds 600 --rate 10 --seed 3" in out
    report = msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)
    assert report.proven
    assert report.figures.orders_accepted >= 10
    assert report.figures.mails_lost == 0
    assert "<svg" in (folder / "report.html").read_text()


async def test_an_installation_at_work_is_left_alone(tmp_path):
    with PostgresServer() as server:
        testbed = Testbed(tmp_path, "resend", {}, given=True, urls={"DATABASE_URL": server.url})
        await preflight(testbed)
        connection = await asyncpg.connect(server.url, server_settings={"application_name": "purveyor orders"})
        with pytest.raises(StartFailed, match="running on this database"):
            await preflight(testbed)
        await connection.execute("set application_name = ''")
        await connection.execute("create schema orders")
        await connection.execute("create table orders.outbox (published_at timestamptz)")
        await connection.execute("insert into orders.outbox values (null)")
        with pytest.raises(StartFailed, match="outbox 1"):
            await preflight(testbed)
        await connection.close()
