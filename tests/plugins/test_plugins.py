"""Roles and transports of installed packages on the command line, and packages that do not fit."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from installed import TEMPLATE, environment, install, write_package

from purveyor import __version__
from purveyor.kit.errors import ConfigError
from purveyor.plugins import CONTRACT_VERSION, with_installed
from purveyor.registry import ROLES, TRANSPORTS
from waiting import PATIENCE_S

_ROLE = """
from contextlib import asynccontextmanager
from typing import Annotated
import msgspec
from purveyor.kit.role import Role
from purveyor.roles.orders.contract import OrderCreated
from purveyor.roles.orders.role import ROLE as ORDERS
from purveyor.shop_details import ShopDetails
from purveyor.settings import Url

class Settings(msgspec.Struct, frozen=True):
    {setting}

@asynccontextmanager
async def build(env, settings):
    yield

ROLE = Role(name={name!r}, contract_version={version}, serves="nothing", settings=Settings, build=build, {more})
"""
_TRANSPORT = """
import msgspec
from purveyor.settings import Url
from purveyor.transports import Transport

class Settings(msgspec.Struct, frozen=True):
    {setting}

class Events:
    async def open(self, queues):
        self.queues = [queue.name for queue in queues]

    async def close(self):
        pass

    async def check(self):
        return "carries " + ", ".join(self.queues)

def open(env, settings):
    return Events()

