"""The Litestar application of a process, and its OpenAPI document."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from litestar import Litestar, Response, get, route
from litestar.exceptions import ImproperlyConfiguredException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, License, SecurityScheme, Server

from purveyor.kit.errors import ConfigError
from purveyor.kit.http.direct import DirectApp
from purveyor.kit.http.openapi import complete
from purveyor.kit.http.pages import for_browsers, sample_routes
from purveyor.kit.http.web import (
    EXCEPTION_HANDLERS,
    MAX_BODY_BYTES,
    ApiRequest,
    ApiResponse,
    check_request,
)

_BEARER = SecurityScheme(
    type="http",
    scheme="bearer",
    bearer_format="JWT",
    description="The access token that POST /login returns (RFC 6750).",
)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """General part of the OpenAPI document. ``tags`` describe the groups of routes, in order."""

    title: str = "API"
    description: str = ""
    license: str = "MIT"
    tags: Mapping[str, str] = {}


_NOTHING_MORE = About()


def web_app(
    routes: Sequence[Any],
    *,
    version: str,
    about: About = _NOTHING_MORE,
    documented: bool = True,
    base_path: str = "",
) -> DirectApp:
    """The application that serves these routes, and with ``documented`` also its API document and samples."""

    @cache
    def document() -> dict[str, Any]:
        return openapi(routes, version=version, about=about, base_path=base_path)

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(document())

    @get("/openapi.json", include_in_schema=False)
    async def openapi_json() -> Response[bytes]:
        return Response(encoded(), media_type="application/json")

    own = [openapi_json, *sample_routes(document)] if documented else []
    return DirectApp(_litestar([*routes, *own], None))


def openapi(
    routes: Sequence[Any], *, version: str, about: About = _NOTHING_MORE, base_path: str = ""
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes, which are served below ``base_path``."""
    config = OpenAPIConfig(
        title=about.title,
        version=version,
        description=about.description.replace("](/", f"]({base_path}/"),
        license=License(name=about.license, identifier=about.license),
        servers=[Server(url=base_path or "/", description="This server")],
        path="/unused",  # this application only generates the document and is never served
        components=Components(security_schemes={"bearer": _BEARER}),
    )
    application = _litestar(routes, config)
    document: dict[str, Any] = application.openapi_schema.to_schema()
    complete(document, application, about.tags)
    return document


def _options(routes: Sequence[Any]) -> list[Any]:
    """OPTIONS for every path (RFC 9110 section 9.3.7). Litestar's own know only the first handler of a path."""
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
    """Raises ``ConfigError`` for a route that two roles serve, which a role of another package may cause."""
    try:
        return Litestar(
            [*_options(routes), *routes],  # first, else Litestar adds its own
            before_request=check_request,
            request_class=ApiRequest,
            response_class=ApiResponse,
            exception_handlers=for_browsers(EXCEPTION_HANDLERS),
            request_max_body_size=MAX_BODY_BYTES,
            openapi_config=openapi_config,
            logging_config=None,
        )
    except ImproperlyConfiguredException as error:
        raise ConfigError(f"The routes of these roles cannot be served together: {error.detail}.") from error
