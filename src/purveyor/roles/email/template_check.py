"""Startup check of an operator's own templates, which renders every mail with sample data."""

import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import TemplateError, TemplateSyntaxError

from purveyor.kit.errors import ConfigError
from purveyor.roles.auth.contract import Address
from purveyor.roles.email.mail_models import (
    KINDS,
    NEW_ORDER_NOTICE,
    ConfirmationMail,
    EmailChangedMail,
    ErasedMail,
    Letter,
    Line,
    NoticeMail,
    OrderMail,
    PasswordChangedMail,
    ResetMail,
    Shop,
    WelcomeMail,
)
from purveyor.roles.email.rendering import Renderer
from purveyor.roles.email.template_files import own_files

_AT = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
_CUSTOMER = "Zoë Müller"
_TOKEN = "Q4XKZ7p2nB0vW8sLr5TgYc1DhM9uJf3EaRi6NoKtVwx"  # noqa: S105 - of no account
_LINK = "https://shop.example/order/AZzUqJhCcACpEj1fPbQ7nIhqCgpOWqYb0cT4nJYxXKc"
_ORDER: Mapping[str, Any] = {
    "order_number": 10482,
    "total": Decimal("1294.48"),
    "currency": "EUR",
    "lines": (
        Line(
            product_id=3,
            title="Pour-over kettle, 1.2 l",
            quantity=2,
            price=Decimal("29.99"),
            amount=Decimal("59.98"),
        ),
        Line(
            product_id=17,
            title="Espresso machine with grinder",
            quantity=1,
            price=Decimal("1234.50"),
            amount=Decimal("1234.50"),
        ),
    ),
    "payment_method": "bank_transfer",
    "link": _LINK,
}
_TO_CUSTOMER: Mapping[str, Any] = {
    **_ORDER,
    "customer": _CUSTOMER,
    "address": Address(
        recipient=_CUSTOMER,
        line1="Torstraße 12",
        line2="Hinterhaus, 3. Stock",
        city="Berlin",
        postal_code="10119",
        country="DE",
    ),
    "note": "Please ring twice.",
}
_UNPAID: Mapping[str, Any] = {**_TO_CUSTOMER, "payment_status": "unpaid", "is_payable": True}
_PAID: Mapping[str, Any] = {**_TO_CUSTOMER, "payment_status": "paid"}
_LETTERS: Mapping[str, Letter] = {
    "order.created": OrderMail(at=_AT, **_UNPAID),
    "order.confirmed": OrderMail(at=_AT + timedelta(minutes=34), **_UNPAID),
    "order.paid": OrderMail(at=_AT + timedelta(hours=20), **_PAID),
    "order.shipped": OrderMail(at=_AT + timedelta(days=1), **_PAID),
    "order.delivered": OrderMail(at=_AT + timedelta(days=3), **_PAID),
    "order.cancelled": OrderMail(at=_AT + timedelta(hours=22), reason="Ordered twice", **_PAID),
    "order.refunded": OrderMail(at=_AT + timedelta(hours=23), **{**_TO_CUSTOMER, "payment_status": "refunded"}),
    NEW_ORDER_NOTICE: NoticeMail(
        at=_AT, customer="", **{**_ORDER, "link": "https://shop.example/#/desk/orders/1"}
    ),
    "user.registered": WelcomeMail(customer=_CUSTOMER, at=_AT, address="zoe@example.com", token=_TOKEN),
    "user.email_confirmation_requested": ConfirmationMail(
        customer=_CUSTOMER,
        at=_AT,
        address="zoe@example.com",
        token=_TOKEN,
        expires_at=_AT + timedelta(days=3),
    ),
    "user.email_changed": EmailChangedMail(customer=_CUSTOMER, at=_AT),
    "user.password_reset_requested": ResetMail(
        customer=_CUSTOMER,
        at=_AT,
        token=_TOKEN,
        expires_at=_AT + timedelta(minutes=30),
    ),
    "user.password_changed": PasswordChangedMail(customer=_CUSTOMER, at=_AT),
    "user.erased": ErasedMail(customer=_CUSTOMER, at=_AT),
}
SAMPLES: Mapping[str, Letter] = {kind: _LETTERS[kind] for kind in KINDS}
"""A sample letter for each kind, in the order of ``KINDS``."""


def samples(shop: Shop) -> Mapping[str, Letter]:
    """The sample letters with the links and the currency of a shop."""
    return {kind: _of(shop, letter) for kind, letter in SAMPLES.items()}


def _of(shop: Shop, letter: Letter) -> Letter:
    if not isinstance(letter, OrderMail | NoticeMail):
        return letter
    link = letter.link.replace("https://shop.example", shop.url) if shop.url else ""
    return msgspec.structs.replace(letter, link=link, currency=shop.currency or letter.currency)


def check_templates(overrides: Path) -> None:
    """Raise ``ConfigError`` with file and line for templates that cannot be used.

    Rejects files that override nothing, unreadable files, and mails that omit the customer's name, an order's
    number, lines or total, or the token.
    """
    names = own_files(overrides)
    renderer = Renderer(overrides=overrides)
    for name in names:
        if not name.endswith(".toml"):
            _compile(renderer, name)
    for language in renderer.languages:
        for kind, letter in SAMPLES.items():
            _try(renderer, overrides, kind, letter, language)


def _compile(renderer: Renderer, name: str) -> None:
    try:
        renderer.environment.get_template(name)
    except TemplateSyntaxError as error:
        raise ConfigError(f"MAIL_TEMPLATES: {error.name or name}, line {error.lineno}: {error.message}") from error
    except (TemplateError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"MAIL_TEMPLATES: {name}: {error}.") from error


def _try(renderer: Renderer, overrides: Path, kind: str, letter: Letter, language: str) -> None:
    try:
        rendered = renderer.render(kind, letter, language)
    except Exception as error:  # a template can raise anything
        where = _place(error, overrides) or f"{letter.template}.txt, {letter.template}.html"
        raise ConfigError(f"MAIL_TEMPLATES: {where}: {error} (mail {kind}, language {language}).") from error
    for form, body in (("txt", rendered.text), ("html", unescape(rendered.html))):
        words = _words(body)
        for fact, shown in _facts(renderer, letter, language).items():
            if _words(shown) not in words:
                where = f"{letter.template}.{form}"
                raise ConfigError(f"MAIL_TEMPLATES: {where}: mail {kind} in {language} does not show {fact}.")


def _facts(renderer: Renderer, letter: Letter, language: str) -> dict[str, str]:
    """Return what the text and the HTML must contain."""
    facts = {"the customer's name": letter.customer} if letter.customer else {}
    if isinstance(letter, OrderMail | NoticeMail):
        money = renderer.languages[language].money
        facts["the order's number"] = str(letter.order_number)
        facts["the total"] = money.format(letter.total, letter.currency)
        for line in letter.lines:
            facts[f"the line of product {line.product_id}"] = money.format(line.amount, letter.currency)
    elif isinstance(letter, ResetMail | ConfirmationMail):
        facts["the token"] = letter.token
    return facts


def _words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _place(error: Exception, overrides: Path) -> str:
    """Return file and line of the operator's template that raised the error, if any."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(overrides):
            return f"{path.relative_to(overrides).as_posix()}, line {frame.lineno}"
    return ""
