"""Route declarations, in groups that hold what their routes have in common.

``kit/http/openapi.py`` makes the API document of what is declared here.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Required, TypedDict, Unpack
from uuid import UUID

import msgspec
from litestar.datastructures import CacheControlHeader
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, Link
from litestar.params import BodyKwarg, PathParameter, QueryParameter

from purveyor.kit.errors import FieldError, InvalidInput, Problem
from purveyor.kit.http.loopback import loopback_only
from purveyor.kit.http.query import number_fault
from purveyor.kit.http.web import BEARER, ReadToken, read_bearer, signed_in
from purveyor.kit.ids import parse_id

Verify = Callable[[str], Awaitable[object]]
"""From an access token to its holder. Raises ``TokenInvalid``."""

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
_DOCS = "docs"
JSON = "application/json"


class RequestHeader(msgspec.Struct, frozen=True):
    """A header that a handler reads by itself. As a parameter, it would make Litestar parse all headers."""

    name: str
    description: str
    schema: Mapping[str, Any] = {}
    """JSON Schema keywords beyond ``type: string``."""


class RouteDocs(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of a route's API documentation for which Litestar has no parameter.

    ``headers`` and ``links`` belong to the successful answer. Links lead to the operations that can follow it
    (OpenAPI 3.1, section 4.8.20).
    """

    problems: tuple[type[Problem], ...] = ()
    reads: tuple[RequestHeader, ...] = ()
    headers: Mapping[str, str] = {}
    """Description by name."""
    links: tuple[Link, ...] = ()
    files: tuple[str, ...] = ()
    """Media types of files that can be answered instead."""


def docs_of(handler: Any) -> RouteDocs:
    """Return the documentation that a route declares; empty for a route outside every group."""
    found: RouteDocs = handler.opt.get(_DOCS) or RouteDocs()
    return found


class Declaration(TypedDict, total=False):
    """The parameters of one route in its group. The last five go to Litestar unchanged."""

    operation_id: Required[str]
    summary: Required[str]
    description: Required[str]
    responses: Mapping[int, ResponseSpec]
    """The lowest status is the handler's; without any it answers 204."""
    problems: Sequence[type[Problem]]
    reads: Sequence[RequestHeader]
    headers: Mapping[str, str]
    links: Sequence[Link]
    files: Sequence[str]
    """Media types of files that can be answered instead."""
    form: Mapping[str, str]
    """Also accept a form: its fields, each with the member of the body that it fills."""
    cache_control: CacheControlHeader
    dependencies: Mapping[str, Provide]
    response_description: str
    security: Sequence[dict[str, list[str]]]
    sync_to_thread: bool


class RouteGroup:
    """Routes that share a tag, authentication and problems.

    With ``verify`` only holders of a valid access token pass; the handler finds what it returns in
    ``request.user``. With ``local`` only this machine is answered. Every route can also answer with the group's
    ``problems``.
    """

    def __init__(
        self,
        tag: str,
        *,
        verify: Verify | None = None,
        read_token: ReadToken = read_bearer,
        local: bool = False,
        problems: Sequence[type[Problem]] = (),
    ) -> None:
        self._problems = problems
        self._options: dict[str, Any] = {"tags": [tag]}
        if local:
            self._options["before_request"] = loopback_only
        if verify is not None:
            self._options |= {"before_request": signed_in(verify, read_token), "security": BEARER}

    def get(self, path: str, **route: Unpack[Declaration]) -> HTTPRouteHandler:
        return self._route("GET", path, route)

    def post(self, path: str, **route: Unpack[Declaration]) -> HTTPRouteHandler:
        return self._route("POST", path, route)

    def put(self, path: str, **route: Unpack[Declaration]) -> HTTPRouteHandler:
        return self._route("PUT", path, route)

    def patch(self, path: str, **route: Unpack[Declaration]) -> HTTPRouteHandler:
        return self._route("PATCH", path, route)

    def delete(self, path: str, **route: Unpack[Declaration]) -> HTTPRouteHandler:
        return self._route("DELETE", path, route)

    def _route(self, method: Method, path: str, route: Declaration) -> HTTPRouteHandler:
        responses = route.pop("responses", {})
        problems = route.pop("problems", ())
        docs = RouteDocs(
            problems=(*problems, *(kind for kind in self._problems if kind not in problems)),
            reads=tuple(route.pop("reads", ())),
            headers=route.pop("headers", {}),
            links=tuple(route.pop("links", ())),
            files=tuple(route.pop("files", ())),
        )
        status = min(responses, default=204)
        media_type = responses[status].media_type if responses else JSON
        form = route.pop("form", None)
        options: dict[str, Any] = {**self._options, **route}
        return HTTPRouteHandler(
            path,
            http_method=method,
            status_code=status,
            media_type=None if media_type == JSON else media_type,
            responses=responses,
            opt={_DOCS: docs, **({"form": form} if form else {})},
            **options,
        )


def answer(
    kind: Any, description: str, example: Any, *, status: int = 200, media_type: str = JSON
) -> dict[int, ResponseSpec]:
    """One answer for a route's ``responses``; ``kind`` is the type of its content."""
    spec = ResponseSpec(
        data_container=kind,
        description=description,
        media_type=media_type,
        generate_examples=False,
        examples=[Example(value=example)],
    )
    return {status: spec}


def body(example: Mapping[str, Any]) -> BodyKwarg:
    """A request's body, for ``Annotated``."""
    return BodyKwarg(examples=[Example(value=dict(example))])


def link(operation: str, *, headers: Mapping[str, str] | None = None, **parameters: str) -> Link:
    """A link to an operation by its ID; values are runtime expressions, such as ``$response.body#/id``.

    Links name no request body: one of several members can only be an object, which openapi-generator refuses.
    """
    every = {**parameters, **(headers or {})}
    return Link(operation_id=operation, parameters=every or None)


# Parameters. They arrive as text and are read here: an ID that is no UUID does not exist, and Litestar would
# accept 1e1 as a number.


def number_schema(highest: int, **more: Any) -> dict[str, Any]:
    """The JSON Schema of a parameter that ``read_number`` reads."""
    return {"type": "integer", "minimum": 1, "maximum": highest, **more}


PathId = Annotated[str, PathParameter(description="UUIDv7", schema_extra={"format": "uuid"})]
Limit = Annotated[
    str, QueryParameter(description="Maximum number of results", schema_extra=number_schema(100, default=20))
]
DEFAULT_LIMIT = "20"
Cursor = Annotated[
    str | None, QueryParameter(description="`next_cursor` of the previous page", schema_extra={"format": "uuid"})
]


def read_number(name: str, text: str, highest: int) -> int:
    """A number from 1, in digits and nothing else. Raises ``InvalidInput`` that points at the parameter."""
    if problem := number_fault(text, highest):
        raise InvalidInput("A parameter is not valid.", errors=[FieldError(f"/{name}", problem)])
    return int(text)


def read_limit(text: str) -> int:
    """The length of a page. Raises ``InvalidInput``."""
    return read_number("limit", text, 100)


def read_cursor(text: str | None) -> UUID | None:
    """The ID after which a page begins. Raises ``InvalidInput``."""
    if text is None:
        return None
    if (found := parse_id(text)) is None:
        problem = FieldError("/cursor", "must be next_cursor of the previous page")
        raise InvalidInput("The cursor is not valid.", errors=[problem])
    return found
