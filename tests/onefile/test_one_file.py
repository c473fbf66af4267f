"""The released file runs the whole product on a machine that has nothing, and two builds of it are the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onefile.conftest import ROOT, build
from onefile.journey import order_and_read_the_mail, running
from onefile.machine import Machine
from purveyor_drill.servers import process_tree
from purveyor_drill.servers.process import free_port

_MAX_BYTES = 60_000_000
_ENTERING = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def run(machine: Machine, *arguments: str, read_only: str = "") -> subprocess.CompletedProcess[str]:
    command = machine.command(*arguments, read_only=read_only)
    return subprocess.run(command, env=_ENTERING, capture_output=True, text=True, check=False)


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # it has just ended


def test_file_is_small_enough(program: Path) -> None:
    assert program.stat().st_size <= _MAX_BYTES


def test_checksums_are_right(release: Path) -> None:
    command = ["sha256sum", "--check", "SHA256SUMS"]
    told = subprocess.run(command, cwd=release, capture_output=True, text=True, check=True).stdout.splitlines()

    assert told == [f"{file.name}: OK" for file in sorted(release.iterdir()) if file.name != "SHA256SUMS"]


def test_sbom_lists_the_bundled_packages_and_no_build_tool(program: Path) -> None:
    document = json.loads(program.with_name(f"{program.name}.cdx.json").read_text())
    names = {part["name"] for part in document["components"]}

    assert {"cpython", "postgresql", "litestar", "aiosmtpd"} <= names
    assert not {"hatchling", "pip", "faker", "pytest"} & names


def test_two_builds_are_the_same(release: Path, tmp_path: Path) -> None:
    again = build(tmp_path, TMPDIR=str(tmp_path), TZ="Asia/Tokyo", PYTHONHASHSEED="7")

    assert (again / "SHA256SUMS").read_text() == (release / "SHA256SUMS").read_text()


def test_read_only_cache_is_one_line(machine: Machine) -> None:
    done = run(machine, "--version", read_only="/home/ada")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("purveyor: Cannot write to /home/ada/.cache/purveyor. Set PURVEYOR_CACHE")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_bare_machine_serves_an_order_and_its_mail(machine: Machine, tmp_path: Path, workers: int) -> None:
    port = free_port()
    command = machine.command("serve", "--port", str(port), "--workers", str(workers))

    with running(command, port, tmp_path, _ENTERING) as server:
        order_and_read_the_mail(port)
        spawned = [pid for pid in process_tree.members(server) if b"spawn_main" in command_line(pid)]
        assert len(spawned) == (0 if workers == 1 else workers)


def test_drill_names_the_program_that_a_bare_machine_lacks(machine: Machine) -> None:
    done = run(machine, "drill", "--seconds", "5", "--report", "/tmp/report")

    assert done.returncode == 69
    assert done.stderr.startswith("app: Not installed: smtp: openssl")


def test_drill_proves_the_guarantees(program: Path, tmp_path: Path) -> None:
    options = ("--seconds", "20", "--rate", "10", "--seed", "1", "--report", tmp_path / "report")
    env = {"HOME": str(tmp_path), "PATH": _ENTERING["PATH"]}
    done = subprocess.run([program, "drill", *options], env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_wheel_serves_an_order_and_its_mail_from_a_clean_venv(release: Path, tmp_path: Path) -> None:
    (wheel,) = release.glob("*.whl")
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install: list[Path | str] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--require-hashes", "--requirement", ROOT / "requirements.lock"], check=True)
    subprocess.run([*install, "--no-deps", wheel], check=True)
    port, folder = free_port(), tmp_path / "elsewhere"
    folder.mkdir()
    env = {"PATH": _ENTERING["PATH"], "HOME": str(folder), "DATA_DIR": str(folder / "data")}

    with running([python, "-m", "purveyor", "serve", "--port", str(port)], port, folder, env):
        order_and_read_the_mail(port)
