"""What the OpenAPI document says beyond what Litestar makes of the routes; no word of any one route is here."""

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Litestar, Request
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, Link
from litestar.params import BodyKwarg, PathParameter, QueryParameter
from litestar.routes import HTTPRoute

from purveyor.kit.errors import (
    BadRequest,
    BodyTooLarge,
    FieldError,
    InvalidInput,
    Overloaded,
    Problem,
    TokenInvalid,
    Unauthorized,
    UnsupportedMediaType,
    problem_types,
)
from purveyor.kit.ids import parse_id

MEDIA_TYPE = "application/problem+json"
_BODY = (BadRequest, BodyTooLarge, UnsupportedMediaType, InvalidInput)
_BOUNDS = {"enum", "format", "maximum", "maxLength", "minimum", "pattern"}
_HEADERS = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
_ABOUT_HEADERS = {
    "Retry-After": "Seconds to wait before trying again (RFC 9110 section 10.2.3)",
    "WWW-Authenticate": "Authentication scheme (RFC 6750 section 3)",
}
Json = dict[str, Any]


def example(kind: type[Problem]) -> Json:
    """A problem document of this type as a client would receive it."""
    document: Json = {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.title,
        "instance": "/path/of/the/request",
        "request_id": "01939f5e-7c1a-7b52-9d0e-3f6a8c2b4d10",
    }
    if issubclass(kind, InvalidInput):
        document["errors"] = [{"pointer": "/items/0/quantity", "detail": "Expected 'int' >= 1"}]
    return document


def problem_components() -> Json:
    """An example of each problem type, and the headers that come with problems, for ``components``."""
    kinds = {kind.code: kind for kind in problem_types()}
    return {
        "examples": {code: {"summary": kind.title, "value": example(kind)} for code, kind in kinds.items()},
        "headers": {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in _ABOUT_HEADERS.items()
        },
    }


def add_problems(operation: Json, *, sheds: bool) -> None:
    """Complete the problems that the route states; ``sheds``: too many requests at once are turned away."""
    responses = operation["responses"]
    stated = [status for status, answer in responses.items() if MEDIA_TYPE in answer.get("content", {})]
    known = {kind.code: kind for kind in problem_types()}
    found = [known[code] for status in stated for code in responses[status]["content"][MEDIA_TYPE]["examples"]]
    found += [kind for kind in _general(operation, sheds=sheds) if kind not in found]
    if responses.get("400", {}).get("description", "").startswith(HTTPStatus(400).description):
        del responses["400"]  # Litestar's own, which no client meets
    for status in sorted({str(kind.status) for kind in found}):
        kinds = [kind for kind in found if str(kind.status) == status]
        responses[status] = _response(status, kinds)
    operation["responses"] = dict(sorted(responses.items()))


