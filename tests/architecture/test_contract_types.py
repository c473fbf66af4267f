"""What crosses a role boundary is frozen, and made of scalars, tuples and other messages."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from purveyor.kit.events.message import Ask, Event, Message
from purveyor.kit.role import Port
from purveyor.registry import ROLES

_SCALARS = (
    inspect.BoolType,
    inspect.DateTimeType,
    inspect.DecimalType,
    inspect.FloatType,
    inspect.IntType,
    inspect.LiteralType,
    inspect.NoneType,
    inspect.StrType,
    inspect.UUIDType,
)


def contracts(*names: str) -> Iterator[Any]:
    for role in ROLES.values():
        package = import_module(role.build.__module__.rpartition(".")[0])
        for found in iter_modules(package.__path__):
            if found.name in names:
                yield import_module(f"{package.__name__}.{found.name}")


def defined(base: type) -> list[Any]:
    """A name that begins with ``_`` is what several messages have in common, and none itself."""
    return [
        kind
        for module in contracts("contract", "client")
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, base)
        and kind.__module__.startswith(module.__name__)
        and not kind.__name__.startswith("_")
    ]


MESSAGES = defined(Message)


def trouble(found: inspect.Type, where: str) -> list[str]:
    """What of a type may not cross a role boundary."""
    match found:
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            return trouble(inner, where)
        case inspect.TupleType(item_types=parts) | inspect.UnionType(types=parts):
            return [line for part in parts for line in trouble(part, where)]
        case inspect.StructType(cls=kind):
            return [] if issubclass(kind, Message) else [f"{where}: {kind.__name__} is no message"]
        case _ if isinstance(found, _SCALARS):
            return []
    return [f"{where}: {type(found).__name__}"]


def troubles_of(kind: type[Message]) -> list[str]:
    lines = [] if kind.__struct_config__.frozen else [f"{kind.__name__} is not frozen"]
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        lines += trouble(field.type, f"{kind.__name__}.{field.name}")
    return lines


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_a_message_is_frozen_and_plain(kind: type[Message]) -> None:
    assert troubles_of(kind) == []
    assert not kind.__struct_config__.forbid_unknown_fields, "a reader ignores members that it does not know"


def test_the_check_finds_what_it_is_for() -> None:
    class Loose(msgspec.Struct):
        x: int

    class Bad(Message, frozen=True):
        numbers: list[int]
        table: dict[str, int]
        loose: tuple[Loose, ...]
        anything: Any
        fine: tuple[int | None, str]

    assert troubles_of(Bad) == [
        "Bad.numbers: ListType",
        "Bad.table: DictType",
        "Bad.loose: Loose is no message",
        "Bad.anything: AnyType",
    ]


@pytest.mark.parametrize("ask", defined(Ask), ids=lambda kind: kind.__name__)
def test_an_ask_names_its_reply_and_its_bearer(ask: type[Ask[Any]]) -> None:
    reply = ask.reply

    assert isinstance(reply, type)
    assert issubclass(reply, Message)
    assert ask.bearer is None or ask.bearer in ask.__struct_fields__


def test_events_are_facts_with_names_of_their_own() -> None:
    types = [event.type for event in defined(Event)]

    assert types
    assert len(set(types)) == len(types)
    assert [name for name in types if not name.split(".")[-1].endswith(("ed", "paid"))] == []


def test_every_port_says_who_answers_it() -> None:
    ports = defined(Port)

    assert ports
    packages = {name: role.build.__module__.rpartition(".")[0] for name, role in ROLES.items()}
    assert [port.__name__ for port in ports if not port.__module__.startswith(f"{packages[port.role]}.")] == []