TRANSPORT = Transport(name={name!r}, contract_version={version}, settings=Settings, open=open, {more})
"""
_ROLES, _TRANSPORTS = "[purveyor.roles]", "[purveyor.transports]"


def role(
    name: str = "stub", *, version: int = CONTRACT_VERSION, setting: str = "stub_size: int = 1", more: str = ""
) -> str:
    return _ROLE.format(name=name, version=version, setting=setting, more=more)


def transport(
    name: str = "stub",
    *,
    version: int = CONTRACT_VERSION,
    setting: str = "stub_url: Url = Url()",
    more: str = "schemes=('stub',)",
) -> str:
    return _TRANSPORT.format(name=name, version=version, setting=setting, more=more)


def app(
    target: Path, *arguments: str, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line where the packages of a folder are installed."""
    given = environment(target, {"DATA_DIR": str(target / "data"), **(settings or {})})
    command = [sys.executable, "-m", "purveyor", *arguments]
    return subprocess.run(
        command, env=given, cwd=target, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


_SHARED = role().replace("msgspec.Struct, frozen=True", "ShopDetails, frozen=True, kw_only=True")
_UNFIT: dict[str, tuple[str, str, str]] = {
    "no such module": (_ROLES, "import nowhere", "cannot be imported (ModuleNotFoundError: No module named 'now"),
    "error at import": (_ROLES, "1 / 0", "cannot be imported (ZeroDivisionError: division by zero)"),
    "no such object": (
        _ROLES,
        "",
        "cannot be imported (AttributeError: module 'strange' has no attribute 'ROLE')",
    ),
    "wrong type": (_ROLES, "ROLE = 'stub'", "strange:ROLE is a str, not a Role"),
    "transport as a role": (_ROLES, transport() + "ROLE = TRANSPORT", "strange:ROLE is a Transport, not a Role"),
    "too old": (_ROLES, role(version=-1), "contract version -1 is too old"),
    "too new": (_ROLES, role(version=CONTRACT_VERSION + 1), f"version {CONTRACT_VERSION + 1} is too new"),
    "no version": (_ROLES, role(version=0), "declares no contract_version"),
    "odd name": (_ROLES, role("My Stub"), "the name 'My Stub' must be lowercase"),
    "settings of a wrong type": (_ROLES, role().replace("=Settings", "=dict"), "'stub' are not a msgspec.Struct"),
    "setting without a default": (_ROLES, role(setting="stub_size: int"), "setting STUB_SIZE has no default"),
    "name of a role": (_ROLES, role("email"), "there is already a role 'email'"),
    "schema of the events": (_ROLES, role("events"), "the PostgreSQL schema 'events' is taken"),
    "setting of all": (
        *(_ROLES, role(setting="data_dir: str = ''")),
        "setting DATA_DIR is already declared by purveyor.settings.Settings",
    ),
    "setting of a role": (
        *(_ROLES, role(setting="smtp_url: str = ''")),
        "setting SMTP_URL is already declared by purveyor.roles.email.role.EmailSettings",
    ),
    "setting of a base": (
        *(_ROLES, role(setting="shop_name: str = ''")),
        "setting SHOP_NAME is already declared by purveyor.shop_details.ShopDetails",
    ),
    "address of a role": (
        *(_ROLES, role(setting="auth_service: str = ''")),
        "setting AUTH_SERVICE is already declared by role auth",
    ),
    "database of a role": (
        *(_ROLES, role(setting="auth_database_url: str = ''")),
        "setting AUTH_DATABASE_URL is already declared by role auth",
    ),
    "queue of a role": (
        *(_ROLES, role(more="consumes={OrderCreated: 'order.created'}")),
        "the queue 'order.created' belongs to role email",
    ),
    "deaf to requests for personal data": (
        *(_ROLES, role(more="personal_data=ORDERS.personal_data")),
        "role stub holds personal data and does not consume or emit",
    ),
    "transport too old": (_TRANSPORTS, transport(version=-1), "contract version -1 is too old"),
    "name of a transport": (
        *(_TRANSPORTS, transport("nats", setting="nats_url: Url = Url()")),
        "there is already a transport 'nats'",
    ),
    "transport without a URL": (_TRANSPORTS, transport(more=""), "needs URL schemes and the setting STUB_URL"),
    "transport without a setting": (
        *(_TRANSPORTS, transport(setting="stub: int = 1")),
        "needs URL schemes and the setting STUB_URL",
    ),
    "setting of another transport": (
        *(_TRANSPORTS, transport(setting="stub_url: Url = Url()\n    nats_monitor_url: Url = Url()")),
        "setting NATS_MONITOR_URL is already declared by purveyor.transports.nats.NatsSettings",
    ),
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages for this process."""
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(("group", "module", "reason"), _UNFIT.values(), ids=_UNFIT)
def test_package_that_does_not_fit_is_refused(site: Path, group: str, module: str, reason: str) -> None:
    kind = "ROLE" if group == _ROLES else "TRANSPORT"
    write_package(site, "strange", module, group, f"odd = strange:{kind}")
    with pytest.raises(ConfigError, match=re.escape(reason)) as refused:
        with_installed(list(ROLES.values()), TRANSPORTS)

    place = f"Package strange 1.2, entry point 'odd' of {group.strip('[]')}: "
    assert str(refused.value).startswith(place)
    assert str(refused.value).endswith(". Update or uninstall the package.")


def test_two_packages_cannot_bring_the_same_role(site: Path) -> None:
    for name in ("first", "second"):
        write_package(site, name, role(), _ROLES, f"stub = {name}:ROLE")
    with pytest.raises(ConfigError, match="there is already a role 'stub'"):
        with_installed(list(ROLES.values()), TRANSPORTS)


@pytest.mark.parametrize("shares", [role(), _SHARED], ids=["own", "shared"])
def test_role_is_added_with_its_origin(site: Path, shares: str) -> None:
    """Roles share the settings of a struct that their own derive from."""
    write_package(site, "fitting", shares, _ROLES, "stub = fitting:ROLE")
    roles, transports = with_installed(list(ROLES.values()), TRANSPORTS)

    assert [each.name for each in roles] == [*ROLES, "stub"]
    assert {each.name: each.origin for each in roles} == {
        **dict.fromkeys(ROLES, f"purveyor {__version__}"),
        "stub": "fitting 1.2",
    }
    assert list(transports) == list(TRANSPORTS)


def test_nothing_is_looked_up_where_no_package_declares_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that most starts do not pay for ``importlib.metadata``."""
    monkeypatch.setitem(sys.modules, "importlib.metadata", None)
    assert with_installed([], TRANSPORTS) == ([], TRANSPORTS)


@pytest.mark.parametrize("arguments", [("serve",), ("roles",), ("--version",)], ids=" ".join)
def test_refusal_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write_package(tmp_path, "strange", "raise ImportError('two\\nlines')", _ROLES, "odd = strange:ROLE")
    done = app(tmp_path, *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "app: Package strange 1.2, entry point 'odd' of purveyor.roles: cannot be imported "
        "(ImportError: two lines). Update or uninstall the package.\n"
    )


def test_route_of_another_role_is_refused_in_one_line(tmp_path: Path) -> None:
    routes = """
    from litestar import get
    from purveyor.kit.role import Actor

    @get("/api/orders")
    async def orders() -> str:
        return ""

    yield Actor(routes=[orders])
"""
    write_package(tmp_path, "strange", role().replace("\n    yield\n", routes), _ROLES, "stub = strange:ROLE")
    done = app(tmp_path, "openapi", "--roles", "auth,orders,stub")

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot be served together: Handler already registered for path '/api/orders'" in done.stderr


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the installed template, and a transport from another package."""
    target = tmp_path_factory.mktemp("plugins") / "installed"
    install(TEMPLATE, target)
    write_package(target, "carrier", transport(), _TRANSPORTS, "stub = carrier:TRANSPORT")
    return target


def test_roles_are_listed_with_the_packages_that_they_come_from(template: Path) -> None:
    found = {each["role"]: each["origin"] for each in json.loads(app(template, "roles", "--json").stdout)}
    assert found == {**dict.fromkeys(ROLES, f"purveyor {__version__}"), "tally": "purveyor-role-template 0.1.0"}

    listed = app(template, "roles").stdout
    assert listed.endswith("\nEvent transport stub is from carrier 1.2.\n")
    assert re.search(
        r"^tally .* order\.created\.tally .* auth +purveyor-role-template 0\.1\.0 *$", listed, re.MULTILINE
    )


def test_settings_of_installed_packages_are_shown_and_checked(template: Path) -> None:
    settings = {"TALLY_KEEP_DAYS": "7", "TALLY_DATABASE_URL": "postgresql://u:secret@db.test/x"}
    (template / "shop.toml").write_text('tally_keep_days = 9\nstub_url = "stub://here"\n')
    shown = app(template, "config", "--json", "--config", "shop.toml", settings=settings)
    assert shown.returncode == 0, shown.stderr
    found = {each["name"]: (each["value"], each["source"]) for each in json.loads(shown.stdout)}
    assert found["TALLY_KEEP_DAYS"] == ("7", "environment")
    assert found["TALLY_DATABASE_URL"] == ("postgresql://u:****@db.test/x", "environment")
    assert found["STUB_URL"] == ("stub://here", "shop.toml")

    wrong = app(template, "config", settings={"TALLY_KEEP_DAYS": "0"})
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "TALLY_KEEP_DAYS=0 (environment): expected a whole number from 1 to 36500" in wrong.stderr


def test_two_transports_with_a_url_are_refused(template: Path) -> None:
    done = app(template, "config", settings={"STUB_URL": "stub://here", "NATS_URL": "nats://there"})
    assert done.returncode == 2
    assert "Set NATS_URL or STUB_URL, not both" in done.stderr


def test_doctor_examines_the_role_and_finds_its_misspelled_settings(template: Path) -> None:
    done = app(template, "doctor", "--roles", "auth,tally", settings={"TALLY_KEEP_DAY": "7"})
    assert done.returncode == 0, done.stderr
    assert "Did you mean TALLY_KEEP_DAYS?" in done.stdout
    assert re.search(r"^ok +postgres tally \(embedded\)", done.stdout, re.MULTILINE)


def test_transport_carries_the_events_where_its_url_is_set(template: Path) -> None:
    done = app(template, "doctor", "--roles", "auth,tally", settings={"STUB_URL": "stub://here"})
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ok +stub \(external\): carries .*\border\.created\.tally\b", done.stdout, re.MULTILINE)


def test_role_is_documented_and_its_schema_migrated(template: Path) -> None:
    paths = json.loads(app(template, "openapi", "--roles", "auth,tally").stdout)["paths"]
    assert "/api/tally" in paths
    operations = json.loads(app(template, "asyncapi").stdout)["operations"]
    assert "from queue order.created.tally." in operations["tally.receives.order.created"]["summary"]
    migrated = app(template, "migrate", "--roles", "tally", settings={"DATA_DIR": str(template / "fresh")})
    assert migrated.returncode == 0, migrated.stderr
    assert "tally 0001_orders" in migrated.stdout


def test_path_entry_that_cannot_be_read_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend("x" * 5000)  # OSError even for root: the name is too long
    assert with_installed(ROLES, TRANSPORTS) == (ROLES, TRANSPORTS)