def _general(operation: Json, *, sheds: bool) -> list[type[Problem]]:
    queries = [each["schema"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    kinds: list[type[Problem]] = []
    if "requestBody" in operation:
        kinds += _BODY
    elif any(_BOUNDS & schema.keys() or schema.get("type") != "string" for schema in queries):
        kinds.append(InvalidInput)
    if operation.get("security"):
        kinds += [Unauthorized, TokenInvalid]
    return [*kinds, Overloaded] if sheds else kinds


def _response(status: str, kinds: Sequence[type[Problem]]) -> Json:
    content = {
        "schema": {"$ref": "#/components/schemas/ProblemBody"},
        "examples": {kind.code: {"$ref": f"#/components/examples/{kind.code}"} for kind in kinds},
    }
    response: Json = {
        "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
        "content": {MEDIA_TYPE: content},
    }
    if name := _HEADERS.get(status):
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"}}
    return response


_NOTES = "notes"
NEVER_SHED = {"never_shed": True}
"""For the ``opt`` of a route that is answered however much there is to do."""


class RequestHeader(msgspec.Struct, frozen=True):
    """A header that a route reads by itself: as a parameter of its own, Litestar would parse all headers."""

    name: str
    description: str
    schema: Mapping[str, Any] = {}
    """What is known of the text beyond its type, in JSON Schema."""


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """What Litestar does not ask of a route.

    ``reads`` are the request's headers. ``headers`` are those of the answer that goes well, each with its
    description. ``links`` go from that answer to the operations that it leads to (OpenAPI 3.1, section 4.8.20).
    """

    reads: tuple[RequestHeader, ...] = ()
    headers: Mapping[str, str] = {}
    links: tuple[Link, ...] = ()


def notes(
    *,
    reads: tuple[RequestHeader, ...] = (),
    headers: Mapping[str, str] | None = None,
    links: tuple[Link, ...] = (),
) -> dict[str, Any]:
    """Notes, for a route's ``opt``."""
    return {_NOTES: Notes(reads=reads, headers=headers or {}, links=links)}


def notes_of(handler: Any) -> Notes:
    """What a route has noted."""
    found: Notes = handler.opt.get(_NOTES) or Notes()
    return found


def link(
    operation: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    **parameters: str,
) -> Link:
    """A link to an operation by its id; values are runtime expressions, such as ``$response.body#/id``."""
    every = {**parameters, **(headers or {})}
    return Link(operation_id=operation, parameters=every or None, request_body=dict(body) if body else None)


def body(example: Mapping[str, Any]) -> BodyKwarg:
    """A request's body, for ``Annotated``."""
    return BodyKwarg(examples=[Example(value=dict(example))])


def answer(
    kind: Any, description: str, example: Any, *, status: int = 200, media_type: str = "application/json"
) -> dict[int, ResponseSpec]:
    """The answer of a route that goes well; ``kind`` is the type of its content."""
    spec = ResponseSpec(
        data_container=kind,
        description=description,
        media_type=media_type,
        generate_examples=False,
        examples=[Example(value=example)],
    )
    return {status: spec}


_SCHEMA = "#/components/schemas/{name}"
_NO_NUL, _SAID = r"^[^\u0000]*$", {"pattern", "enum", "format"}
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"


def complete(document: Json, application: Litestar, tags: Mapping[str, str]) -> None:
    """Make Litestar's document of these routes ours: strict bodies, problems, headers, links, ordered tags."""
    operations = list(_operations(document, application))
    components = document["components"]
    components["schemas"] |= _body_schemas([handler for _, handler in operations])
    components |= problem_components()
    summaries = {operation["operationId"]: operation["summary"] for operation, _ in operations}
    for operation, handler in operations:
        notes = notes_of(handler)
        for parameter in operation.get("parameters", ()):
            _tidy_parameter(parameter)
        if notes.reads:
            operation.setdefault("parameters", []).extend(map(_header_parameter, notes.reads))
        if "requestBody" in operation:
            _tell_body(operation, handler)
        add_problems(operation, sheds=not NEVER_SHED.items() <= handler.opt.items())
        _tell_answers(operation, handler)
        _tell_good_answer(operation, notes, summaries)
    used = {tag for operation, _ in operations for tag in operation.get("tags", ())}
    document["tags"] = [{"name": name, "description": text} for name, text in tags.items() if name in used]


def _operations(document: Json, application: Litestar) -> Iterator[tuple[Json, Any]]:
    for served in application.routes:
        for handler in served.route_handlers if isinstance(served, HTTPRoute) else ():
            for method in handler.http_methods if handler.resolve_include_in_schema() else ():
                yield document["paths"][served.path_format][method.lower()], handler


def _body_schemas(handlers: list[Any]) -> Json:
    """The schemas of what the routes read, by the library that reads it.

    Litestar's own leave out that unknown members are refused, and take a tuple's ``...`` for a type. A struct's
    ``rules`` are what its members cannot say of each other.
    """
    kinds = {handler.parsed_data_field.annotation for handler in handlers if handler.parsed_data_field}
    _, schemas = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template=_SCHEMA
    )
    for kind in kinds:
        schemas[kind.__name__] |= getattr(kind, "rules", {})
    _refuse_nul(schemas)
    return schemas


def _refuse_nul(schema: Any) -> None:
    """Text may hold every character but U+0000."""
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _refuse_nul(inner)
    if isinstance(schema, dict) and schema.get("type") == "string" and not _SAID & schema.keys():
        schema["pattern"] = _NO_NUL


def _tidy_parameter(parameter: Json) -> None:
    """A parameter that may be left out is not ``null`` when it is: text in a URL or a header cannot be."""
    schema = parameter["schema"]
    if "oneOf" in schema:
        kind = next(kind for kind in schema.pop("oneOf") if kind != {"type": "null"})
        schema |= kind | schema  # what a route says itself counts
    if isinstance(schema.get("type"), list):
        schema["type"] = next(kind for kind in schema["type"] if kind != "null")
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    for bound in ("minimum", "maximum"):
        if bound in schema:
            schema[bound] = int(schema[bound])
    schema.pop("description", None)  # it is the parameter's
    for flag in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(flag, None)


def _header_parameter(read: RequestHeader) -> Json:
    schema = {"type": "string", **read.schema}
    return {
        "name": read.name,
        "in": "header",
        "required": False,
        "description": read.description,
        "schema": schema,
    }


def _tell_body(operation: Json, handler: Any) -> None:
    content = operation["requestBody"]["content"]
    operation["requestBody"]["required"] = handler.parsed_data_field.is_required
    kind, told = handler.parsed_data_field.annotation, handler.parsed_data_field.kwarg_definition
    examples = [example.value for example in told.examples or ()] if told else []
    content[_JSON] = _media(kind.__name__, examples)
    if "form" in handler.opt:
        content[_FORM] = _form(kind, handler.opt["form"], examples)


def _media(name: str, examples: list[Any]) -> Json:
    schema = {"$ref": _SCHEMA.format(name=name)}
    return {"schema": schema, "examples": _examples(examples)}


def _examples(values: list[Any]) -> Json:
    return {f"example {number}": {"value": value} for number, value in enumerate(values, 1)}


def _form(kind: Any, names: Mapping[str, str], examples: list[Any]) -> Json:
    """The form that is read as the struct ``kind``; members that it does not know are left out."""
    whole = msgspec.json.schema_components([kind], ref_template=_SCHEMA)[1][kind.__name__]
    _refuse_nul(whole)
    properties = {form: whole["properties"][member] for form, member in names.items()}
    required = [form for form, member in names.items() if member in whole["required"]]
    values = [{form: example[member] for form, member in names.items()} for example in examples]
    schema = {"type": "object", "properties": properties, "required": required}
    return {"schema": schema, "examples": _examples(values)}


def _tell_answers(operation: Json, handler: Any) -> None:
    """The examples as they were given: Litestar leaves out what is ``None`` in them."""
    for status, spec in (handler.responses or {}).items():
        content = operation["responses"][str(status)].get("content", {})
        if spec.media_type in content and spec.media_type != MEDIA_TYPE:
            content[spec.media_type]["examples"] = _examples([each.value for each in spec.examples or ()])


def _tell_good_answer(operation: Json, notes: Notes, summaries: Mapping[str, str]) -> None:
    """Headers and links of the answer that goes well. What this process does not serve is not linked."""
    status = min(operation["responses"])
    answer = operation["responses"][status]
    answer.pop("headers", None)
    if status == "204":
        answer.pop("content", None)  # Litestar's, where nothing but headers is answered
    links = {link.operation_id: link for link in notes.links if link.operation_id in summaries}
    if notes.headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in notes.headers.items()
        }
    if links:
        answer["links"] = {
            name: link.to_schema() | {"description": summaries[str(name)]} for name, link in links.items()
        }


