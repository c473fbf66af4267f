"""The OpenAPI document tells every route, and what can go wrong on it."""

import json
import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from typer.testing import CliRunner

from purveyor.cli import app
from purveyor.host import Host
from purveyor.kit.mode import Mode
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
    async with Host(list(ROLES.values()), sources, mode=Mode.OFFLINE).running() as host:
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
    assert {
        path
        for path in hidden
        if not re.search(r"/mailbox|/pictures/|/catalog/images/|^GET /(static/shop/.*)?$", path)
    } == set()


def test_every_operation_has_a_summary_a_description_and_its_own_name(
    operations: dict[str, dict[str, Any]],
) -> None:
    names = [operation["operationId"] for operation in operations.values()]

    assert [route for route, operation in operations.items() if not operation.get("summary")] == []
    assert [route for route, operation in operations.items() if not operation.get("description")] == []
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []
    assert len(set(names)) == len(names)


def test_the_tags_are_described_and_there_are_a_license_and_a_server(document: dict[str, Any]) -> None:
    described = [tag["name"] for tag in document["tags"] if tag["description"]]
    used = {tag for item in document["paths"].values() for each in item.values() for tag in each["tags"]}

    assert set(described) == used
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert document["info"]["description"]
    assert [server["url"] for server in document["servers"]] == ["/"]


