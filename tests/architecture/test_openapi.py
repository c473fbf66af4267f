"""The OpenAPI document tells every route, and what can go wrong on it."""

import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from purveyor.cli import app
from purveyor.host import Host
from purveyor.registry import ROLES
from purveyor.settings import Sources


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    result = CliRunner().invoke(app, ["openapi", "--indent", "0"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by its method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


async def routes(folder: str) -> tuple[set[str], set[str]]:
    """Method and path of every route of every role: those to document, and those that say they are hidden."""
    shown: set[str] = set()
    hidden: set[str] = set()
    sources = Sources(environ={"DATA_DIR": folder}, dotenv=None)
    async with Host(list(ROLES.values()), sources, offline=True).running() as host:
        for route in [route for actor in host.actors.values() for route in actor.routes]:
            into = hidden if route.include_in_schema is False else shown
            assert into is hidden or route.summary, (
                f"{route.paths}: Litestar would make a summary of the function's name"
            )
            for path in route.paths:
                into |= {f"{method} {re.sub(r':[a-z]+}', '}', path)}" for method in route.http_methods}
    return shown, hidden


async def test_every_route_of_every_role_is_in_the_document(
    operations: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shown, hidden = await routes(str(tmp_path_factory.mktemp("data")))

    assert len(shown) >= 20
    assert shown - set(operations) == set()
    assert hidden & set(operations) == set()
    assert {path for path in hidden if "/mailbox" not in path and "/pictures/" not in path} == set()


def test_every_operation_has_a_summary_and_its_own_name(operations: dict[str, dict[str, Any]]) -> None:
    names = [operation["operationId"] for operation in operations.values()]

    assert [route for route, operation in operations.items() if not operation.get("summary")] == []
    assert len(set(names)) == len(names)


def expected_errors(operation: dict[str, Any]) -> set[str]:
    """What can always happen to a request of this kind."""
    parameters = operation.get("parameters", [])
    expected = set()
    if operation.get("security"):
        expected.add("401")
    if any(parameter["in"] == "path" for parameter in parameters):
        expected.add("404")
    bounds = re.compile(r'"(integer|number|boolean|maximum|maxLength|pattern|enum|format)"')
    if any(
        parameter["in"] == "query" and bounds.search(json.dumps(parameter["schema"])) for parameter in parameters
    ):
        expected.add("422")
    if "requestBody" in operation:
        expected |= {"400", "422"}
    return expected


def test_every_operation_documents_its_errors_as_problems(operations: dict[str, dict[str, Any]]) -> None:
    missing = {}
    for route, operation in operations.items():
        responses = operation["responses"]
        errors = {status for status in responses if status >= "400"}
        missing[route] = sorted(expected_errors(operation) - errors)
        for status in errors - {"503"} if route == "GET /health/ready" else errors:
            assert list(responses[status]["content"]) == ["application/problem+json"], f"{route} {status}"
            assert re.search(r"`[a-z-]+`: ", responses[status]["description"]), f"{route} {status}"
    assert {route: statuses for route, statuses in missing.items() if statuses} == {}


def test_amounts_are_documented_as_numbers(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    amounts = [
        (name, member, schema.get("type"))
        for name, whole in schemas.items()
        for member, schema in whole.get("properties", {}).items()
        if member in {"price", "total_amount", "total_amt"}
    ]

    assert len(amounts) >= 4
    assert [amount for amount in amounts if amount[2] != "number"] == []


@pytest.mark.parametrize("name", ["OrderBody", "ItemBody", "RegisterBody", "LoginBody", "AddressBody"])
def test_a_client_cannot_say_what_is_not_theirs_to_say(document: dict[str, Any], name: str) -> None:
    schema = next(value for key, value in document["components"]["schemas"].items() if key.endswith(name))

    assert not {"price", "total_amount", "status", "user_id", "id", "role", "is_admin"} & set(schema["properties"])
