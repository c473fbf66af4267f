"""The README is a promise: its tour works as it is pasted, and its table of settings is whole."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import MISSING, fields
from fnmatch import fnmatch
from pathlib import Path

import msgspec
import pytest

from own_processes import environment
from purveyor.kit.role import Role
from purveyor.registry import ROLES
from purveyor.settings import Settings
from purveyor_drill.servers.process import free_port

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The product as the README starts it, on a free port and in a folder of its own."""
    folder = tmp_path_factory.mktemp("readme")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "purveyor", "serve", "--port", str(port)],
        env=environment({"DATA_DIR": str(folder)}),
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if '"ready"' in line:
            break
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def run(script: str) -> str:
    """What the lines write, as they are pasted into a shell."""
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_tour_works_as_pasted(server: str) -> None:
    tour = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "$U/register" in block)
    assert len(tour.strip().splitlines()) <= 6
    script = tour.replace("http://127.0.0.1:8000", server)
    written = run(script)
    order = json.loads(re.search(r'\{"id":"[^}]*"order_number".*?"updated_at":"[^"]*"\}', written)[0])  # type: ignore[index]
    assert order["total_amount"] > 0
    deadline = time.monotonic() + PATIENCE_S
    mails: list[dict[str, str]] = []
    while len(mails) < 2 and time.monotonic() < deadline:  # other work may be in the way
        mails = json.loads(run(f"U={server}; {script.splitlines()[-1]}"))
    assert [mail["to"] for mail in mails] == ["ada@example.com"] * 2, "the welcome and the order's mail"
    assert any(str(order["order_number"]) in mail["subject"] for mail in mails)


def test_every_setting_is_in_the_table_and_no_other() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \|", README, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    kinds = [Settings, *(role.settings for role in ROLES.values())]
    assert documented == {field.name.upper() for kind in kinds for field in msgspec.structs.fields(kind)}


def test_every_role_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `([a-z]+)` \|", README, re.MULTILINE)) == set(ROLES)


def test_the_table_of_roles_says_what_they_hear_and_whom_they_ask() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", README, re.MULTILINE)
    assert {name for name, _, _ in rows} == set(ROLES)
    for name, hears, asks in rows:
        patterns, heard = re.findall(r"`([^`]+)`", hears), [event.type for event in ROLES[name].consumes]
        assert [event for event in heard if not any(fnmatch(event, pattern) for pattern in patterns)] == [], name
        assert [pattern for pattern in patterns if not any(fnmatch(event, pattern) for event in heard)] == [], name
        assert set(re.findall(r"`([^`]+)`", asks)) == {port.role for port in ROLES[name].needs}, name


def test_the_recipe_for_a_role_names_all_that_a_declaration_needs() -> None:
    recipe = re.search(r"ROLE = Role\((.*?)\)", README)
    assert recipe
    needed = {part.name for part in fields(Role) if part.default is part.default_factory is MISSING}
    assert set(re.findall(r"(\w+)=", recipe[1])) == needed


@pytest.mark.parametrize("link", re.findall(r"\]\((docs/[^)]+|[A-Z][^)]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
