"""The files that a deployment starts from have every setting of the roles that they run, and no other.

``test_readme`` compares docs/settings.md with the code.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from purveyor.host import declared_settings, known_settings
from purveyor.kit.metrics import REGISTRY, SHARED
from purveyor.registry import ROLES
from purveyor.settings import Settings, Sources

ROOT = Path(__file__).resolve().parent.parent
KINDS = declared_settings(ROLES.values())
FIELDS = {field.name.upper(): field for kind in KINDS for field in msgspec.structs.fields(kind)}
EVERY = set(ROLES)
USED_BY: Mapping[str, set[str]] = {
    "ENVIRONMENT": EVERY,
    "LOG_FORMAT": EVERY,
    "LOG_LEVEL": EVERY,
    "STARTUP_WAIT_S": EVERY,
    "DATABASE_URL": {"auth", "orders"},
    "DATABASE_STATEMENT_CACHE": {"auth", "orders"},
    "REDIS_URL": {"auth", "orders"},
    "TRUSTED_PROXIES": {"auth", "orders", "shop"},
    "CORS_ORIGINS": EVERY,
    "PUBLIC_URL": EVERY,
    "RABBITMQ_URL": {"auth", "orders", "email", "shop"},
    "RABBITMQ_QUEUE_TYPE": {"auth", "orders", "email", "shop"},
    "NATS_URL": {"auth", "orders", "email", "shop"},
    "NATS_MONITOR_URL": {"auth", "orders", "email", "shop"},
    "KAFKA_OUTLET": {"auth", "orders", "email"},
    "AUTH_SERVICE": {"orders", "shop"},
    "ORDERS_SERVICE": {"shop"},
    "EMAIL_SERVICE": {"shop"},
    "SERVICE_SECRET": {"auth", "orders", "email", "shop"},
    "ASK_TIMEOUT_S": {"orders", "shop"},
    "DATA_DIR": {"email"},
}
"""The shared settings, and the roles for which a deployment on servers sets them."""
_APART = ("AUTH_SERVICE", "ORDERS_SERVICE", "EMAIL_SERVICE", "SERVICE_SECRET")
"""What nobody needs where all roles run in one process."""
ENV_FILES = {path.name.partition(".")[0]: path for path in (ROOT / "configs/env").glob("*.env.example")}
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
APPS = [name for name, service in SERVICES.items() if "PURVEYOR_IMAGE" in service["image"]]
IN_ENV_EXAMPLE = re.findall(
    r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE
)


def wanted(process: str) -> set[str]:
    """Settings of a process: the monolith, or one named after its role."""
    roles = EVERY if process == "monolith" else {process}
    names = {field.name.upper() for role in roles for field in msgspec.structs.fields(ROLES[role].settings)}
    names |= {name for name, users in USED_BY.items() if users & roles}
    return {name for name in names if process != "monolith" or name not in _APART}


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each name in a settings file, commented out or not, with the comment above it."""
    comment = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"#?([A-Z_]+)=", line):
            yield found[1], comment
            comment = ""
        else:
            comment = f"{comment} {line}" if line else ""


def test_used_by_covers_every_shared_setting() -> None:
    own = {field.name.upper() for role in ROLES.values() for field in msgspec.structs.fields(role.settings)}
    shared = {field.name.upper() for field in msgspec.structs.fields(Settings)}
    assert set(USED_BY) == shared | set(FIELDS) - own


@pytest.mark.parametrize("process", ENV_FILES)
def test_env_file_has_exactly_the_settings_of_its_process(process: str) -> None:
    names = [name for name, _ in lines(ENV_FILES[process])]
    assert sorted(names) == sorted(wanted(process))


@pytest.mark.parametrize("process", ENV_FILES)
def test_env_file_loads_as_it_is(process: str) -> None:
    sources = Sources(environ={}, dotenv=ENV_FILES[process])
    for kind in KINDS:
        sources.load(kind)


