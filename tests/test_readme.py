"""The documents match the code: the tour works as pasted, the tables of roles and settings are complete."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from fnmatch import fnmatch
from pathlib import Path

import msgspec
import pytest

from own_processes import environment
from purveyor.host import declared_settings
from purveyor.kit.role import Role
from purveyor.registry import ROLES
from purveyor_drill.servers.process import free_port
from waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
KINDS = declared_settings(ROLES.values())
DEFAULTS = {field.name.upper(): field.default for kind in KINDS for field in msgspec.structs.fields(kind)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the product as the README does, on a free port and in a folder of its own."""
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
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


def run(script: str) -> str:
    """Output of lines pasted into a shell at the top of the checkout."""
    shell = ["sh", "-c", script.replace(".venv/bin/python", sys.executable)]
    return subprocess.run(shell, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT).stdout


def test_tour_works_as_pasted(server: str) -> None:
    tour = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "$U/register" in block)
    *steps, last = tour.replace("http://127.0.0.1:8000", server).strip().splitlines()
    assert len(steps) < 6
    written = run("\n".join(steps))
    order = json.loads(re.search(r'\{"id":"[^}]*"order_number".*?"updated_at":"[^"]*"\}', written)[0])  # type: ignore[index]
    assert order["total_amount"] > 0

    def both_mails() -> list[dict[str, str]]:
        mails: list[dict[str, str]] = json.loads(run(f"curl -s {server}/mailbox/messages"))
        return mails if len(mails) >= 2 else []

    mails = wait_until(both_mails)
    assert [mail["to"] for mail in mails] == ["ada@example.com"] * 2, "the welcome mail and the order's"
    shown = run(f"U={server}\n{last}")
    assert "Hello Ada Lovelace" in shown
    assert f"Order {order['order_number']}" in shown


def test_settings_page_names_every_setting_once_and_no_other() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \|", SETTINGS, re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)]
    assert sorted(documented) == sorted(DEFAULTS)


def test_settings_page_shows_the_defaults_of_the_code() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|.*\| `([^`|]+)` \|$", SETTINGS, re.MULTILINE)
    assert rows
    for name, shown in rows:
        default = DEFAULTS[name]
        assert (name, shown) == (name, f"{default:g}" if isinstance(default, float) else str(default))


def test_readme_shows_only_settings_that_exist() -> None:
    shown = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))
    assert shown
    assert shown <= set(DEFAULTS)


def test_table_of_roles_lists_every_role() -> None:
    assert set(re.findall(r"^\| `([a-z]+)` \|", README, re.MULTILINE)) == set(ROLES)


def test_table_of_roles_matches_their_events_and_needs() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", README, re.MULTILINE)
    assert {name for name, _, _ in rows} == set(ROLES)
    for name, hears, asks in rows:
        patterns, heard = re.findall(r"`([^`]+)`", hears), [event.type for event in ROLES[name].consumes]
        assert [event for event in heard if not any(fnmatch(event, pattern) for pattern in patterns)] == [], name
        assert [pattern for pattern in patterns if not any(fnmatch(event, pattern) for event in heard)] == [], name
        assert set(re.findall(r"`([^`]+)`", asks)) == {port.role for port in ROLES[name].needs}, name


def test_recipe_for_a_role_names_every_required_field() -> None:
    recipe = re.search(r"ROLE = Role\((.*?)\)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert recipe
    needed = {part.name for part in fields(Role) if part.default is part.default_factory is MISSING}
    assert set(re.findall(r"(\w+)=", recipe[1])) == needed


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_a_file_or_a_heading(document: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        place, _, heading = link.partition("#")
        target = document.parent / place if place else document
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link
