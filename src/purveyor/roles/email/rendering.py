"""Mails as people read them: subject, text and HTML of each kind, in the customer's language."""

import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    select_autoescape,
)

from purveyor.roles.email.language import Language, best, languages

KINDS = {
    "order.created": "order_created",
}
"""Every kind of mail (the type of the event that it tells of), with the name of its two templates."""

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""Control characters, line separators and bidirectional controls: never part of a name or a title."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an order; money in major units. Without a title the product is named by its id."""

    product_id: int
    quantity: int
    price: Decimal
    amount: Decimal
    title: str = ""


class OrderMail(msgspec.Struct, frozen=True, kw_only=True):
    """What a mail about an order tells; money in major units, ``placed_at`` with its time zone."""

    order_number: int
    customer: str
    total: Decimal
    currency: str
    lines: tuple[Line, ...]
    payment_method: str
    placed_at: datetime


class Rendered(msgspec.Struct, frozen=True):
    """A mail without its envelope. ``subject`` is one line; ``text`` and ``html`` say the same."""

    subject: str
    text: str
    html: str


class Renderer:
    """Makes mails from the packaged templates, or from those of the same name in the ``overrides`` folder.

    Templates are code: ``overrides`` is for the operator, never for something that a client can write.
    """

    def __init__(self, *, shop: str = "Purveyor", overrides: Path | None = None) -> None:
        packaged = PackageLoader("purveyor.roles.email", "templates")
        self._shop = shop
        self._environment = Environment(
            loader=ChoiceLoader([FileSystemLoader(overrides), packaged]) if overrides else packaged,
            autoescape=select_autoescape(("html",), default=False),
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, kind: str, mail: OrderMail, language: str) -> Rendered:
        """Render a mail in the language for a tag like ``de-AT``; English where there is no such language.

        Raises ``ValueError`` for a kind that is not in ``KINDS`` and for amounts that are no money.
        """
        if kind not in KINDS:
            raise ValueError(f"no mail of kind {kind!r}; there are: {', '.join(KINDS)}")
        code = best(language)
        words = languages()[code]
        view = {**_view(kind, mail, words), "language": code, "shop": self._shop}
        view["automatic"] = words.labels.automatic.format(shop=self._shop)
        text, html = (
            self._environment.get_template(f"{KINDS[kind]}.{form}").render(view) for form in ("txt", "html")
        )
        return Rendered(subject=view["subject"], text=text, html=html)


def _view(kind: str, mail: OrderMail, words: Language) -> dict[str, Any]:
    """Everything that the templates show, as finished strings: they only arrange and (in HTML) escape."""
    texts, labels = words.mail[kind], words.labels
    currency = _one_line(mail.currency)
    name = _one_line(mail.customer)
    return {
        "subject": texts.subject.format(number=mail.order_number),
        "heading": texts.heading,
        "greeting": labels.greeting.format(name=name) if name else labels.greeting_nameless,
        "intro": texts.intro,
        "labels": labels,
        "order": labels.order.format(number=mail.order_number),
        "placed": words.date.format(mail.placed_at),
        "payment": words.payment.get(mail.payment_method) or _one_line(mail.payment_method),
        "lines": [
            {
                "title": _one_line(line.title) or labels.product.format(id=line.product_id),
                "quantity": line.quantity,
                "price": words.money.format(line.price, currency),
                "amount": words.money.format(line.amount, currency),
            }
            for line in mail.lines
        ],
        "total": words.money.format(mail.total, currency),
    }


def _one_line(text: str) -> str:
    """Foreign text on one line, so that a name cannot pretend to be a part of the mail."""
    return " ".join(CONTROLS.sub(" ", text).split())
