"""The routes of the page at ``/`` and of its files, which are served from memory as they are packaged."""

from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from purveyor.kit.errors import Problem
from purveyor.kit.http.base_path import base_path
from purveyor.kit.http.static_files import Asset, load_assets, static_files
from purveyor.roles.email.contract import Email
from purveyor.roles.shop.settings import ShopSettings

_STATIC = Path(__file__).parent / "static"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src 'self'; "
    "form-action 'none'; base-uri 'self'; frame-ancestors 'none'"
)
"""Stricter than that of the other pages: no inline style, and no form that leaves by itself."""


class PageConfig(msgspec.Struct, frozen=True):
    """Configuration that the page reads. It is public."""

    name: str
    contact: str
    """Email address, or empty."""
    legal_url: str
    """URL of the legal notice, or empty."""
    bank_details: tuple[str, ...]
    """Lines of the account for bank transfers."""
    image_origins: tuple[str, ...]
    """Other origins of product pictures."""
    development: bool
    """True if hints that only a developer can use are shown."""
    mailbox: bool
    """True if emails are shown at ``/mailbox``."""


def storefront_routes(email: Email, settings: ShopSettings, *, development: bool) -> Sequence[HTTPRouteHandler]:
    """The handlers of ``/`` and ``/static/shop``."""
    assets = load_assets(_STATIC)
    policy = POLICY.format(images=" ".join(("'self'", *settings.picture_origins)))

    @get("/", include_in_schema=False, sync_to_thread=False)
    def index(request: Request[Any, Any, Any]) -> Response[bytes]:
        response = _page(settings.name, f"{base_path.get()}/").response(request)
        response.headers["Content-Security-Policy"] = policy
        return response

    @get("/static/shop/config.json", include_in_schema=False)
    async def config(request: Request[Any, Any, Any]) -> Response[bytes]:
        shown = PageConfig(
            name=settings.name,
            contact=settings.shop_contact.strip(),
            legal_url=str(settings.shop_legal_url),
            bank_details=settings.bank_lines,
            image_origins=settings.picture_origins,
            development=development,
            mailbox=development and await _has_mailbox(email),
        )
        return Asset(msgspec.json.encode(shown), "application/json").response(request)

    return [index, config, static_files("/static/shop", assets)]


@cache
def _page(name: str, base: str) -> Asset:
    """The page with the shop's name, and with the base of its relative links."""
    text = (_STATIC / "index.html").read_text(encoding="utf-8")
    return Asset(text.replace("{{base}}", escape(base)).replace("{{name}}", escape(name)).encode(), "text/html")


async def _has_mailbox(email: Email) -> bool:
    try:
        return await email.has_mailbox()
    except Problem:  # the shop goes on without role email
        return False
