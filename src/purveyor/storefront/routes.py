"""The routes of the page at ``/`` and of its files, which are served from memory as they are packaged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from purveyor.kit.http.static_files import Asset, load_assets, static_files

_STATIC = Path(__file__).parent / "static"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Stricter than that of the other pages: no inline style, and no form that leaves by itself."""


class PageConfig(msgspec.Struct, frozen=True):
    """What the page must know of this process. Anybody may read it."""

    development: bool
    """Whether hints that only a developer can use are shown."""
    mailbox: bool
    """Whether this process shows mails at ``/mailbox``."""
    desk: bool
    """Whether this process has the routes of ``desk.py``."""


def storefront_routes(config: PageConfig) -> Sequence[HTTPRouteHandler]:
    """The handlers of ``/`` and ``/static/shop``."""
    assets = load_assets(_STATIC)
    assets["config.json"] = Asset(msgspec.json.encode(config), "application/json")
    page = Asset((_STATIC / "index.html").read_bytes(), "text/html")

    @get("/", include_in_schema=False, sync_to_thread=False)
    def index(request: Request[Any, Any, Any]) -> Response[bytes]:
        response = page.response(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return [index, static_files("/static/shop", assets)]
