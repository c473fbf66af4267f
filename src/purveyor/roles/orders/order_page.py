"""The page that shows an order to whoever has the link in its emails: no log-in, and no personal data."""

import base64
import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from litestar import MediaType, Request, Response
from litestar.params import PathParameter

from purveyor.kit.errors import NotFound
from purveyor.kit.http.pages import wants_html
from purveyor.kit.http.routes import RouteGroup, answer
from purveyor.kit.http.web import find_list_header
from purveyor.kit.link_tokens import LinkTokens, id_in
from purveyor.kit.money import SIGNS, decimals, to_fixed
from purveyor.roles.orders.contract import order_page
from purveyor.roles.orders.model import Order
from purveyor.roles.orders.store import OrderStore
from purveyor.shop_details import ShopDetails

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).with_name("templates")
_STYLE = (_TEMPLATES / "order.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src http: https:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
_FALLBACK = "en"


class OrderPages:
    """Renders the pages of orders."""

    def __init__(self, store: OrderStore, links: LinkTokens, shop: ShopDetails, public_url: str) -> None:
        self._store = store
        self._links = links
        self._shop = shop
        self._public_url = public_url

    async def page(self, token: str) -> str:
        """The page of the order that a token shows. Raises ``NotFound`` for every invalid token."""
        missing = NotFound("There is no such page. Use the link in the email about your order.")
        if (order_id := id_in(token)) is None:
            raise missing
        try:
            stored = await self._store.find(order_id, None)
        except NotFound as error:
            raise missing from error
        if not self._links.verify(token, order_id, stored.buyer.email) or stored.erased:
            raise missing
        return _render_order(stored.order, stored.buyer.language, self._shop, self._public_url)

    def broken(self, accepted: str) -> str:
        """The page for a broken link. ``accepted`` is the value of ``Accept-Language``."""
        tags = [item.partition(";")[0].strip() for item in accepted.split(",")]  # browsers send the best one first
        code = next((code for tag in tags if (code := _code(tag)) in _words()), _FALLBACK)
        return _render("broken.html", code, self._shop, self._public_url)


def page_routes(pages: OrderPages) -> list[Any]:
    """The route of the page, open to everyone who has a link."""
    group = RouteGroup("orders", problems=(NotFound,))

    @group.get(
        order_page("{view_token:str}"),
        operation_id="view_order",
        summary="Show the order of a link",
        description=(
            "The page that emails about an order link to, in the language of the order. The token in the link is "
            "signed, so no log-in is needed. The page shows items, amounts and status, but no address, email "
            "address, name or note. The link ends when the personal data of the order is erased."
        ),
        headers={"X-Robots-Tag": "`noindex, nofollow`", "Cache-Control": "`private, no-store`"},
        responses=answer(str, "The page.", "<!doctype html>...", media_type="text/html"),
    )
    async def view_order(
        view_token: Annotated[str, PathParameter(description="Signed token from an email")],
        request: Request[Any, Any, Any],
    ) -> Response[str]:
        try:
            page, status = await pages.page(view_token), 200
        except NotFound:
            if not wants_html(request):
                raise
            page, status = pages.broken(find_list_header(request, b"accept-language") or ""), 404
        headers = {**_HEADERS, "Vary": "Accept, Accept-Language"}
        return Response(page, status_code=status, media_type=MediaType.HTML, headers=headers)

    return [view_order]


@cache
def _words() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads((_TEMPLATES / "words.toml").read_text(encoding="utf-8"))


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # most processes never show a page

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _code(tag: str) -> str:
    """The language of a tag such as ``de-AT``."""
    return tag.replace("_", "-").partition("-")[0].lower()


def _render(template: str, language: str, shop: ShopDetails, public_url: str, **values: Any) -> str:
    words = _words()[language]
    shared = {"language": language, "words": words, "shop": shop, "style": _STYLE}
    return (
        _templates().get_template(template).render(**shared, links=list(_links(shop, public_url, words)), **values)
    )


def _render_order(order: Order, tag: str, shop: ShopDetails, public_url: str) -> str:
    language = code if (code := _code(tag)) in _words() else _FALLBACK
    words = _words()[language]
    payment = words.get(order.payment_method, order.payment_method)
    is_transfer = order.payment_method == "bank_transfer" and order.payment_status == "unpaid"
    is_payable = is_transfer and order.status != "cancelled"
    return _render(
        "order.html",
        language,
        shop,
        public_url,
        order=order,
        facts=[
            (words["placed"], _date(order.created_at.astimezone(shop.zone), language)),
            (words["status"], words[order.status]),
            (words["payment"], f"{payment}, {words[order.payment_status]}"),
        ],
        lines=[
            {
                "title": line.title,
                "quantity": line.quantity,
                "price": _amount(line.price, order.currency, language),
                "amount": _amount(line.total, order.currency, language),
            }
            for line in order.lines
        ],
        total=_amount(order.total, order.currency, language),
        bank_details=shop.bank_lines if is_payable else (),
    )


def _links(shop: ShopDetails, public_url: str, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if public_url:
        yield shop.name, f"{public_url}/"
    if contact := shop.shop_contact.strip():
        yield contact, f"mailto:{contact}"
    if shop.shop_legal_url:
        yield words["legal"], shop.shop_legal_url


def _amount(minor: int, currency: str, language: str) -> str:
    from babel.numbers import format_decimal

    digits = decimals(currency)  # CLDR has those that are customary, such as 0 for IQD
    number = format_decimal(to_fixed(minor, currency), f"#,##0.{'0' * digits}".rstrip("."), language)
    if sign := SIGNS.get(currency):
        return _words()[language]["signed"].format(amount=number, sign=sign)
    return f"{number}\N{NO-BREAK SPACE}{currency}"


def _date(day: datetime, language: str) -> str:
    from babel.dates import format_date

    return format_date(day, _words()[language]["date"], language)
