"""The web application of a process: Litestar with our requests, responses, errors and API document."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from litestar import Litestar, Response, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

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
    document: dict[str, Any] = _litestar(routes, config).openapi_schema.to_schema()
    for operations in document["paths"].values():
        for operation in operations.values():
            answers = operation.get("responses", {})
            if answers.get("400", {}).get("description", "").startswith(_LITESTAR_400):
                del answers["400"]  # ours say it, as problem details, where it can happen
    return document


def _litestar(routes: Sequence[Any], openapi_config: OpenAPIConfig | None) -> Litestar:
    return Litestar(
        list(routes),
        request_class=ApiRequest,
        response_class=ApiResponse,
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=openapi_config,
        logging_config=None,
    )
