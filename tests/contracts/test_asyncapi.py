"""The AsyncAPI document says of every event what its golden body is."""

import json
from pathlib import Path
from typing import Any

import pytest

from purveyor.kit.events.asyncapi import asyncapi
from purveyor.registry import ROLES

DOCUMENT = asyncapi(list(ROLES.values()), version="1")
GOLDEN = Path(__file__).parent
TYPES: dict[str, Any] = {
    "integer": int,
    "number": (int, float),
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def complaints(value: Any, schema: dict[str, Any], where: str = "") -> list[str]:
    """What is wrong with a value by a schema of the document."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return min((complaints(value, each, where) for each in schema["anyOf"]), key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{where}: {value!r} is none of {schema['enum']}"]
    if not isinstance(value, TYPES[schema["type"]]):
        return [f"{where}: {value!r} is no {schema['type']}"]
    if schema["type"] == "array":
        return [wrong for item in value for wrong in complaints(item, schema["items"], f"{where}[]")]
    if schema["type"] == "object":
        found = [f"{where}.{name}: missing" for name in set(schema["required"]) - set(value)]
        found += [f"{where}.{name}: not documented" for name in set(value) - set(schema["properties"])]
        members = [name for name in value if name in schema["properties"]]
        return found + [
            wrong
            for name in members
            for wrong in complaints(value[name], schema["properties"][name], f"{where}.{name}")
        ]
    return []


@pytest.mark.parametrize("name", sorted(DOCUMENT["channels"]))
def test_the_golden_body_is_as_documented(name: str) -> None:
    message = DOCUMENT["components"]["messages"][name]
    (golden,) = GOLDEN.rglob(f"*{message['title']}.json")
    body = json.loads(golden.read_text())
    assert complaints(body, message["payload"]) == []
    assert complaints({**body, "more": 1}, message["payload"]) == [".more: not documented"]
    if "order_number" in body:
        wrong = complaints({**body, "order_number": "1"}, message["payload"])
        assert wrong == [".order_number: '1' is no integer"]
    for member in body.keys() - {"shipping_address"}:
        assert complaints({**body, member: None}, message["payload"]) != []


def test_whatever_is_received_is_sent_by_somebody() -> None:
    actions: dict[str, set[str]] = {}
    for operation in DOCUMENT["operations"].values():
        actions.setdefault(operation["channel"]["$ref"], set()).add(operation["action"])
    assert all("send" in done for done in actions.values())
    assert set(actions) == {f"#/channels/{name}" for name in DOCUMENT["channels"]}


def test_whoever_receives_names_the_queue() -> None:
    for role in ROLES.values():
        for event, queue in role.consumes.items():
            receives = DOCUMENT["operations"][f"{role.name}.receives.{event.type}"]
            assert f"from queue {queue}." in receives["summary"]
