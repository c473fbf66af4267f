"""Mails as people read them: what they say, in which language, and that nothing typed becomes markup."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from purveyor.roles.email.language import best
from purveyor.roles.email.rendering import CONTROLS, Line, OrderMail, Renderer

CODES = ("de", "en", "es", "fr")
RENDERER = Renderer()


def order(**changes: object) -> OrderMail:
    mail = OrderMail(
        order_number=10482,
        customer="Zoë Müller",
        total=Decimal("1294.48"),
        currency="EUR",
        lines=(
            Line(
                product_id=3,
                title="Stovetop kettle",
                quantity=2,
                price=Decimal("29.99"),
                amount=Decimal("59.98"),
            ),
            Line(product_id=17, quantity=1, price=Decimal("1234.5"), amount=Decimal("1234.5")),
        ),
        payment_method="card",
        placed_at=datetime(2026, 11, 22, 17, 48, tzinfo=UTC),
    )
    return msgspec.structs.replace(mail, **changes)


class Page(HTMLParser):
    """What a reader of the HTML meets: its words, its tags, and every attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words = ""
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize(
    ("code", "subject", "expected"),
    [
        (
            "en",
            "We have received your order 10482",
            [
                "Hello Zoë Müller,",
                "Stovetop kettle",
                "2 \u00d7 €29.99",
                "€59.98",
                "Product 17",
                "€1,294.48",
                "Card",
            ],
        ),
        (
            "de",
            "Wir haben Ihre Bestellung 10482 erhalten",
            [
                "Guten Tag Zoë Müller,",
                "2 \u00d7 29,99\xa0€",
                "59,98\xa0€",
                "Produkt 17",
                "1.294,48\xa0€",
                "Kartenzahlung",
            ],
        ),
        (
            "es",
            "Hemos recibido su pedido 10482",
            [
                "Hola, Zoë Müller:",
                "2 \u00d7 29,99\xa0€",
                "59,98\xa0€",
                "Producto 17",
                "1294,48\xa0€",
                "Tarjeta",
            ],
        ),
        (
            "fr",
            "Nous avons bien reçu votre commande 10482",
            [
                "Bonjour Zoë Müller,",
                "2 \u00d7 29,99\xa0€",
                "59,98\xa0€",
                "Produit 17",
                "1\xa0294,48\xa0€",
                "carte bancaire",
            ],
        ),
    ],
)
def test_text_and_html_greet_and_list_the_lines_and_the_total(
    code: str, subject: str, expected: list[str]
) -> None:
    mail = RENDERER.render("order.created", order(), code)
    page = Page(mail.html)
    assert mail.subject == subject
    for words in [*expected, "10482"]:
        assert words in mail.text
        assert words in page.words
    assert ("lang", code) in page.attributes


def test_the_text_as_a_whole() -> None:
    assert RENDERER.render("order.created", order(), "en").text == (
        "Hello Zoë Müller,\n\n"
        "We have received your order and are getting it ready.\n\n"
        "Order 10482\nPlaced: 22 November 2026, 17:48 UTC\nPayment: Card\n\n"
        "- Stovetop kettle\n  2 \u00d7 €29.99 = €59.98\n"
        "- Product 17\n  1 \u00d7 €1,234.50 = €1,234.50\n\n"
        "Total: €1,294.48\n\n"
        "Thank you for your order.\n\n"
        "-- \nPurveyor\n"
        "This message was sent automatically because an order was placed at Purveyor with this address."
    )


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("de-AT", "de"),
        ("DE", "de"),
        ("fr_CA", "fr"),
        ("es", "es"),
        ("", "en"),
        ("tlh", "en"),
        ("../de", "en"),
    ],
)
def test_the_language_is_the_nearest_one_that_there_is(wanted: str, code: str) -> None:
    assert best(wanted) == code
    assert RENDERER.render("order.created", order(), wanted) == RENDERER.render("order.created", order(), code)


def test_an_unknown_kind_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"order\.lost.*order\.created"):
        RENDERER.render("order.lost", order(), "en")


def test_an_unknown_payment_method_is_shown_as_it_came() -> None:
    assert "Payment: barter" in RENDERER.render("order.created", order(payment_method="barter"), "en").text


def test_without_a_name_the_greeting_needs_none() -> None:
    assert RENDERER.render("order.created", order(customer=" \t"), "de").text.startswith("Guten Tag,\n")


@pytest.mark.parametrize(
    "typed",
    [
        "{{ 7*7 }}",
        "{% for x in y %}",
        "{0.__class__}",
        "{name}",
        "<script>alert(1)</script>",
        '"><img src=x>',
        "%s",
    ],
)
def test_what_a_customer_typed_is_shown_as_typed(typed: str) -> None:
    plain = Page(RENDERER.render("order.created", order(), "en").html)
    line = Line(product_id=1, title=typed, quantity=1, price=Decimal(1), amount=Decimal(1))
    mail = RENDERER.render(
        "order.created",
        order(customer=typed, payment_method=typed, lines=(line, *order().lines[1:])),
        "en",
    )
    page = Page(mail.html)
    assert f"Hello {typed},\n" in mail.text
    assert f"- {typed}\n" in mail.text
    assert page.words.count(typed) == 3
    assert page.tags == plain.tags


@given(
    name=st.text(max_size=80),
    title=st.text(max_size=80),
    method=st.text(max_size=20),
    code=st.sampled_from(CODES),
)
@settings(max_examples=100, deadline=None)
def test_no_name_or_title_adds_a_line_or_a_tag(name: str, title: str, method: str, code: str) -> None:
    line = Line(product_id=1, title=title, quantity=1, price=Decimal(1), amount=Decimal(1))
    usual = RENDERER.render("order.created", order(lines=(line,)), code)
    mail = RENDERER.render("order.created", order(customer=name, payment_method=method, lines=(line,)), code)
    assert mail.subject == usual.subject
    assert len(mail.text.splitlines()) == len(usual.text.splitlines())
    assert not CONTROLS.search(mail.text.replace("\n", ""))
    assert Page(mail.html).tags == Page(usual.html).tags


def test_the_html_fetches_nothing_and_runs_nothing() -> None:
    html = RENDERER.render("order.created", order(), "en").html
    page = Page(html)
    assert not {"script", "img", "link", "iframe", "object", "form", "base"} & set(page.tags)
    assert not {"src", "href", "srcset", "background", "action"} & {name for name, _ in page.attributes}
    assert not re.search(r"url\(|@import|https?:", html)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_shop_signs_with_its_own_name() -> None:
    mail = Renderer(shop="Smith & Daughters").render("order.created", order(), "en")
    assert "\nSmith & Daughters\n" in mail.text
    assert "Smith &amp; Daughters" in mail.html
    assert "Purveyor" not in mail.text + mail.html


def test_a_template_of_the_same_name_in_the_overrides_folder_wins(tmp_path: Path) -> None:
    (tmp_path / "order_created.txt").write_text("{{ greeting }} {{ total }}", encoding="utf-8")
    mail = Renderer(overrides=tmp_path).render("order.created", order(customer="<Zoë>"), "en")
    assert mail.text == "Hello <Zoë>, €1,294.48"
    assert mail.html == RENDERER.render("order.created", order(customer="<Zoë>"), "en").html


def test_a_template_that_asks_for_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "order_created.html").write_text("{{ discount }}", encoding="utf-8")
    with pytest.raises(UndefinedError):
        Renderer(overrides=tmp_path).render("order.created", order(), "en")
