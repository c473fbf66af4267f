"""What a route says of itself to the API document: examples of its body and answer, headers, where to go next."""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, Link
from litestar.params import BodyKwarg

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
