"""The web application of a process: Litestar with our requests, responses, errors and API document."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from litestar import Litestar, Response, get, route
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.routes import HTTPRoute

from purveyor.kit.web import EXCEPTION_HANDLERS, MAX_BODY_BYTES, ApiRequest, ApiResponse

_TITLE = "Purveyor"
_LITESTAR_400 = "Bad request syntax or unsupported method"


def web_app(routes: Sequence[Any], *, version: str) -> Litestar:
    """The application that serves these routes, and their document at ``/openapi.json``."""

    @cache
    def document() -> bytes:
        return msgspec.json.encode(openapi(routes, version=version))

    @get("/openapi.json", include_in_schema=False)
    async def openapi_json() -> Response[bytes]:
        return Response(document(), media_type="application/json")

    return _litestar([*routes, openapi_json], None)


def openapi(routes: Sequence[Any], *, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes."""
    config = OpenAPIConfig(
        title=_TITLE,
        version=version,
        description="Order management: the same guarantees as one process or as many services.",
        path="/unused",  # this application is only asked for its document, never served
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
            }
        ),
    )
    application = _litestar(routes, config)
    document: dict[str, Any] = application.openapi_schema.to_schema()
    document["components"]["schemas"] |= _request_bodies(application)
    for operations in document["paths"].values():
        for operation in operations.values():
            answers = operation.get("responses", {})
            if answers.get("400", {}).get("description", "").startswith(_LITESTAR_400):
                del answers["400"]  # ours say it, as problem details, where it can happen
    return document


def _request_bodies(application: Litestar) -> dict[str, Any]:
    """The schemas of what the routes read, by the library that reads it.

    Litestar's own leave out that unknown members are refused, and take a tuple's ``...`` for a type.
    """
    handlers = [
        handler
        for served in application.routes
        if isinstance(served, HTTPRoute)
        for handler in served.route_handlers
        if handler.parsed_data_field is not None
    ]
    kinds = {handler.parsed_data_field.annotation for handler in handlers if handler.parsed_data_field}
    _, schemas = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template="#/components/schemas/{name}"
    )
    return schemas


def _options(routes: Sequence[Any]) -> list[Any]:
    """The answers to OPTIONS (RFC 9110 section 9.3.7). Litestar's own know only the first handler of a path."""
    methods: dict[str, set[str]] = defaultdict(set)
    for handler in routes:
        for path in handler.paths:
            methods[path] |= handler.http_methods
    return [_options_route(path, known) for path, known in methods.items()]


def _options_route(path: str, methods: set[str]) -> Any:
    known = {*methods, "OPTIONS", *({"HEAD"} if "GET" in methods else ())}
    headers = {"Allow": ", ".join(sorted(known))}

    @route(path, http_method="OPTIONS", include_in_schema=False)
    async def options() -> Response[None]:
        return Response(None, status_code=204, headers=headers)

    return options


def _litestar(routes: Sequence[Any], openapi_config: OpenAPIConfig | None) -> Litestar:
    return Litestar(
        [*_options(routes), *routes],  # first, else Litestar adds its own
        request_class=ApiRequest,
        response_class=ApiResponse,
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=openapi_config,
        logging_config=None,
    )
