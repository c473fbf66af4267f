"""The routes of the page at ``/`` and of its files, which are served from memory as they are packaged."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from purveyor.kit.errors import NotFound, Problem
from purveyor.kit.http.pages import REVALIDATE, Asset
from purveyor.roles.email.contract import Email

_STATIC = files(__package__) / "static"
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Stricter than that of the other pages: no inline style, and no form that leaves by itself."""


class PageConfig(msgspec.Struct, frozen=True):
    """What the page must know of this installation. It is public."""

    development: bool
    """Whether hints that only a developer can use are shown."""
    mailbox: bool
    """Whether emails are shown at ``/mailbox``."""


def _load() -> dict[str, Asset]:
    """The scripts and style sheets by their name in the URL: the folder as it is now, and nothing beside it."""
    return {
        file.name: Asset(file.read_bytes(), media_type, REVALIDATE, gzipped=False)
        for file in _STATIC.iterdir()
        if (media_type := _MEDIA_TYPES.get(f".{file.name.rpartition('.')[2]}"))
    }


def storefront_routes(email: Email, *, development: bool) -> Sequence[HTTPRouteHandler]:
    """The handlers of ``/`` and ``/static/shop``."""
    assets = _load()
    page = Asset((_STATIC / "index.html").read_bytes(), "text/html", REVALIDATE, gzipped=False)

    @get("/", include_in_schema=False, sync_to_thread=False)
    def index(request: Request[Any, Any, Any]) -> Response[bytes]:
        response = _answer(page, request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @get("/static/shop/config.json", include_in_schema=False)
    async def config(request: Request[Any, Any, Any]) -> Response[bytes]:
        shown = PageConfig(development=development, mailbox=development and await _has_mailbox(email))
        asset = Asset(msgspec.json.encode(shown), "application/json", REVALIDATE, gzipped=False)
        return _answer(asset, request)

    @get("/static/shop/{name:str}", include_in_schema=False, sync_to_thread=False)
    def file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        asset = assets.get(name)
        if asset is None:
            raise NotFound("There is no such file.")
        return _answer(asset, request)

    return [index, config, file]


async def _has_mailbox(email: Email) -> bool:
    try:
        return await email.has_mailbox()
    except Problem:  # the shop goes on without role email
        return False


def _answer(asset: Asset, request: Request[Any, Any, Any]) -> Response[bytes]:
    return asset.response(
        accept_encoding=request.headers.get("accept-encoding", ""),
        if_none_match=request.headers.get("if-none-match", ""),
    )
