"""The contents of each kind of mail, and the variables of its templates."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from purveyor.roles.email.language import Language

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""Control characters, line separators and bidirectional controls, which no name or title may contain."""


class Shop(msgspec.Struct, frozen=True, kw_only=True):
    """The shop's name and base URL; without a URL, mails have no links."""

    name: str = "Purveyor"
    url: str = ""


class _Letter(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all mails. ``at`` is the aware time of the event."""

    template: ClassVar[str]
    """The name of the text and HTML templates without suffix."""

    customer: str
    at: datetime


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an order; money in major units."""

    product_id: int | str
    quantity: int
    price: Decimal
    amount: Decimal


class OrderMail(_Letter, frozen=True, kw_only=True):
    """A mail about an order; money in major units. ``reason`` is that of a cancellation."""

    template: ClassVar = "order"

    order_number: int
    total: Decimal
    currency: str
    lines: tuple[Line, ...]
    payment_method: str
    reason: str = ""

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        """Return the variables of the template. Raises ``ValueError`` for invalid amounts."""
        currency = one_line(self.currency)
        return {
            "words": words.order,
            "automatic": words.order.automatic.format(shop=shop.name),
            "number": self.order_number,
            "order": words.order.order.format(number=self.order_number),
            "payment": words.payment.get(self.payment_method) or one_line(self.payment_method),
            "reason": one_line(self.reason),
            "lines": [
                {
                    "title": words.order.product.format(id=one_line(str(line.product_id))),
                    "quantity": line.quantity,
                    "price": words.money.format(line.price, currency),
                    "amount": words.money.format(line.amount, currency),
                }
                for line in self.lines
            ],
            "total": words.money.format(self.total, currency),
        }


class WelcomeMail(_Letter, frozen=True, kw_only=True):
    """A mail to a new user about the account with this address."""

    template: ClassVar = "welcome"

    address: str

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        return {
            "words": words.account,
            "automatic": words.account.automatic.format(shop=shop.name),
            "address": one_line(self.address),
            "link": f"{shop.url}/" if shop.url else "",
        }


class ResetMail(_Letter, frozen=True, kw_only=True):
    """A mail with a single-use token for a new password."""

    template: ClassVar = "reset"

    token: str
    expires_at: datetime

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        token = one_line(self.token)
        return {
            "words": words.account,
            "automatic": words.account.automatic.format(shop=shop.name),
            "token": token,
            "expires": words.account.expires.format(moment=words.date.format(self.expires_at)),
            "link": f"{shop.url}/#/reset?token={quote(token, safe='')}" if shop.url else "",
        }


Letter = OrderMail | WelcomeMail | ResetMail

KINDS: Mapping[str, type[Letter]] = {
    "order.created": OrderMail,
    "order.confirmed": OrderMail,
    "order.shipped": OrderMail,
    "order.delivered": OrderMail,
    "order.cancelled": OrderMail,
    "user.registered": WelcomeMail,
    "user.password_reset_requested": ResetMail,
}
"""The content of each kind of mail. A kind is an event type."""


def one_line(text: str) -> str:
    """Put foreign text on one line, so that a name cannot imitate parts of the mail."""
    return " ".join(CONTROLS.sub(" ", text).split())
