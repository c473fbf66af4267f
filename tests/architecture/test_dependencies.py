"""The committed locks: complete, hashed, without a URL, and never below the floors of pyproject.toml."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RUN, DEV = "requirements.lock", "requirements-dev.lock"
SHIPPED = ["embedded", "drill", "kafka", "otel"]
"""The extras in both."""
CLIENTS = "tests/clients/requirements.lock"
PEER = "scripts/bench_peer/requirements.lock"
ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<rest>.*(?:\n .*)*)", re.MULTILINE)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def direct(*extras: str) -> list[Requirement]:
    """Give what pyproject.toml asks for by name: dependencies, these extras, the build backend."""
    parsed = pyproject()
    project = parsed["project"]
    lines = [*project["dependencies"], *parsed["build-system"]["requires"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def locked(text: str) -> dict[str, set[str]]:
    """Give the locked versions of each package; more than one where markers part the platforms."""
    versions: dict[str, set[str]] = {}
    for entry in ENTRY.finditer(text):
        versions.setdefault(canonicalize_name(entry["name"]), set()).add(entry["version"])
    return versions


def unmet(requirements: list[Requirement], versions: dict[str, set[str]]) -> list[str]:
    """Name every requirement that is not locked, or is locked at a version that it does not allow."""
    problems = []
    for requirement in requirements:
        found = versions.get(canonicalize_name(requirement.name), set())
        allowed = all(requirement.specifier.contains(version, prereleases=True) for version in found)
        if not found or not allowed:
            problems.append(f"{requirement} is locked at {sorted(found) or 'nothing'}")
    return problems


@pytest.mark.parametrize(("lock", "extras"), [(RUN, SHIPPED), (DEV, [*SHIPPED, "dev"])])
def test_direct_dependencies_are_locked_at_or_above_their_floors(lock: str, extras: list[str]) -> None:
    assert unmet(direct(*extras), locked((ROOT / lock).read_text())) == []


def test_every_direct_dependency_has_a_floor() -> None:
    floors = {">=", "==", "~="}
    assert [str(r) for r in direct(*SHIPPED, "dev") if not floors & {s.operator for s in r.specifier}] == []


@pytest.mark.parametrize("lock", [RUN, DEV, CLIENTS, PEER])
def test_a_lock_has_hashes_and_no_url(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = list(ENTRY.finditer(text))

    assert "://" not in text
    assert " @ " not in text
    assert len(entries) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), "a line that is not NAME==VERSION"
    assert [entry["name"] for entry in entries if "--hash=sha256:" not in entry["rest"]] == []


def test_the_npm_lock_has_hashes_and_no_address() -> None:
    packages = json.loads((ROOT / "tests/clients/package-lock.json").read_text())["packages"]

    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []


def test_the_dev_lock_holds_the_run_lock() -> None:
    """Tests and checks must run against the very versions that `app serve` gets."""
    run, dev = (locked((ROOT / lock).read_text()) for lock in (RUN, DEV))

    assert {name: versions for name, versions in run.items() if dev.get(name) != versions} == {}


def test_the_run_lock_holds_no_dev_package() -> None:
    run = locked((ROOT / RUN).read_text())
    only_dev = pyproject()["project"]["optional-dependencies"]["dev"]

    assert [line for line in only_dev if canonicalize_name(Requirement(line).name) in run] == []


def test_a_lock_below_a_floor_is_found() -> None:
    requirements = [Requirement("redis>=8.1.0"), Requirement("httpx>=0.28"), Requirement("rich>=15")]
    versions = locked("redis==8.0.9 \\\n    --hash=sha256:00\nhttpx==0.28.1 ; python_version > '3'\n")

    assert unmet(requirements, versions) == [
        "redis>=8.1.0 is locked at ['8.0.9']",
        "rich>=15 is locked at nothing",
    ]