_NUMBER = re.compile(r"[1-9][0-9]{0,18}")


def number_schema(highest: int, **more: Any) -> dict[str, Any]:
    """What the API document says of a parameter that ``read_number`` reads."""
    return {"type": "integer", "minimum": 1, "maximum": highest, **more}


# They arrive as text and are read by hand: an id that is no UUID is something that does not exist, and Litestar
# takes 1e1 for a number.
PathId = Annotated[str, PathParameter(description="UUIDv7", schema_extra={"format": "uuid"})]
Limit = Annotated[
    str, QueryParameter(description="Maximum number of results", schema_extra=number_schema(100, default=20))
]
DEFAULT_LIMIT = "20"
Cursor = Annotated[
    str | None, QueryParameter(description="`next_cursor` of the previous page", schema_extra={"format": "uuid"})
]


def read_limit(text: str) -> int:
    """The length of a page. Raises ``InvalidInput``."""
    return read_number("limit", text, 100)


def read_number(name: str, text: str, highest: int) -> int:
    """A number from 1, in digits and nothing else. Raises ``InvalidInput`` that points at the parameter."""
    if not _NUMBER.fullmatch(text) or int(text) > highest:
        wrong = FieldError(f"/{name}", f"must be a whole number from 1 to {highest}")
        raise InvalidInput("A parameter is not valid.", errors=[wrong])
    return int(text)


def read_cursor(text: str | None) -> UUID | None:
    """The place after which a page begins. Raises ``InvalidInput``."""
    if text is None:
        return None
    if (found := parse_id(text)) is None:
        problem = FieldError("/cursor", "must be next_cursor of the previous page")
        raise InvalidInput("The cursor is not valid.", errors=[problem])
    return found


def refuse_null(request: Request[Any, Any, Any], *names: str) -> None:
    """Raise ``InvalidInput`` for the text ``null``: msgspec takes it for one that was not sent."""
    wrong = [
        name for name, value in request.query_params.multi_items() if name in names and value.lower() == "null"
    ]
    if wrong:
        raise InvalidInput(
            "A parameter is not valid.",
            errors=[FieldError(f"/{name}", "must not be null; leave it out instead") for name in wrong],
        )
