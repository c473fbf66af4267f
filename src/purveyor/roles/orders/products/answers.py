"""Parses responses of the product API into trustworthy products.

A response is either no product data at all (HTML, a redirect, broken JSON), which is the API's fault, or contains
products, of which each can be at fault by itself: it then becomes an ``Unsellable``.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from purveyor.kit.money import decimals, from_major
from purveyor.roles.orders.contract import ProductId, shown
from purveyor.roles.orders.model import (
    MAX_PRODUCT_NUMBER,
    MAX_PRODUCT_TEXT,
    PRODUCT_TEXT,
    Product,
    Unsellable,
)

_decoder: msgspec.json.Decoder[object] = msgspec.json.Decoder(float_hook=Decimal)
_BOM = b"\xef\xbb\xbf"
_TEXTS = {"image": 2000, "description": 2000, "brand": 100, "model": 100, "color": 100, "category": 100}
"""The optional texts of a product, with their maximum lengths."""
_CURRENCY = ("currency", "currency_code", "currencyCode", "priceCurrency")
_UNFIT = {"Cc": " ", "Zl": " ", "Zp": " ", "Cf": ""}
"""Replacements by Unicode category: a space for breaks, nothing for bidirectional controls."""
_JOINERS = "\u200c\u200d"
"""Invisible, but needed in Persian, in Indian languages and in many emoji."""
_MAX_PRICE_TEXT = 40


class Unusable(Exception):
    """The API returned something that is no product data."""


def decode(body: bytes) -> object:
    """Decode JSON with exact decimals. Raises ``Unusable``.

    Accepts a byte order mark, and the NaN and overlong numbers of other encoders: they spoil one product, not all.
    """
    body = body.removeprefix(_BOM)
    with suppress(ValueError, ArithmeticError, RecursionError):
        return _decoder.decode(body)
    try:
        text = body.decode()
        return json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_number)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Unusable("the body is not JSON") from error


def _number(text: str) -> int | Decimal:
    try:
        return int(text) if len(text) <= _MAX_PRICE_TEXT and text.lstrip("-").isdigit() else Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return Decimal("NaN")


def read_product(answer: object, wanted: ProductId, currency: str) -> Product | Unsellable | None:
    """The product in a response; ``None`` when there is none with this id."""
    try:
        product = _inside(answer, "product")
    except Unusable as error:
        return Unsellable(id=wanted, why=str(error))
    if product is None:
        return None
    number = _id(product)
    if number is None:
        return Unsellable(id=wanted, why="the product API returned something that is no product")
    if number != wanted and (isinstance(wanted, str) or str(number) == str(wanted)):
        return None  # 1 is another product than "1", also to an API that reads "1" or "01" as 1
    if number != wanted:
        return Unsellable(id=wanted, why=f"the product API returned product {shown(number)} instead")
    return _view(product, number, currency)


class Listed(msgspec.Struct, frozen=True):
    """A list of products as the API returned it. ``length`` counts entries without an id too."""

    products: Sequence[Product | Unsellable]
    length: int


def read_products(answer: object, currency: str) -> Listed:
    """The products of a list. Raises ``Unusable`` without a list, or when no entry is a product."""
    if answer is None:
        raise Unusable("the answer is null")
    products = _inside(answer, "products")
    if products is None:
        return Listed((), 0)
    if not isinstance(products, list):
        raise Unusable("there is no list of products in the answer")
    identified = [(product, number) for product in products if (number := _id(product)) is not None]
    if products and not identified:
        raise Unusable("no entry of the list is a product with an id")
    return Listed([_view(product, number, currency) for product, number in identified], len(products))


def _inside(answer: object, member: str) -> object:
    """Unwrap a response; ``None`` when it reports an error. A bare response is returned as it is."""
    if isinstance(answer, dict) and "id" not in answer and ("status" in answer or member in answer):
        if str(answer.get("status")).casefold() == "error":
            return None
        if member not in answer:
            raise Unusable(f"there is no {member!r} in the answer of the product API, and no error")
        return answer[member]
    return answer


def _id(product: object) -> ProductId | None:
    """The id, kept as it came; ``2.0`` is the integer 2."""
    number = product.get("id") if isinstance(product, dict) else None
    if isinstance(number, Decimal) and number.is_finite() and abs(number) <= MAX_PRODUCT_NUMBER:
        number = int(number) if number == int(number) else None
    if isinstance(number, str):
        return number if len(number) <= MAX_PRODUCT_TEXT and re.fullmatch(PRODUCT_TEXT, number) else None
    return number if type(number) is int and 0 < number <= MAX_PRODUCT_NUMBER else None


def _view(product: Any, number: ProductId, currency: str) -> Product | Unsellable:
    title = product.get("title")
    if not isinstance(title, str) or not (title := _text(title, 300)):
        return Unsellable(id=number, why="it has no title")
    try:
        _require_currency(product, currency)
        price = _minor(product.get("price"), currency)
    except ValueError as error:
        return Unsellable(id=number, why=str(error))
    discount = product.get("discount")
    return Product(
        id=number,
        title=title,
        price=price,
        discount=discount if type(discount) is int and 0 <= discount <= 100 else 0,  # noqa: PLR2004
        **{name: _text(product.get(name), limit) for name, limit in _TEXTS.items()},
    )


def _require_currency(product: Mapping[str, object], currency: str) -> None:
    for name in _CURRENCY:
        said = product.get(name)
        if isinstance(said, str) and said.strip() and said.strip().upper() != currency:
            raise ValueError(f"its price is in {_text(said, 20)}, and the shop sells in {currency}")


def _minor(price: object, currency: str) -> int:
    """Minor units of a price, which may be a number or a decimal in a text. Raises ``ValueError``."""
    if price is None or price == "":
        raise ValueError("its price is missing")
    if isinstance(price, bool) or not isinstance(price, int | Decimal | str):
        raise ValueError("its price is not a number")  # noqa: TRY004 - a fault of the data
    if isinstance(price, str) and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", price.strip(), re.ASCII):
        raise ValueError(f"its price is not a number: {_text(price, _MAX_PRICE_TEXT)!r}")
    with suppress(InvalidOperation):
        amount = Decimal(price)
        with suppress(ValueError):
            return from_major(amount, currency)
        if not amount.is_finite():
            raise ValueError("its price is not a number")
        if amount < 0:
            raise ValueError("its price is negative")
    raise ValueError(f"its price is too large, or has more than the {decimals(currency)} decimals of {currency}")


def _text(value: object, limit: int) -> str:
    """Text or a number as one printable line of at most ``limit`` characters."""
    if not isinstance(value, str | int | Decimal):
        return ""
    text = str(value)[:limit]
    if not text.isprintable():
        text = "".join(one if one in _JOINERS else _UNFIT.get(unicodedata.category(one), one) for one in text)
    return re.sub(" {2,}", " ", text).strip(f" {_JOINERS}")
