"""The problems of every operation in the OpenAPI document: its own, and those that any of its kind can have."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from purveyor.kit.errors import (
    BadRequest,
    BodyTooLarge,
    InvalidInput,
    Overloaded,
    Problem,
    TokenInvalid,
    Unauthorized,
    UnsupportedMediaType,
    problem_types,
)

MEDIA_TYPE = "application/problem+json"

_BODY = (BadRequest, BodyTooLarge, UnsupportedMediaType, InvalidInput)
_BOUNDS = {"enum", "format", "maximum", "maxLength", "minimum", "pattern"}
_HEADERS = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
_ABOUT_HEADERS = {
    "Retry-After": "in how many seconds to try again (RFC 9110, section 10.2.3)",
    "WWW-Authenticate": "how to sign in (RFC 6750, section 3)",
}

Json = dict[str, Any]


def example(kind: type[Problem]) -> Json:
    """A problem document of this type as a client would receive it."""
    document: Json = {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.title,
        "instance": "/the/path/that/was/asked",
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
