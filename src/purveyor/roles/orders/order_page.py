"""The page that shows an order to whoever has the link in its emails: no log-in, and no personal data."""

import base64
import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from litestar import MediaType, Response
from litestar.params import PathParameter

from purveyor.kit.errors import NotFound
from purveyor.kit.http.routes import RouteGroup, answer
from purveyor.kit.link_tokens import LinkTokens, id_in
from purveyor.kit.money import decimals, to_fixed
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
        return _render(stored.order, stored.buyer.language, self._shop, self._public_url)


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
    ) -> Response[str]:
        return Response(await pages.page(view_token), media_type=MediaType.HTML, headers=_HEADERS)

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


def _render(order: Order, tag: str, shop: ShopDetails, public_url: str) -> str:
    code = tag.replace("_", "-").partition("-")[0].lower()
    language = code if code in _words() else _FALLBACK
    words = _words()[language]
    payment = words.get(order.payment_method, order.payment_method)
    is_transfer = order.payment_method == "bank_transfer" and order.payment_status == "unpaid"
    is_payable = is_transfer and order.status != "cancelled"
    return (
        _templates()
        .get_template("order.html")
        .render(
            language=language,
            words=words,
            order=order,
            shop=shop,
            style=_STYLE,
            facts=[
                (words["placed"], f"{order.created_at.astimezone(shop.zone):%Y-%m-%d}"),
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
            links=list(_links(shop, public_url, words)),
        )
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
    return f"{number}\N{NO-BREAK SPACE}{currency}"
