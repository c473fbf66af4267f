"""Query parameters that are unknown, wrong or sent twice are refused, all at once, before anything is done."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from unittest.mock import AsyncMock

import httpx
import msgspec
import pytest
from litestar import Response, get
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter
from msgspec import Meta

from purveyor.kit.http.app import web_app
from purveyor.kit.http.routes import DEFAULT_LIMIT, Cursor, Limit, PathId, RouteGroup, answer, body


class Order(msgspec.Struct, forbid_unknown_fields=True):
    quantity: Annotated[int, Meta(ge=1)]
    note: str = ""


DONE = AsyncMock()


async def wanted(status: FromQuery[Literal["pending", "shipped"] | None] = None) -> str:
    return status or ""


def routes() -> list[Any]:
    group = RouteGroup("tests")
    declared: dict[str, Any] = {"summary": "", "description": "", "responses": answer(dict[str, str], "", {})}

    @group.get("/list/{order_id:str}", operation_id="a", dependencies={"wanted": Provide(wanted)}, **declared)
    async def listed(
        order_id: PathId,
        wanted: NamedDependency[str],
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
        moment: Annotated[str | None, QueryParameter(name="from", schema_extra={"format": "date-time"})] = None,
    ) -> dict[str, str]:
        return {"order_id": order_id, "status": wanted, "limit": limit}

    @group.post("/place", operation_id="b", **declared)
    async def place(data: Annotated[Order, body({"quantity": 1})]) -> dict[str, str]:
        await DONE()
        return {}

    @get("/page/{name:str}", include_in_schema=False)
    async def page(name: FromPath[str]) -> str:
        return name

    html = declared | {"responses": answer(str, "", "", media_type="text/html")}

    @group.get("/documented-page", operation_id="c", **html)
    async def documented_page() -> Response[str]:
        return Response("x", media_type="text/html")

    return [listed, place, page, documented_page]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app: Any = web_app(routes(), version="1")
    DONE.reset_mock()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        yield client


async def faults(client: httpx.AsyncClient, path: str, **request: Any) -> dict[str, str]:
    """The faults of a request that must be refused, by pointer."""
    response = await client.request("POST" if request else "GET", path, **request)
    assert response.status_code == 422, response.text
    return {error["pointer"]: error["detail"] for error in response.json()["errors"]}


async def test_known_parameters_are_taken(client: httpx.AsyncClient) -> None:
    response = await client.get("/list/7?status=shipped&limit=5&from=2026-03-01T09:30:00Z")
    assert response.json() == {"order_id": "7", "status": "shipped", "limit": "5"}


@pytest.mark.parametrize(
    ("query", "pointer", "detail"),
    [
        ("stauts=shipped", "/stauts", "is not a known parameter; did you mean status?"),
        ("x=1", "/x", "is not a known parameter; this operation takes limit, cursor, from, status"),
        ("order_id=8", "/order_id", "is not a known parameter; this operation takes limit, cursor, from, status"),
        ("Limit=5", "/Limit", "is not a known parameter; did you mean limit?"),
        ("a%2Fb~c=", "/a~1b~0c", "is not a known parameter; this operation takes limit, cursor, from, status"),
        ("limit=5&limit=6", "/limit", "must not be sent more than once"),
        ("limit=101", "/limit", "must be a whole number from 1 to 100"),
        ("limit=%00", "/limit", "must not contain the character U+0000"),
        ("cursor=x", "/cursor", "must be next_cursor of the previous page"),
        ("status=null", "/status", "must not be null; leave it out instead"),
        ("from=yesterday", "/from", "must be a time, such as 2026-03-01T09:30:00Z"),
    ],
)
async def test_another_one_is_named(client: httpx.AsyncClient, query: str, pointer: str, detail: str) -> None:
    assert await faults(client, f"/list/7?{query}") == {pointer: detail}


async def test_all_faults_of_a_query_are_named_at_once(client: httpx.AsyncClient) -> None:
    found = await faults(client, "/list/7?limit=0&cursor=x&status=gone&from=1&stauts=a&y")
    assert found.keys() == {"/limit", "/cursor", "/status", "/from", "/stauts", "/y"}
    assert len(await faults(client, "/list/7?" + "&".join(f"a{number}" for number in range(500)))) == 50


async def test_the_faults_of_the_body_are_named_beside_them(client: httpx.AsyncClient) -> None:
    sent = {"quantity": 0, "nots": "ring"}
    assert await faults(client, "/place?dry_run=1", json=sent) == {
        "/dry_run": "is not a known parameter; this operation takes none",
        "/quantity": "must be at least 1",
        "/nots": "is not a known member; did you mean note?",
    }
    assert (await faults(client, "/place?dry_run=1", json={"quantity": 1})).keys() == {"/dry_run"}
    DONE.assert_not_awaited()


async def test_pages_and_files_ignore_what_is_appended_to_their_links(client: httpx.AsyncClient) -> None:
    for path in ("/page/x", "/documented-page"):
        assert (await client.get(f"{path}?utm_source=mail")).text == "x"
