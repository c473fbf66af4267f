"""The README is a promise: its tour works as it is pasted, and its table of settings is whole."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from purveyor.drill.servers.process import free_port
from purveyor.registry import ROLES
from purveyor.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The product as the README starts it, on a free port and in a folder of its own."""
    folder = tmp_path_factory.mktemp("readme")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "purveyor", "serve", "--port", str(port)],
        env={**os.environ, "DATA_DIR": str(folder)},
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


def test_the_tour_works_as_pasted(server: str) -> None:
    tour = next(block for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "$U/register" in block)
    assert len(tour.strip().splitlines()) <= 6
    script = tour.replace("http://127.0.0.1:8000", server)
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    order = json.loads(re.search(r'\{"id":"[^}]*"order_number".*?"updated_at":"[^"]*"\}', result.stdout)[0])  # type: ignore[index]
    mails = json.loads(result.stdout[result.stdout.rindex("[{") :])
    assert order["total_amount"] > 0
    assert [mail["to"] for mail in mails] == ["ada@example.com"] * 2, "the welcome and the order's mail"
    assert any(str(order["order_number"]) in mail["subject"] for mail in mails)


def test_every_setting_is_in_the_table_and_no_other() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \|", README, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    kinds = [Settings, *(role.settings for role in ROLES.values())]
    assert documented == {field.name.upper() for kind in kinds for field in msgspec.structs.fields(kind)}


def test_every_role_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `([a-z]+)` \|", README, re.MULTILINE)) == set(ROLES)


@pytest.mark.parametrize("link", re.findall(r"\]\((docs/[^)]+|[A-Z][^)]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
