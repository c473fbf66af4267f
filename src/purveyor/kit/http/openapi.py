"""The OpenAPI 3.1 document: Litestar's, made complete with what ``kit/http/routes.py`` and the errors declare."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from purveyor.kit.errors import (
    BadRequest,
    BodyTooLarge,
    InvalidInput,
    Overloaded,
    Problem,
    TokenInvalid,
    Unauthorized,
    UnsupportedMediaType,
)
from purveyor.kit.http.middleware import NEVER_SHED
from purveyor.kit.http.routes import RequestHeader, RouteDocs, docs_of
from purveyor.kit.http.web import ProblemBody

Json = dict[str, Any]
_SCHEMA = "#/components/schemas/{name}"
_JSON, _PROBLEM = "application/json", "application/problem+json"


def complete(document: Json, application: Litestar, tags: Mapping[str, str]) -> None:
    """Add to Litestar's document strict bodies, problems, headers and links, and order its tags."""
    operations = list(_operations(document, application))
    components = document["components"]
    components["schemas"] = dict(sorted((components["schemas"] | _schemas(operations)).items()))
    problems: set[type[Problem]] = set()
    summaries = {operation["operationId"]: operation["summary"] for _, operation, _ in operations}
    for path, operation, handler in operations:
        docs = docs_of(handler)
        _complete_parameters(operation, docs.reads)
        if "requestBody" in operation:
            _complete_body(operation, handler)
        problems |= _add_problems(operation, docs.problems, sheds=not path.startswith(NEVER_SHED))
        _restore_examples(operation, handler)
        _complete_success(operation, docs, summaries)
        operation.setdefault("security", [])  # linters and generators take silence for an oversight
    components |= _problem_components(problems)
    used = {tag for _, operation, _ in operations for tag in operation.get("tags", ())}
    document["tags"] = [{"name": name, "description": text} for name, text in tags.items() if name in used]


def _operations(document: Json, application: Litestar) -> Iterator[tuple[str, Json, Any]]:
    """Path, operation and handler of every documented route."""
    for served in application.routes:
        for handler in served.route_handlers if isinstance(served, HTTPRoute) else ():
            for method in handler.http_methods if handler.resolve_include_in_schema() else ():
                yield served.path, document["paths"][served.path_format][method.lower()], handler


# Schemas


def _schemas(operations: list[tuple[str, Json, Any]]) -> Json:
    """The schemas of request bodies and problems, by the library that reads and writes them.

    Litestar's do not say that unknown members are refused, and take a tuple's ``...`` for a type. A struct's
    ``rules`` are what its members cannot say of each other.
    """
    kinds = {handler.parsed_data_field.annotation for _, _, handler in operations if handler.parsed_data_field}
    _, schemas = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template=_SCHEMA
    )
    for kind in kinds:
        schemas[kind.__name__] |= getattr(kind, "rules", {})
    _refuse_nul(schemas)
    return schemas | msgspec.json.schema_components([ProblemBody], ref_template=_SCHEMA)[1]


def _refuse_nul(schema: Any) -> None:
    """Text may hold every character but U+0000."""
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _refuse_nul(inner)
    if (
        isinstance(schema, dict)
        and schema.get("type") == "string"
        and not {"pattern", "enum", "format"} & schema.keys()
    ):
        schema["pattern"] = r"^[^\u0000]*$"


# Parameters


def _complete_parameters(operation: Json, reads: Sequence[RequestHeader]) -> None:
    for parameter in operation.get("parameters", ()):
        _tidy_parameter(parameter)
        if parameter["in"] == "query":
            _refuse_nul(parameter["schema"])
    if reads:
        operation.setdefault("parameters", []).extend(
            {
                "name": read.name,
                "in": "header",
                "required": False,
                "description": read.description,
                "schema": {"type": "string", **read.schema},
            }
            for read in reads
        )


def _tidy_parameter(parameter: Json) -> None:
    """An optional parameter is never ``null``: text in a URL or a header cannot be."""
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


# Request bodies


