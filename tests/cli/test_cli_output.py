"""Help, version, completion, JSON, and tables on narrow terminals."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import termios
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from app_process import APP, Console, environment
from rich.table import Table
from typer.main import get_command

from purveyor import __version__
from purveyor.cli import app
from purveyor.cli.admin import erasure_table
from purveyor.cli.output import _Out, table
from purveyor.roles.auth.contract import Erasure, ErasureAnswer

ID = "01a20481-2990-7f1e-9c3b-5d2e8a7b6c4f"


def commands() -> dict[str, Any]:
    """Every command by its words, with the groups themselves."""
    top: Any = get_command(app)
    found: dict[str, Any] = {"": top}
    for name, command in top.commands.items():
        found[name] = command
        found |= {f"{name} {inner}": each for inner, each in getattr(command, "commands", {}).items()}
    return found


@pytest.mark.parametrize("words", commands())
def test_every_command_has_short_help_and_an_example(console: Console, words: str) -> None:
    short, long = console(*words.split(), "-h"), console(*words.split(), "--help")

    assert (short.returncode, short.stderr) == (0, "")
    assert short.stdout == long.stdout
    assert re.search(rf"Examples?: app {words}", short.stdout)


def test_commands_are_listed_in_groups(console: Console) -> None:
    titles = re.findall(r"^(\S.*):$", console("-h").stdout, re.MULTILINE)

    assert titles == ["Options", "Run", "Check", "Orders, events, emails and users", "Try and integrate"]


def test_version_and_completion(console: Console) -> None:
    assert console("--version").stdout == f"purveyor {__version__}\n"
    assert "--install-completion" in console("-h").stdout
    completed = console(settings={"_APP_COMPLETE": "complete_bash", "COMP_WORDS": "app doc", "COMP_CWORD": "1"})
    assert completed.stdout.split() == ["doctor"]


def test_whatever_looks_can_print_json() -> None:
    looks = {
        "roles",
        "config",
        "doctor",
        "status",
        "trace",
        "events list",
        "events show",
        "mail list",
        "mail show",
        "user erasures",
    }
    with_json = {
        words for words, command in commands().items() if any("--json" in param.opts for param in command.params)
    }

    assert looks <= with_json


@pytest.mark.parametrize("command", ["roles", "config", "doctor", "status", "events list", "mail list"])
def test_json_is_the_only_thing_on_stdout(console: Console, command: str) -> None:
    done = console(*command.split(), "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) is not None


def printed(shown: Table, width: int) -> list[str]:
    file = io.StringIO()
    _Out(width=width, file=file, highlight=False, markup=False).print(shown)
    return file.getvalue().splitlines()


def rendered(width: int) -> list[str]:
    shown = table(
        *("Event", "Order", "To", "State", "Reply"),
        whole=["Event", "Order", "State"],
        drop=["Reply", "To", "Order"],
    )
    shown.add_row(ID, "1000000000001", "ada.lovelace@mail.example.com", "unknown", "250 2.0.0 Ok: queued as 4FD2A")
    return printed(shown, width)


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (200, ["Event", "Order", "To", "State", "Reply"]),
        (90, ["Event", "Order", "To", "State", "Reply"]),
        (80, ["Event", "Order", "To", "State"]),
        (60, ["Event", "Order", "State"]),
        (45, ["Event", "State"]),
    ],
)
def test_a_narrow_table_drops_columns_before_it_cuts(width: int, columns: list[str]) -> None:
    lines = rendered(width)

    assert lines[0].split() == columns
    assert lines[1].startswith(ID), "an id is whole"
    assert "unknown" in lines[1]
    assert ("1000000000001" in lines[1]) == ("Order" in columns)
    assert all(len(line) <= width for line in lines)
    assert ("Not shown: " in "\n".join(lines)) == (len(columns) < 5)


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (120, ["User", "Deleted", "orders", "email"]),
        (70, ["User", "orders", "email"]),
        (55, ["User", "orders"]),
        (45, ["User"]),
    ],
)
def test_a_narrow_list_of_erasures_shows_whole_ids(width: int, columns: list[str]) -> None:
    at = datetime(2026, 11, 29, 9, 20, 31, tzinfo=UTC)
    answers = (ErasureAnswer("orders", at, retained=2), ErasureAnswer("email", at))
    lines = printed(erasure_table([Erasure(ID, at, answers)]), width)
    shown = "\n".join(lines).partition("Not shown")[0]

    assert any(line.startswith(ID) for line in lines)
    assert ("2026-11-29 09:20:31" in shown) == (width >= 120)
    assert all(len(line) <= width for line in lines)
    assert [name for name in ("User", "Deleted", "orders", "email") if name in shown] == columns


def test_a_table_that_still_has_no_room_marks_what_it_cuts() -> None:
    assert "…" in rendered(20)[1]


def test_a_command_on_a_terminal_of_45_columns(folder: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 45, 0, 0))
    done = subprocess.run(
        [*APP, "roles"], env=environment(folder, {"TERM": "xterm"}), stdout=theirs, timeout=60, check=False
    )
    os.close(theirs)
    text = b""
    with suppress(OSError):  # Linux's end of a terminal
        while chunk := os.read(ours, 65536):
            text += chunk
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()

    assert done.returncode == 0
    assert max(map(len, lines)) <= 45
    assert "Not shown: Emits" in " ".join(lines)


def test_status_of_a_new_installation_says_how_to_start(console: Console, tmp_path: Path) -> None:
    done = console("status", settings={"DATA_DIR": str(tmp_path)})

    assert (done.returncode, done.stderr) == (0, "")
    assert "There is no data yet. Start the shop with app serve" in done.stdout
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"


def test_status_of_a_broken_installation_says_what_to_do(console: Console) -> None:
    done = console("status", settings={"DATABASE_URL": "postgresql://127.0.0.1:1/shop"})

    assert (done.returncode, done.stderr) == (1, "")
    assert "down  postgres orders" in done.stdout
    assert "Start what is down, or correct its setting." in done.stdout


def test_output_into_a_closed_pipe_ends_without_a_word(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*APP, "config"], env=environment(folder), stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)

    assert done.stderr == b""
