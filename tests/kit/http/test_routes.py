"""Groups of routes: what a route takes from its group, and what its answers say."""

from typing import Any, cast

import httpx
import pytest
from litestar import Request, Response

from purveyor.kit.errors import Conflict, Forbidden, NotFound, TokenInvalid
from purveyor.kit.http.app import openapi, web_app
from purveyor.kit.http.routes import RouteGroup, answer


async def verify(token: str) -> str:
    if token != "good":
        raise TokenInvalid
    return "ada"


OPEN = RouteGroup("open")
CLOSED = RouteGroup("closed", verify=verify, problems=(Forbidden, NotFound))


@OPEN.get(
    "/text",
    operation_id="text",
    summary="Text",
    description="A text.",
    responses=answer(str, "The text.", "hello", media_type="text/csv"),
)
async def text() -> str:
    return "hello"


@CLOSED.post(
    "/things",
    operation_id="make",
    summary="Make",
    description="Make a thing.",
    problems=(NotFound, Conflict),
    responses=answer(dict[str, str], "The thing.", {"for": "ada"}, status=202),
)
async def make(request: Request[str, Any, Any]) -> dict[str, str]:
    return {"for": request.user}


@CLOSED.put(
    "/things",
    operation_id="touch",
    summary="Touch",
    description="Answers nothing.",
    response_description="Touched.",
)
async def touch() -> Response[None]:
    return Response(None)


ROUTES = [text, make, touch]


@pytest.fixture
def operations() -> dict[str, dict[str, Any]]:
    document = openapi(ROUTES, version="1")
    return {each["operationId"]: each for item in document["paths"].values() for each in item.values()}


async def send(method: str, path: str, token: str = "good") -> httpx.Response:
    transport = httpx.ASGITransport(cast("Any", web_app(ROUTES, version="1")))
    async with httpx.AsyncClient(transport=transport, base_url="http://routes.test") as client:
        return await client.request(method, path, headers={"Authorization": f"Bearer {token}"})


async def test_status_and_media_type_come_from_the_declared_answer() -> None:
    plain, made, touched = await send("GET", "/text"), await send("POST", "/things"), await send("PUT", "/things")

    assert (plain.status_code, plain.headers["content-type"], plain.text) == (
        200,
        "text/csv; charset=utf-8",
        "hello",
    )
    assert (made.status_code, made.headers["content-type"], made.json()) == (
        202,
        "application/json",
        {"for": "ada"},
    )
    assert (touched.status_code, touched.content) == (204, b"")


async def test_a_group_with_verify_requires_a_token() -> None:
    assert (await send("POST", "/things", "bad")).status_code == 401
    assert (await send("GET", "/text", "bad")).status_code == 200


def test_tag_and_security_come_from_the_group(operations: dict[str, dict[str, Any]]) -> None:
    assert (operations["text"]["tags"], operations["text"]["security"]) == (["open"], [])
    assert (operations["make"]["tags"], operations["make"]["security"]) == (["closed"], [{"bearer": []}])


def test_problems_of_route_and_group_are_documented_once(operations: dict[str, dict[str, Any]]) -> None:
    def codes(operation: str) -> dict[str, list[str]]:
        return {
            status: list(response["content"]["application/problem+json"]["examples"])
            for status, response in operations[operation]["responses"].items()
            if status >= "400"
        }

    general = {"401": ["unauthorized", "token-invalid"], "422": ["invalid-input"], "503": ["overloaded"]}
    assert codes("make") == general | {"403": ["forbidden"], "404": ["not-found"], "409": ["conflict"]}
    assert codes("touch") == general | {"403": ["forbidden"], "404": ["not-found"]}
    assert codes("text") == {"422": ["invalid-input"], "503": ["overloaded"]}