def resolved(document: dict[str, Any], node: Any) -> Any:
    """The node that a reference leads to."""
    while "$ref" in node:
        node = reduce(lambda found, name: found[name], node["$ref"].removeprefix("#/").split("/"), document)
    return node


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every body that is sent and received: ``request`` or the status, the media type and what is said of it."""
    for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", media_type, media
    for status, answer in operation["responses"].items():
        for media_type, media in answer.get("content", {}).items():
            yield status, media_type, media


def test_every_body_has_an_example_that_its_schema_allows(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    found = [(route, *content) for route, operation in operations.items() for content in contents(operation)]
    bodies = [
        (route, where, media) for route, where, _, media in found if media["schema"].get("format") != "binary"
    ]
    without = [(route, where) for route, where, media in bodies if not media.get("examples")]
    wrong = [
        (route, where, error.message)
        for route, where, media_type, media in found
        if media_type.endswith("json")
        for example in media.get("examples", {}).values()
        for error in Draft202012Validator({**media["schema"], "components": document["components"]}).iter_errors(
            resolved(document, example)["value"]
        )
    ]

    assert without == []
    assert wrong == []


def test_a_body_that_may_be_left_out_is_not_required(operations: dict[str, dict[str, Any]]) -> None:
    optional = {
        route for route, each in operations.items() if each.get("requestBody", {}).get("required") is False
    }

    assert optional == {"POST /verify-token", "POST /logout", "POST /api/orders/{order_id}/cancel"}


def test_every_answer_with_a_body_says_what_it_is(operations: dict[str, dict[str, Any]]) -> None:
    said_by_nobody = re.compile(r"Request fulfilled|Document created|Additional response")
    vague = {
        (route, status)
        for route, operation in operations.items()
        for status, answer in operation["responses"].items()
        if not answer["description"] or said_by_nobody.search(answer["description"])
    }

    assert vague == set()


def test_every_parameter_is_described_and_never_null(operations: dict[str, dict[str, Any]]) -> None:
    parameters = [
        (route, parameter["name"], parameter)
        for route, operation in operations.items()
        for parameter in operation.get("parameters", [])
    ]

    assert len(parameters) > 30
    assert [each[:2] for each in parameters if not each[2].get("description")] == []
    assert [each[:2] for each in parameters if not isinstance(each[2]["schema"].get("type"), str)] == []


def test_every_operation_says_whether_it_needs_a_token(operations: dict[str, dict[str, Any]]) -> None:
    public = {operation["operationId"] for operation in operations.values() if operation["security"] == []}

    assert {"register", "log_in", "list_products", "is_alive"} <= public
    assert not {"place_order", "get_order", "get_profile", "log_out"} & public


def test_request_bodies_have_one_media_type_for_generated_clients(operations: dict[str, dict[str, Any]]) -> None:
    other = {
        route: list(operation["requestBody"]["content"])
        for route, operation in operations.items()
        if "requestBody" in operation and list(operation["requestBody"]["content"]) != ["application/json"]
    }

    assert other == {}


def test_links_lead_to_operations_and_name_their_parameters(operations: dict[str, dict[str, Any]]) -> None:
    by_name = {operation["operationId"]: operation for operation in operations.values()}
    followed = {}
    for operation in operations.values():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                target = by_name[link["operationId"]]
                known = {parameter["name"] for parameter in target.get("parameters", [])}
                assert set(link.get("parameters", {})) <= known, link
                assert "requestBody" not in link, "openapi-generator refuses what is no string"
                followed.setdefault(operation["operationId"], set()).add(link["operationId"])

    assert {"get_profile", "log_in"} <= followed["register"]
    assert {"get_order", "get_timeline", "cancel_order", "change_order"} <= followed["place_order"]
    assert {"get_address", "replace_address", "delete_address"} <= followed["add_address"]


def expected_errors(route: str, operation: dict[str, Any]) -> set[str]:
    """What can always happen to a request of this kind."""
    parameters = operation.get("parameters", [])
    expected = set()
    if not route.startswith("GET /health/"):
        expected.add("503")  # too much to do
    if operation.get("security"):
        expected.add("401")
    if "/mailbox/" in route:
        expected.add("403")  # for this machine only
    if any(parameter["in"] == "path" for parameter in parameters):
        expected.add("404")
    bounds = re.compile(r'"(integer|number|boolean|maximum|maxLength|pattern|enum|format)"')
    if any(
        parameter["in"] == "query" and bounds.search(json.dumps(parameter["schema"])) for parameter in parameters
    ):
        expected.add("422")
    if "requestBody" in operation:
        expected |= {"400", "413", "415", "422"}
    if route in LIMITED:
        expected.add("429")
    if route in FOR_STAFF:
        expected.add("403")
    return expected


LIMITED = {
    *("POST /login", "POST /password", "POST /register", "POST /password/forgot", "POST /password/reset"),
    *("POST /email/confirm", "POST /user/{user_id}/email"),
    *("POST /api/orders", "GET /api/orders/{order_id}/live"),
}
FOR_STAFF = {
    "GET /api/tally",  # of the template in examples, where that is installed
    "GET /users",
    "PATCH /user/{user_id}/access",
    "GET /api/orders",
    "GET /api/orders/export.csv",
    "PATCH /api/orders/{order_id}",
    "POST /api/orders/{order_id}/cancel",
    "POST /api/orders/{order_id}/undo",
    "POST /api/orders/{order_id}/correction",
    "GET /api/orders/{order_id}/notes",
    "POST /api/orders/{order_id}/notes",
    "DELETE /api/orders/{order_id}/notes/{note_id}",
    "POST /api/orders/jobs",
    "GET /api/orders/jobs/{job_id}",
    "POST /api/orders/jobs/{job_id}/resume",
    "GET /api/orders/counts",
    "GET /api/orders/figures",
    "GET /api/mails",
    "POST /api/mails/{event_id}/resend",
    "GET /api/dead-letters",
    "POST /api/dead-letters/{queue}/{event_id}/replay",
}


def test_every_operation_documents_its_errors_as_problems(operations: dict[str, dict[str, Any]]) -> None:
    missing, beyond = {}, {}
    for route, operation in operations.items():
        responses = operation["responses"]
        errors = {status for status in responses if status >= "400"}
        missing[route] = sorted(expected_errors(route, operation) - errors)
        beyond[route] = sorted((errors & {"401", "403", "429"}) - expected_errors(route, operation))
        for status in errors - {"503"} if route == "GET /health/ready" else errors:
            assert list(responses[status]["content"]) == ["application/problem+json"], f"{route} {status}"
            codes = re.findall(r"`([a-z-]+)`: ", responses[status]["description"])
            assert codes == list(responses[status]["content"]["application/problem+json"]["examples"])
            assert codes, f"{route} {status}"
            if status in ("401", "429", "503"):
                assert responses[status]["headers"], f"{route} {status}"
    assert {route: statuses for route, statuses in missing.items() if statuses} == {}
    signs_in = {"POST /login", "POST /token/refresh", "POST /verify-token"}
    assert {route for route, statuses in beyond.items() if statuses} <= signs_in


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


@pytest.mark.parametrize("name", ["OrderBody", "DraftLine", "RegisterBody", "LoginBody", "AddressBody"])
def test_a_client_cannot_say_what_is_not_theirs_to_say(document: dict[str, Any], name: str) -> None:
    schema = next(value for key, value in document["components"]["schemas"].items() if key.endswith(name))

    assert not {"price", "total_amount", "status", "user_id", "id", "role", "is_admin"} & set(schema["properties"])
