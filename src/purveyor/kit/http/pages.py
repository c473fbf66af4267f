"""The pages that a developer opens in a browser: API documentation, events and problem types."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from purveyor.kit.errors import NotFound, Problem, problem_for, problem_types
from purveyor.kit.http.openapi import example_problem
from purveyor.kit.http.static_files import REVALIDATE, SECURITY_HEADERS, load_assets, static_files

if TYPE_CHECKING:
    from jinja2 import Environment

_STATIC = Path(__file__).parent / "static"


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # most processes never show a page

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def html_page(template: str, *, development: bool, **values: Any) -> Response[str]:
    """A page with security headers. ``development`` links the mailbox; ``values`` are the template's."""
    text = _templates().get_template(template).render(development=development, **values)
    return Response(text, media_type=MediaType.HTML, headers={**SECURITY_HEADERS, "Cache-Control": REVALIDATE})


def page_routes(*, development: bool) -> Sequence[HTTPRouteHandler]:
    """The handlers of ``/docs``, ``/problems`` and ``/static``; ``development`` links the mailbox too."""
    swagger_version = (_STATIC / "swagger-ui.VERSION").read_text().strip()

    @get("/docs", include_in_schema=False, sync_to_thread=False)
    def docs() -> Response[str]:
        return html_page("docs.html", development=development, swagger_version=swagger_version)

    @get("/problems", include_in_schema=False, sync_to_thread=False)
    def problem_list() -> Response[str]:
        kinds = {kind.code: kind for kind in problem_types()}.values()
        problems = sorted(map(_problem, kinds), key=lambda problem: (problem["status"], problem["code"]))
        return html_page("problems.html", development=development, problems=problems)

    @get("/problems/{slug:str}", include_in_schema=False, sync_to_thread=False)
    def problem(slug: FromPath[str]) -> Response[str]:
        kind = problem_for(slug)
        if kind is None:
            raise NotFound("There is no such problem type. See /problems for a list.")
        example = msgspec.json.format(msgspec.json.encode(example_problem(kind)), indent=2).decode()
        return html_page("problem.html", development=development, problem=_problem(kind), example=example)

    return [docs, problem_list, problem, static_files("/static", load_assets(_STATIC))]


def _problem(kind: type[Problem]) -> dict[str, Any]:
    return {
        "code": kind.code,
        "title": kind.title,
        "about": kind.about(),
        "status": kind.status,
        "phrase": HTTPStatus(kind.status).phrase,
    }


def event_routes(document: Mapping[str, Any], *, development: bool) -> list[Any]:
    """``/docs/events`` and ``/asyncapi.json`` for an AsyncAPI 3.1 document."""
    encoded = msgspec.json.encode(document)

    @get("/docs/events", include_in_schema=False, sync_to_thread=False)
    def events() -> Response[str]:
        channels = [_channel(name, document) for name in document["channels"]]
        return html_page("events.html", development=development, document=document, channels=channels)

    @get("/asyncapi.json", include_in_schema=False)
    async def asyncapi_json() -> Response[bytes]:
        return Response(encoded, media_type="application/json")

    return [events, asyncapi_json]


def _channel(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    message = document["components"]["messages"][name]
    operations = document["operations"].values()
    return {
        "name": name,
        "summary": message["summary"],
        "operations": [each["summary"] for each in operations if each["channel"]["$ref"] == f"#/channels/{name}"],
        "tables": {
            "Body": list(_members(message["payload"], document)),
            "Headers": list(_members(message["headers"], document)),
        },
    }


def _members(schema: Mapping[str, Any], document: Mapping[str, Any], prefix: str = "") -> Iterator[dict[str, str]]:
    """The members of an object and of the objects in its arrays, as rows of a table."""
    whole = _resolved(schema, document)
    required = whole.get("required", ())
    for name, given in whole.get("properties", {}).items():
        member = _resolved(given, document)
        about = member.get("description", "") if "$ref" not in given else ""
        optional = "optional" if required and name not in required else ""
        yield {
            "path": f"{prefix}{name}",
            "type": _type(member, document),
            "about": "; ".join(filter(None, (about, optional))),
        }
        if member.get("type") == "array":
            yield from _members(member["items"], document, f"{prefix}{name}[].")


def _type(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_type(_resolved(each, document), document) for each in schema["anyOf"])
    return str(schema.get("type", "any"))


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference points at."""
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
