"""The contents of each kind of mail, and the variables of its templates."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from purveyor.roles.auth.contract import Address
from purveyor.roles.email.countries import country_name
from purveyor.roles.email.language import FALLBACK, Language

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""Control characters, line separators and bidirectional controls, which no name or title may contain."""


class Shop(msgspec.Struct, frozen=True, kw_only=True):
    """Shop details in emails. Without a URL, emails have no links."""

    name: str = "Purveyor"
    url: str = ""
    contact: str = ""
    legal_url: str = ""
    logo_url: str = ""
    bank_details: tuple[str, ...] = ()
    """Lines."""
    zone: tzinfo = UTC
    currency: str = ""
    """Of orders whose event names none."""
    language: str = FALLBACK
    """Of mails whose event names none."""


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
    title: str = ""

    def view(self, words: Language, currency: str) -> dict[str, Any]:
        return {
            "title": one_line(self.title) or words.order.product.format(id=one_line(str(self.product_id))),
            "quantity": self.quantity,
            "price": words.money.format(self.price, currency),
            "amount": words.money.format(self.amount, currency),
        }


class _AboutOrder(_Letter, frozen=True, kw_only=True):
    order_number: int
    total: Decimal
    currency: str
    lines: tuple[Line, ...]
    payment_method: str
    link: str = ""
    """The order's page; may be empty."""

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        """Return the variables of the template. Raises ``ValueError`` for invalid amounts."""
        currency = one_line(self.currency)
        return {
            "number": self.order_number,
            "order": words.order.order.format(number=self.order_number),
            "payment": words.payment.get(self.payment_method) or one_line(self.payment_method),
            "lines": [line.view(words, currency) for line in self.lines],
            "total": words.money.format(self.total, currency),
            "link": self.link,
        }


class OrderMail(_AboutOrder, frozen=True, kw_only=True):
    """A mail to a customer about an order; money in major units. ``reason`` is that of a cancellation."""

    template: ClassVar = "order"

    payment_status: str = ""
    is_payable: bool = False
    """True if the email says how to pay."""
    address: Address | None = None
    note: str = ""
    reason: str = ""

    def without_free_text(self) -> "OrderMail":
        """The mail without anything that the customer wrote, except the name."""
        return msgspec.structs.replace(self, address=None, note="", reason="")

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        view = super().view(words, shop)
        return view | {
            "words": words.order,
            "automatic": words.order.automatic.format(shop=shop.name),
            "payment_status": words.payment_status.get(self.payment_status) or one_line(self.payment_status),
            "how_to_pay": self._how_to_pay(words, view["total"], shop),
            "bank_details": shop.bank_details if self._is_transfer(shop) else (),
            "address": address_lines(self.address, words.code) if self.address else (),
            "note": one_line(self.note),
            "reason": one_line(self.reason),
        }

    def _is_transfer(self, shop: Shop) -> bool:
        return self.is_payable and self.payment_method == "bank_transfer" and bool(shop.bank_details)

    def _how_to_pay(self, words: Language, total: str, shop: Shop) -> str:
        if self._is_transfer(shop):
            return words.order.transfer.format(total=total, number=self.order_number)
        on_delivery = self.is_payable and self.payment_method == "cash_on_delivery"
        return words.order.on_delivery.format(total=total) if on_delivery else ""


class NoticeMail(_AboutOrder, frozen=True, kw_only=True):
    """A mail to the shop about a new order.

    It contains no personal data, because the erasure of an account does not reach it.
    """

    template: ClassVar = "notice"

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        return super().view(words, shop) | {
            "words": words.order,
            "automatic": words.order.automatic_notice.format(shop=shop.name),
            "contact": "",
        }


class WelcomeMail(_Letter, frozen=True, kw_only=True):
    """A mail to a new user about the account with this address, with a token that confirms it unless it is."""

    template: ClassVar = "welcome"

    address: str
    token: str = ""

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        token = one_line(self.token)
        shop_link = f"{shop.url}/" if shop.url else ""
        return {
            "words": words.account,
            "automatic": words.account.automatic.format(shop=shop.name),
            "address": one_line(self.address),
            "token": token,
            "link": _token_link(shop, "confirm", token) if token else shop_link,
        }