def _complete_body(operation: Json, handler: Any) -> None:
    """The body in JSON. A form is not documented: generators fail on several media types of one operation."""
    field = handler.parsed_data_field
    kind = field.annotation
    examples = (
        [example.value for example in field.kwarg_definition.examples or ()] if field.kwarg_definition else []
    )
    operation["requestBody"]["required"] = field.is_required
    content = operation["requestBody"]["content"]
    content[_JSON] = {
        "schema": {"$ref": _SCHEMA.format(name=kind.__name__)},
        "examples": _examples(examples),
    }


def _examples(values: list[Any]) -> Json:
    return {f"example {number}": {"value": value} for number, value in enumerate(values, 1)}


# Answers


def _restore_examples(operation: Json, handler: Any) -> None:
    """The examples as they were given: Litestar leaves out what is ``None`` in them."""
    for status, spec in (handler.responses or {}).items():
        content = operation["responses"][str(status)].get("content", {})
        if spec.media_type in content:
            content[spec.media_type]["examples"] = _examples([each.value for each in spec.examples or ()])


def _complete_success(operation: Json, docs: RouteDocs, summaries: Mapping[str, str]) -> None:
    """Headers and links of the successful answer. Operations that this process does not serve are not linked."""
    status = min(operation["responses"])
    answer = operation["responses"][status]
    answer.pop("headers", None)
    if status == "204":
        answer.pop("content", None)  # Litestar's, where nothing but headers is answered
    links = {link.operation_id: link for link in docs.links if link.operation_id in summaries}
    for media_type in docs.files:
        answer["content"][media_type] = {"schema": {"type": "string", "format": "binary"}}
    if docs.headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in docs.headers.items()
        }
    if links:
        answer["links"] = {
            name: link.to_schema() | {"description": summaries[str(name)]} for name, link in links.items()
        }


# Problems

_OF_BODIES = (BadRequest, BodyTooLarge, UnsupportedMediaType, InvalidInput)
_PROBLEM_HEADERS = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
_ABOUT_HEADERS = {
    "Retry-After": "Seconds to wait before trying again (RFC 9110 section 10.2.3)",
    "WWW-Authenticate": "Authentication scheme (RFC 6750 section 3)",
}


def example_problem(kind: type[Problem]) -> Json:
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
        document["errors"] = [{"pointer": "/items/0/quantity", "detail": "must be a whole number from 1 to 100"}]
    return document | dict(kind.example_members)


def _problem_components(used: Iterable[type[Problem]]) -> Json:
    """An example of each problem type, and the headers that come with problems."""
    kinds = {kind.code: kind for kind in sorted(used, key=lambda kind: kind.code)}
    return {
        "examples": {
            code: {"summary": kind.title, "value": example_problem(kind)} for code, kind in kinds.items()
        },
        "headers": {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in _ABOUT_HEADERS.items()
        },
    }


def _add_problems(operation: Json, declared: Sequence[type[Problem]], *, sheds: bool) -> set[type[Problem]]:
    """Add the problems that the route declares and those of every route of its kind; returns them."""
    responses = operation["responses"]
    if responses.get("400", {}).get("description", "").startswith(HTTPStatus(400).description):
        del responses["400"]  # Litestar's own, which no client meets
    every = [*declared, *(kind for kind in _general_problems(operation, sheds=sheds) if kind not in declared)]
    for status in sorted({str(kind.status) for kind in every}):
        responses[status] = _problem_response(status, [kind for kind in every if str(kind.status) == status])
    operation["responses"] = dict(sorted(responses.items()))
    return set(every)


def _general_problems(operation: Json, *, sheds: bool) -> list[type[Problem]]:
    kinds: list[type[Problem]] = [*_OF_BODIES] if "requestBody" in operation else [InvalidInput]  # of its query
    if operation.get("security"):
        kinds += [Unauthorized, TokenInvalid]
    return [*kinds, Overloaded] if sheds else kinds


def _problem_response(status: str, kinds: Sequence[type[Problem]]) -> Json:
    response: Json = {
        "description": "; ".join(f"`{kind.code}`: {kind.title}" for kind in kinds),
        "content": {
            _PROBLEM: {
                "schema": {"$ref": _SCHEMA.format(name=ProblemBody.__name__)},
                "examples": {kind.code: {"$ref": f"#/components/examples/{kind.code}"} for kind in kinds},
            }
        },
    }
    if name := _PROBLEM_HEADERS.get(status):
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"}}
    return response
