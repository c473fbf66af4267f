"""The declarations of the roles fit together: who needs, offers, asks, answers, emits and consumes what."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from purveyor.host import Host, declared_settings
from purveyor.kit.caller import CONSOLE
from purveyor.kit.events.message import Ask
from purveyor.kit.mode import Mode
from purveyor.kit.role import BUILT_IN, by_name
from purveyor.registry import ROLES
from purveyor.settings import Sources

_PORTS = {port for role in ROLES.values() for port in role.needs}
_ASKS = sorted(
    {ask for role in ROLES.values() for port in role.offers for ask in port.asks}, key=lambda a: a.__name__
)
_PUBLIC = [ask for ask in _ASKS if ask.route]


@pytest.fixture(scope="module")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """Every role, without any server."""
    sources = Sources(environ={"DATA_DIR": str(tmp_path_factory.mktemp("data"))}, dotenv=None)
    async with Host(list(ROLES.values()), sources, mode=Mode.OFFLINE).running() as running:
        yield running


def test_needs_are_acyclic() -> None:
    graph = {role.name: {port.role for port in role.needs} for role in ROLES.values()}

    assert set(TopologicalSorter(graph).static_order()) == set(ROLES)


def test_what_a_role_needs_another_one_offers() -> None:
    offered = {port: role.name for role in ROLES.values() for port in role.offers}

    assert _PORTS
    assert {port.__name__ for port in _PORTS} <= {port.__name__ for port in offered}
    assert [port.__name__ for port, name in offered.items() if port.role != name] == []


def test_address_of_another_role_is_a_setting_of_its_port() -> None:
    for role in ROLES.values():
        fields = {
            field.name.upper() for kind in declared_settings([role]) for field in msgspec.structs.fields(kind)
        }
        assert {port.setting for port in role.needs} <= fields
        assert {port.setting for port in role.offers} <= {f"{role.name.upper()}_SERVICE"}


def test_every_consumed_event_has_an_emitter() -> None:
    emitted = Counter(event for role in ROLES.values() for event in role.emits)
    consumed = {event for role in ROLES.values() for event in role.consumes}

    assert consumed
    assert consumed - set(emitted) == set()
    assert [event.__name__ for event, emitters in emitted.items() if emitters > 1] == []


def test_no_two_queues_have_the_same_name() -> None:
    names = [queue.name for role in ROLES.values() for queue in role.queues()]

    assert names
    assert [name for name, times in Counter(names).items() if times > 1] == []


def test_who_emits_has_an_outbox_and_who_consumes_has_handlers(host: Host) -> None:
    for name, role in ROLES.items():
        actor = host.actors[name]
        assert (actor.outbox is not None) == bool(role.emits), name
        assert (actor.outlet is not None) == bool(role.emits), name
        assert set(actor.subscriptions) == set(role.consumes), name


def test_every_ask_of_a_contract_is_answered_by_its_role(host: Host) -> None:
    for name, actor in host.actors.items():
        place = ROLES[name].build.__module__.removesuffix("role") + "contract"
        asks = {kind for kind in Ask.__subclasses__() if kind.__module__.startswith(place)}
        assert set(actor.answers) == asks, name


def test_every_ask_is_offered_by_a_port(host: Host) -> None:
    """So that each has a route: a public one, or a private one for those whose roles need the port."""
    assert set(host.answers) == set(_ASKS)
    assert host.can_be_asked
    assert [ask.__name__ for ask, callers in host.callers().items() if not callers <= {*ROLES, CONSOLE}] == []


@pytest.mark.parametrize("ask", _PUBLIC, ids=lambda ask: ask.__name__)
def test_what_a_port_asks_is_a_public_route_of_the_role_that_answers(host: Host, ask: type[Ask[Any]]) -> None:
    role = next(name for name, actor in host.actors.items() if ask in actor.answers)
    method, _, path = ask.route.partition(" ")
    served = {
        (verb, re.sub(r"\{(\w+):\w+\}", r"{\1}", served_path))
        for route in host.actors[role].routes
        for verb in route.http_methods
        for served_path in route.paths
    }

    assert (method, path) in served
    assert set(re.findall(r"\{(\w+)\}", path)) <= set(ask.__struct_fields__)


def test_every_role_has_its_place() -> None:
    for name, role in ROLES.items():
        package, _, module = role.build.__module__.rpartition(".")
        assert module == "role"
        assert role.origin != BUILT_IN or package == f"purveyor.roles.{name}"
        assert role.migrations is None or role.migrations.parent.name == package.rpartition(".")[2]
        assert role.serves
        assert len(role.serves) <= 80


def test_migrations_are_numbered_without_gaps() -> None:
    for role in ROLES.values():
        if role.migrations is None:
            continue
        numbers = [int(path.name.partition("_")[0]) for path in sorted(Path(role.migrations).glob("*.sql"))]
        assert numbers == list(range(1, len(numbers) + 1)), role.name
        assert numbers, role.name


_RELIED_ON = {
    *("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "MONGODB_URI", "DATA_DIR", "ENVIRONMENT", "TRUSTED_PROXIES"),
    *(
        "PRODUCTS_API",
        "AUTH_SERVICE",
        "JWT_SECRET",
        "PASSWORD_MIN_LENGTH",
        "RATE_LIMIT_ORDERS",
        "RATE_LIMIT_LOGIN",
        "RATE_LIMIT_REGISTER",
    ),
    *("EMAIL_USER", "EMAIL_PASS", "EMAIL_FROM", "SMTP_URL", "MAIL_DOUBTFUL", "LOG_FORMAT", "LOG_LEVEL"),
}
"""The settings that operators rely on; tests/test_readme.py holds the table of all of them."""


def test_the_settings_that_operators_rely_on_exist_and_say_what_they_are() -> None:
    entries = Sources(environ={}, dotenv=None).entries(declared_settings(ROLES.values()))

    assert _RELIED_ON - {entry.name for entry in entries} == set()
    assert [entry.name for entry in entries if not entry.about] == []


def test_role_that_holds_personal_data_must_hear_and_answer_the_requests() -> None:
    holders = [role for role in ROLES.values() if role.personal_data]
    assert {role.name for role in holders} == {"orders", "email"}
    collector = next(role for role in ROLES.values() if role.collects_personal_data)
    for deaf in (replace(holders[0], consumes={}), replace(holders[0], emits=())):
        with pytest.raises(ValueError, match=f"role {deaf.name} holds personal data"):
            by_name(collector, deaf)


def test_collector_of_personal_data_hears_every_holder() -> None:
    collector = next(role for role in ROLES.values() if role.collects_personal_data)
    for role in ROLES.values():
        if holds := role.personal_data:
            assert collector.consumes[holds.erased] == holds.erased.type
            assert collector.consumes[holds.exported] == holds.exported.type