class _TokenMail(_Letter, frozen=True, kw_only=True):
    """A mail with a single-use token, and a link to the page that takes it."""

    page: ClassVar[str]

    token: str
    expires_at: datetime

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        token = one_line(self.token)
        return {
            "words": words.account,
            "automatic": words.account.automatic.format(shop=shop.name),
            "token": token,
            "expires": words.account.expires.format(moment=words.date.format(self.expires_at, shop.zone)),
            "link": _token_link(shop, self.page, token),
        }


class ConfirmationMail(_TokenMail, frozen=True, kw_only=True):
    """A mail with a token that confirms the address it is sent to."""

    template: ClassVar = "confirmation"
    page: ClassVar = "confirm"

    address: str

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        return super().view(words, shop) | {"address": one_line(self.address)}


class ResetMail(_TokenMail, frozen=True, kw_only=True):
    """A mail with a token for a new password."""

    template: ClassVar = "reset"
    page: ClassVar = "reset"


def _token_link(shop: Shop, page: str, token: str) -> str:
    return f"{shop.url}/#/{page}?token={quote(token, safe='')}" if shop.url else ""


class PasswordChangedMail(_Letter, frozen=True, kw_only=True):
    """A mail that the password was changed, with a link to reset it."""

    template: ClassVar = "password"

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        return {
            "words": words.account,
            "automatic": words.account.automatic.format(shop=shop.name),
            "link": f"{shop.url}/#/forgot" if shop.url else "",
        }


class ErasedMail(_Letter, frozen=True, kw_only=True):
    """The last mail to a user whose account was deleted."""

    template: ClassVar = "erased"

    def view(self, words: Language, shop: Shop) -> dict[str, Any]:
        return {"words": words.account, "automatic": words.account.automatic_erased.format(shop=shop.name)}


class EmailChangedMail(ErasedMail, frozen=True, kw_only=True):
    """A mail to the old address of an account that now has another one."""


Letter = (
    OrderMail
    | NoticeMail
    | WelcomeMail
    | ConfirmationMail
    | EmailChangedMail
    | ResetMail
    | PasswordChangedMail
    | ErasedMail
)

NEW_ORDER_NOTICE = "shop.new_order"
"""The kind of the notice to the shop. All other kinds are event types."""

KINDS: Mapping[str, type[Letter]] = {
    "order.created": OrderMail,
    "order.confirmed": OrderMail,
    "order.paid": OrderMail,
    "order.shipped": OrderMail,
    "order.delivered": OrderMail,
    "order.cancelled": OrderMail,
    "order.refunded": OrderMail,
    NEW_ORDER_NOTICE: NoticeMail,
    "user.registered": WelcomeMail,
    "user.email_confirmation_requested": ConfirmationMail,
    "user.email_changed": EmailChangedMail,
    "user.password_reset_requested": ResetMail,
    "user.password_changed": PasswordChangedMail,
    "user.erased": ErasedMail,
}
"""The content of each kind of mail."""

CITY_FIRST = frozenset(["AU", "BR", "CA", "GB", "IE", "IN", "KR", "NZ", "SG", "TW", "US", "ZA"])
"""Countries that write the city before the postal code."""


def address_lines(address: Address, language: str) -> tuple[str, ...]:
    """Lines of a postal address, with the country's name in this language."""
    region, city, code = one_line(address.region), one_line(address.city), one_line(address.postal_code)
    if address.country.upper() in CITY_FIRST:
        place = ", ".join(filter(None, (city, " ".join(filter(None, (region, code))))))
    else:
        place = ", ".join(filter(None, (" ".join(filter(None, (code, city))), region)))
    country = country_name(address.country, language)
    lines = (address.recipient, address.line1, address.line2, place, country)
    return tuple(filter(None, map(one_line, lines)))


def one_line(text: str) -> str:
    """Put foreign text on one line, so that a name cannot imitate parts of the mail."""
    return " ".join(CONTROLS.sub(" ", text).split())
