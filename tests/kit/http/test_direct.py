"""Handlers that are called without Litestar answer as Litestar would have them answer."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Any, cast

import httpx
import msgspec
import pytest
from litestar import Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody, Parameter, QueryParameter
from litestar.response import Stream
from litestar.response.streaming import ASGIStreamingResponse
from msgspec import Meta

from purveyor.kit.errors import Conflict, Forbidden
from purveyor.kit.http.app import web_app
from purveyor.kit.http.web import ApiResponse


class Thing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=5)]
    price: Decimal = Decimal("1.50")


_NO_THING = Thing("none")


async def _wanted(
    request: Request[Any, Any, Any],
    status: Annotated[str | None, QueryParameter(description="Status")] = None,
    trouble: Annotated[bool | None, QueryParameter(description="Trouble")] = None,
) -> list[Any]:
    if status == "secret":
        raise Forbidden
    return [request.method, status, trouble]


@get("/things/{name:str}", dependencies={"wanted": Provide(_wanted)})
async def find(
    name: FromPath[str],
    wanted: NamedDependency[list[Any]],
    limit: Annotated[str, QueryParameter(max_length=3)] = "20",
) -> list[Any]:
    return [name, wanted, limit]


@post("/things", status_code=202)
async def make(data: JSONBody[Thing], request: Request[Any, Any, Any]) -> Response[Thing]:
    if data.name == "taken":
        raise Conflict
    return ApiResponse(data, headers={"Location": "/things/1", "X-Path": request.url.path})


@post("/maybe", status_code=200)
async def maybe(data: JSONBody[Thing] = _NO_THING) -> Thing:
    return data


@get("/text", media_type="text/csv", cache_control=CacheControlHeader(max_age=60))
async def text() -> str:
    return "größe"


@get("/unchanged")
async def unchanged() -> Response[bytes]:
    return Response(b"", status_code=304, headers={"ETag": '"1"'})


@get("/gone", status_code=204, sync_to_thread=False)
def gone() -> None:
    pass


@get("/thread", sync_to_thread=True)
def thread() -> list[int]:
    return [1]


@get("/stream")
async def stream() -> Stream:
    return Stream(iter([b"a", b"b"]), media_type="text/plain")


async def _events() -> AsyncIterator[bytes]:
    yield b"data: 1\n\n"


@get("/events")
async def events() -> ASGIStreamingResponse:
    return ASGIStreamingResponse(iterator=_events(), media_type="text/event-stream")


@get("/broken")
async def broken() -> Response[object]:
    return Response(object())


def _refuse(_: ASGIConnection[Any, Any, Any, Any], __: BaseRouteHandler) -> None:
    raise Forbidden


@get("/guarded", guards=[_refuse])
async def guarded() -> None:
    pass


@get("/counted")
async def counted(n: Annotated[int, Parameter(ge=1, le=9)] = 1) -> int:
    return n


DIRECT = [find, make, maybe, text, unchanged, gone, thread, stream, events, broken]
BY_LITESTAR = [guarded, counted]
APP = web_app([*DIRECT, *BY_LITESTAR], version="1")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/things/a%20b", None),
        ("GET", "/things/1/", None),
        ("GET", "//things/1?limit=5&status=paid&trouble=true", None),
        ("GET", "/things/1?status=secret", None),
        ("GET", "/things/1?limit=5000&trouble=x&other=1", None),
        ("POST", "/things", b'{"name": "cup", "price": 2.25}'),
        ("POST", "/things", b'{"name": "taken"}'),
        ("POST", "/things", b'{"name": "longer"}'),
        ("POST", "/things", b"[" * 10_000),
        ("POST", "/things", b" " * 70_000),
        ("POST", "/things", b""),
        ("POST", "/maybe", b""),
        ("POST", "/maybe", b'{"name": "cup"}'),
        ("DELETE", "/maybe", None),
        ("OPTIONS", "/maybe", None),
        ("GET", "/text", None),
        ("GET", "/unchanged", None),
        ("GET", "/gone", None),
        ("GET", "/thread", None),
        ("GET", "/stream", None),
        ("GET", "/events", None),
        ("GET", "/broken", None),
        ("GET", "/guarded", None),
        ("GET", "/counted?n=10", None),
        ("GET", "/nothing", None),
    ],
)
async def test_a_direct_call_answers_like_litestar(method: str, path: str, body: bytes | None) -> None:
    answers = []
    for app in (APP, APP.litestar):
        transport = httpx.ASGITransport(cast("Any", app))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            headers = {} if body is None else {"Content-Type": "application/json"}
            answer = await client.request(method, f"http://shop.test{path}", content=body, headers=headers)
            answers.append((answer.status_code, answer.headers.raw, answer.content))

    assert answers[0] == answers[1]


def test_handlers_are_called_directly_unless_only_litestar_knows_how() -> None:
    direct = {path for handler in APP.direct if "OPTIONS" not in handler.http_methods for path in handler.paths}

    assert {path for handler in DIRECT for path in handler.paths} <= direct
    assert not {path for handler in BY_LITESTAR for path in handler.paths} & direct