@pytest.mark.parametrize("process", APPS)
def test_container_has_exactly_the_settings_of_its_process(process: str) -> None:
    others = {"DATA_DIR"}  # the image says where
    others |= {"NATS_URL", "NATS_MONITOR_URL", "KAFKA_OUTLET", "ORDERS_READ_DATABASE_URL"}  # no such servers here
    assert set(SERVICES[process]["environment"]) == wanted(process) - others


def test_env_example_matches_the_variables_and_defaults_of_compose() -> None:
    read = re.findall(r"\$\{([A-Z_]+)(?::?[-?]([^}]*))?\}", COMPOSE)
    assert {name for name, _ in read} == {name for name, _ in IN_ENV_EXAMPLE}
    assert [name for name, value in IN_ENV_EXAMPLE if value and (name, value) not in read] == []


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, value in IN_ENV_EXAMPLE if name in FIELDS])
def test_default_in_env_example_is_a_valid_setting(name: str, value: str) -> None:
    for kind in KINDS:
        Sources(environ={name: value}, dotenv=None).load(kind)


@pytest.mark.parametrize("path", [ROOT / ".env.example", *ENV_FILES.values(), ROOT / "docs/settings.md"], ids=str)
def test_documented_ranges_match_the_settings(path: Path) -> None:
    table = re.findall(r"^\| `([A-Z_]+)` \|(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    for name, text in [*lines(path), *table]:
        if name in FIELDS and (said := re.search(r"\b(\d+) to (\d+)\b", text)):
            (meta,) = [meta for meta in FIELDS[name].type.__metadata__ if isinstance(meta, msgspec.Meta)]
            assert (name, int(said[1]), int(said[2])) == (name, meta.ge, meta.le)


@pytest.mark.parametrize("path", [ROOT / ".env.example", *ENV_FILES.values()], ids=lambda path: path.name)
def test_no_name_in_an_example_is_taken_for_a_mistake(tmp_path: Path, path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / ".env").write_text("".join(f"{name}={value or 'x'}\n" for name, value in lines(path)))

    assert Sources(environ={}, dotenv=tmp_path / ".env").unknown(known_settings()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.name)
def test_profile_loads_as_it_is(path: Path) -> None:
    sources = Sources(path, environ={}, dotenv=None)
    sources.refuse_unknown(known_settings())
    for kind in KINDS:
        sources.load(kind)


def test_containers_that_trust_proxies_publish_no_port() -> None:
    networks = yaml.safe_load(COMPOSE)["networks"]
    for process in APPS:
        trusted = SERVICES[process]["environment"].get("TRUSTED_PROXIES", "${TRUSTED_PROXIES:-}")
        if trusted != "${TRUSTED_PROXIES:-}":
            assert "ports" not in SERVICES[process]
    assert {name for name, network in networks.items() if (network or {}).get("internal")} == {"backend", "front"}
    assert {name for name in APPS if "outside" not in SERVICES[name]["networks"]} == {"auth", "catalog", "shop"}


def test_operating_page_lists_every_metric() -> None:
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    families = chain(REGISTRY.collect(), SHARED.collect())
    there = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    assert set(re.findall(r"purveyor_[a-z_]+", page)) == there


def test_each_broker_user_reads_its_roles_queues_and_no_other() -> None:
    (content,) = re.findall(r"rabbitmq-definitions:\n    content: \|\n((?:      .*\n)+)", COMPOSE)
    definitions = json.loads(content.replace("$$", "$").replace("${", "<{"))
    reads = {each["user"].removeprefix("purveyor_"): each["read"] for each in definitions["permissions"]}
    queues = {role: {queue.name for queue in ROLES[role].queues()} for role in ("auth", "orders", "email")}
    for role, own in queues.items():
        readable = {name for names in queues.values() for name in names if re.match(reads[role], name)}
        assert readable == own, role
