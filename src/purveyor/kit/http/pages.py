"""The pages that a developer opens in a browser: API documentation, events and problem types."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from purveyor.kit.errors import NotFound, Problem, problem_for, problem_types
from purveyor.kit.http import samples
from purveyor.kit.http.base_path import base_path
from purveyor.kit.http.openapi import example_problem
from purveyor.kit.http.static_files import REVALIDATE, SECURITY_HEADERS, load_assets, static_files
from purveyor.kit.http.web import find_list_header

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

Handler = Callable[[Request[Any, Any, Any], Any], Response[Any]]
_STATIC = Path(__file__).parent / "static"


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # most processes never show a page

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment


def _code(text: str) -> "Markup":
    """A template filter: plain text with `code` in backticks."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


def html_page(
    template: str,
    *,
    development: bool,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response[str]:
    """A page with security headers. ``development`` links the mailbox; ``values`` are the template's."""
    base = base_path.get()
    text = _templates().get_template(template).render(development=development, base=base, **values)
    every = {**SECURITY_HEADERS, "Cache-Control": REVALIDATE, **(headers or {})}
    return Response(text, status_code=status, media_type=MediaType.HTML, headers=every)


def wants_html(request: Request[Any, Any, Any]) -> bool:
    """Return whether a browser shows the answer to its user: ``Accept`` prefers HTML to JSON."""
    if request.method != "GET":
        return False
    weights: dict[str, float] = {}
    for item in (find_list_header(request, b"accept") or "").lower().split(","):
        media, *parameters = (part.strip() for part in item.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights[media] = float(quality) if re.fullmatch(r"[01](\.[0-9]*)?", quality) else 0.0
    return weights.get("text/html", 0.0) > weights.get("application/json", 0.0)


def for_browsers(handlers: Mapping[Any, Handler]) -> dict[Any, Handler]:
    """Exception handlers whose problem documents are pages for browsers."""

    def page_or_document(handler: Handler, request: Request[Any, Any, Any], error: Any) -> Response[Any]:
        response = handler(request, error)
        if not isinstance(response.content, bytes) or not wants_html(request):
            return response
        document = msgspec.json.decode(response.content)
        kind = problem_for(document["type"].rpartition("/")[2]) or Problem
        return html_page(
            "error.html",
            development=False,
            status=response.status_code or Problem.status,
            headers={**response.headers, "Cache-Control": "no-store", "Vary": "Accept"},
            detail=document["detail"],
            request_id=document["request_id"],
            problem=_problem(kind),
            errors=document.get("errors", ()),
        )

    return {kind: partial(page_or_document, handler) for kind, handler in handlers.items()}


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


def sample_routes(document: Callable[[], Mapping[str, Any]]) -> list[Any]:
    """``/docs/samples``, ``/docs/purveyor.http`` and ``/llms.txt`` for an OpenAPI document."""
    languages = {"curl": samples.curl, "Python": samples.python, "JavaScript": samples.javascript}

    @cache
    def grouped() -> dict[str, list[Any]]:
        groups: dict[str, list[Any]] = {tag["name"]: [] for tag in document()["tags"]}
        for operation in samples.operations(document()):
            written = [(language, write(operation)) for language, write in languages.items()]
            groups[operation.tag].append((operation, written))
        return groups

    @get("/docs/samples", include_in_schema=False, sync_to_thread=False)
    def sample_page(request: Request[Any, Any, Any]) -> Response[str]:
        values = {"tags": document()["tags"], "groups": grouped(), "host": _host(request)}
        return html_page("samples.html", development=False, **values)

    @get("/docs/purveyor.http", include_in_schema=False, sync_to_thread=False)
    def collection(request: Request[Any, Any, Any]) -> Response[str]:
        return _text(samples.http_collection(document(), _host(request)))

    @get("/llms.txt", include_in_schema=False, sync_to_thread=False)
    def llms_txt(request: Request[Any, Any, Any]) -> Response[str]:
        return _text(samples.llms_txt(document(), _host(request)))

    return [sample_page, collection, llms_txt]


def _text(content: str) -> Response[str]:
    return Response(content, media_type=MediaType.TEXT, headers={**SECURITY_HEADERS, "Cache-Control": REVALIDATE})


def _host(request: Request[Any, Any, Any]) -> str:
    """The address of the server as the client wrote it."""
    return f"{request.url.scheme}://{request.url.netloc}{base_path.get()}"


def _channel(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    message = document["components"]["messages"][name]
    operations = document["operations"].values()
    return {
        "name": name,
        "summary": message["summary"],
        "operations": [each["summary"] for each in operations if each["channel"]["$ref"] == f"#/channels/{name}"],
        "example": msgspec.json.format(msgspec.json.encode(_example(message["payload"], document))).decode(),
        "tables": {
            "Body": list(_members(message["payload"], document)),
            "Headers": list(_members(message["headers"], document)),
        },
    }


def _members(schema: Mapping[str, Any], document: Mapping[str, Any], prefix: str = "") -> Iterator[dict[str, Any]]:
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
            "choices": _choices(member),
        }
        if member.get("type") == "array":
            yield from _members(member["items"], document, f"{prefix}{name}[].")


def _type(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "string" if all(isinstance(choice, str) for choice in schema["enum"]) else "any"
    if "anyOf" in schema:
        return " or ".join(_type(_resolved(each, document), document) for each in schema["anyOf"])
    return str(schema.get("type", "any"))


def _choices(schema: Mapping[str, Any]) -> list[str]:
    """The values of an enumeration, or of the items of an array."""
    return [str(choice) for choice in schema.get("enum", schema.get("items", {}).get("enum", ()))]


_SAMPLES = {
    "string": "text",
    "integer": 1,
    "number": 29.99,
    "boolean": True,
    "null": None,
    "uuid": "01a20481-297c-700c-a82d-3d9ac6bc1ffd",
    "date-time": "2026-03-01T09:30:00Z",
}


def _example(given: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    """A value that fits a schema."""
    schema = _resolved(given, document)
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], document)
    if choices := schema.get("examples") or schema.get("enum"):
        return choices[0]
    if schema.get("type") == "array":
        return [_example(schema.get("items", {}), document)]
    if "properties" in schema:
        return {name: _example(member, document) for name, member in schema["properties"].items()}
    if schema.get("type") == "object":
        return {}
    return _SAMPLES.get(schema.get("format", ""), _SAMPLES.get(schema.get("type", ""), "text"))


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference points at."""
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
