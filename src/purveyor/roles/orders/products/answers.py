"""Parses responses of the product API into trustworthy products."""

import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal

import msgspec

from purveyor.kit.money import from_major
from purveyor.roles.orders.model import Product

_decoder: msgspec.json.Decoder[object] = msgspec.json.Decoder(float_hook=Decimal)
_TEXTS = {"image": 2000, "description": 2000, "brand": 100, "model": 100, "color": 100, "category": 100}
"""The optional texts of a product, with their maximum lengths."""
_UNFIT = {"Cc": " ", "Zl": " ", "Zp": " ", "Cf": ""}
"""Replacements by Unicode category: a space for breaks, nothing for bidirectional controls."""
_JOINERS = "\u200c\u200d"
"""Invisible, but needed in Persian, in Indian languages and in many emoji."""


class Unusable(Exception):
    """The API returned an untrustworthy response. ``status`` is 0 when the body was at fault."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class Broken(Unusable):
    """The API itself is at fault, not one product: a status of 500 or above, or a body that is not JSON."""


def decode(body: bytes) -> object:
    """Decode JSON with exact decimals. Raises ``Broken``, and ``Unusable`` for ``null``."""
    try:
        answer = _decoder.decode(body)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Broken("the body is not JSON") from error
    if answer is None:
        raise Unusable("the answer is null")
    return answer


def read_product(answer: object, wanted: int) -> Product | None:
    """The product in a response (``None``: 404), or ``None``. Raises ``Unusable``."""
    product = _inside(answer, "product")
    if product is None:
        return None
    view = _view(product)
    if view.id != wanted:
        raise Unusable(f"asked for product {wanted}, got {view.id}")
    return view


def read_products(answer: object) -> Sequence[Product]:
    """The products of a list, without untrustworthy ones, which cannot be ordered either.

    Raises ``Unusable`` without a list or without any trustworthy product.
    """
    products = _inside(answer, "products")
    if products is None:
        return ()
    if not isinstance(products, list):
        raise Unusable("there is no list of products")
    views: list[Product] = []
    for product in products:
        with suppress(Unusable):
            views.append(_view(product))
    if products and not views:
        raise Unusable("no product of the list can be trusted")
    return views


def _inside(answer: object, member: str) -> object:
    """Unwrap a response; ``None`` when it reports an error. A bare response is returned as it is."""
    if isinstance(answer, dict) and "id" not in answer and ("status" in answer or member in answer):
        if str(answer.get("status")).casefold() == "error":
            return None
        if member not in answer:
            raise Unusable(f"there is no {member!r} in the answer, and no error")
        return answer[member]
    return answer


def _view(product: object) -> Product:
    if not isinstance(product, dict):
        raise Unusable("a product is not an object")
    number, title = product.get("id"), product.get("title")
    if type(number) is not int or not isinstance(title, str) or not (title := _text(title, 300)):
        raise Unusable("a product has no numeric id, or no title")
    discount = product.get("discount")
    return Product(
        id=number,
        title=title,
        price=_minor(number, product.get("price")),
        discount=discount if type(discount) is int and 0 <= discount <= 100 else 0,  # noqa: PLR2004
        **{name: _text(product.get(name), limit) for name, limit in _TEXTS.items()},
    )


def _minor(number: int, price: object) -> int:
    if isinstance(price, int | Decimal) and not isinstance(price, bool):
        with suppress(ValueError):
            if (minor := from_major(Decimal(price))) > 0:
                return minor
    raise Unusable(f"product {number} has no price in whole minor units")


def _text(value: object, limit: int) -> str:
    """Text or a number as one printable line of at most ``limit`` characters."""
    if not isinstance(value, str | int | Decimal):
        return ""
    text = str(value)[:limit]
    if not text.isprintable():
        text = "".join(one if one in _JOINERS else _UNFIT.get(unicodedata.category(one), one) for one in text)
    return re.sub(" {2,}", " ", text).strip(f" {_JOINERS}")
