"""Mails as people read them: what they say, in which language, and that nothing typed becomes markup."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purveyor.roles.email.mail_models import (
    CONTROLS,
    KINDS,
    Letter,
    Line,
    OrderMail,
    ResetMail,
    Shop,
    WelcomeMail,
)
from purveyor.roles.email.rendering import Rendered, Renderer
from purveyor.roles.email.template_check import SAMPLES

CODES = ("de", "en", "es", "fr")
RENDERER = Renderer()
LINKING = Renderer(Shop(url="https://shop.example"))
AT = datetime(2026, 11, 22, 17, 48, tzinfo=UTC)
ORDER_KINDS = [kind for kind, letter in KINDS.items() if letter is OrderMail]
HOSTILE = [
    "{{ 7*7 }}",
    "{% for x in y %}",
    "{0.__class__}",
    "{name}",
    "<script>alert(1)</script>",
    '"><img src=x>',
    "%s",
]

all_mails = pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind in KINDS for code in CODES])


def order(**changes: object) -> OrderMail:
    mail = OrderMail(
        order_number=10482,
        customer="Zoë Müller",
        total=Decimal("1294.48"),
        currency="EUR",
        lines=(
            Line(product_id=3, quantity=2, price=Decimal("29.99"), amount=Decimal("59.98")),
            Line(product_id=17, quantity=1, price=Decimal("1234.5"), amount=Decimal("1234.5")),
        ),
        payment_method="card",
        at=AT,
    )
    return msgspec.structs.replace(mail, **changes)


def reset(**changes: object) -> ResetMail:
    mail = ResetMail(customer="Zoë Müller", at=AT, token="a-t0ken_of-43", expires_at=AT.replace(hour=18))
    return msgspec.structs.replace(mail, **changes)


def welcome(**changes: object) -> WelcomeMail:
    mail = WelcomeMail(customer="Zoë Müller", at=AT, address="zoe@example.com")
    return msgspec.structs.replace(mail, **changes)


def letter(kind: str, **changes: object) -> Letter:
    return {OrderMail: order, ResetMail: reset, WelcomeMail: welcome}[KINDS[kind]](**changes)


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

    @property
    def links(self) -> list[str | None]:
        return [value for name, value in self.attributes if name == "href"]


def amounts(text: str) -> set[str]:
    return set(re.findall(r"\d[\d.,\xa0]*[.,]\d\d(?!\d)", text))


@all_mails
def test_every_mail_tells_the_same_in_text_and_html(kind: str, code: str) -> None:
    mail = LINKING.render(kind, letter(kind), code)
    page = Page(mail.html)
    assert ("lang", code) in page.attributes
    assert mail.subject
    assert not CONTROLS.search(mail.subject)
    assert "=?" not in mail.subject
    for body in (mail.text, page.words):
        assert "Zoë Müller" in body
        assert "2026" in body
        assert not re.search(r"\{\w*\}|\{\{|\{%|Undefined|None", body)
    if KINDS[kind] is OrderMail:
        assert "10482" in mail.subject
        assert mail.text.count("10482") == 1
        money = RENDERER.languages[code].money
        for amount in ("59.98", "29.99", "1234.50", "1294.48"):
            shown = money.format(Decimal(amount), "EUR")
            assert shown in mail.text
            assert shown in page.words
        assert amounts(mail.text) == amounts(page.words)
    else:
        assert mail.text.count("https://shop.example/") == 1
        assert len(page.links) == 1


@pytest.mark.parametrize("code", CODES)
def test_every_kind_has_sentences_of_its_own(code: str) -> None:
    mails = [RENDERER.render(kind, letter(kind), code) for kind in KINDS]
    assert len({mail.subject for mail in mails}) == len({mail.text for mail in mails}) == len(KINDS)


@pytest.mark.parametrize(
    ("code", "subject", "expected"),
    [
        (
            "en",
            "We have received your order 10482",
            ["Hello Zoë Müller,", "Product 3", "2 \u00d7 €29.99", "Product 17", "€1,294.48", "Card"],
        ),
        (
            "de",
            "Wir haben Ihre Bestellung 10482 erhalten",
            ["Guten Tag Zoë Müller,", "2 \u00d7 29,99\xa0€", "Produkt 17", "1.294,48\xa0€", "Kartenzahlung"],
        ),
        (
            "es",
            "Hemos recibido su pedido 10482",
            ["Hola, Zoë Müller:", "2 \u00d7 29,99\xa0€", "Producto 17", "1294,48\xa0€", "Tarjeta"],
        ),
        (
            "fr",
            "Nous avons bien reçu votre commande 10482",
            ["Bonjour Zoë Müller,", "2 \u00d7 29,99\xa0€", "Produit 17", "1\xa0294,48\xa0€", "Carte bancaire"],
        ),
    ],
)
def test_an_order_in_each_language(code: str, subject: str, expected: list[str]) -> None:
    mail = RENDERER.render("order.created", order(), code)
    page = Page(mail.html)
    assert mail.subject == subject
    for words in expected:
        assert words in mail.text
        assert words in page.words


def test_the_text_of_an_order_as_a_whole() -> None:
    assert RENDERER.render("order.cancelled", order(reason="Bought twice"), "en").text == (
        "Hello Zoë Müller,\n\n"
        "Your order has been cancelled and will not be shipped.\n\n"
        "Order 10482\nCancelled on: 22 November 2026, 17:48 UTC\nPayment method: Card\nReason: Bought twice\n\n"
        "- Product 3\n  2 \u00d7 €29.99 = €59.98\n"
        "- Product 17\n  1 \u00d7 €1,234.50 = €1,234.50\n\n"
        "Total: €1,294.48\n\n"
        "If you have any questions, please contact us.\n\n"
        "-- \nPurveyor\n"
        "You received this email because an order was placed at Purveyor with this email address."
    )


def test_the_text_of_a_reset_as_a_whole() -> None:
    mail = LINKING.render("user.password_reset_requested", reset(), "en")
    assert mail.text == (
        "Hello Zoë Müller,\n\n"
        "We received a request to reset the password of your account at Purveyor.\n\n"
        "Choose a new password:\nhttps://shop.example/#/reset?token=a-t0ken_of-43\n\n"
        "Or enter this code:\n\na-t0ken_of-43\n\n"
        "The code can be used once and expires on 22 November 2026, 18:48 UTC.\n"
        "Requested on: 22 November 2026, 17:48 UTC\n\n"
        "If you did not request this, you can ignore this email. Your password will not change.\n\n"
        "-- \nPurveyor\n"
        "You received this email because there is an account at Purveyor with this email address."
    )


@pytest.mark.parametrize("code", CODES)
def test_without_a_public_url_there_is_no_link_and_still_the_token(code: str) -> None:
    mail = RENDERER.render("user.password_reset_requested", reset(), code)
    assert "\na-t0ken_of-43\n" in mail.text
    assert "http" not in mail.text
    assert Page(mail.html).links == []
    assert Page(RENDERER.render("user.registered", welcome(), code).html).links == []


def test_a_token_is_escaped_in_the_link() -> None:
    mail = LINKING.render("user.password_reset_requested", reset(token='a&b="c/é'), "en")
    assert Page(mail.html).links == ["https://shop.example/#/reset?token=a%26b%3D%22c%2F%C3%A9"]
    assert Page(mail.html).words.count('a&b="c/é') == 1


def test_a_cancellation_without_a_reason_has_no_line_for_it() -> None:
    mail = RENDERER.render("order.cancelled", order(reason=" \n"), "en")
    assert "Reason" not in mail.text + mail.html


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
    assert RENDERER.render("order.created", order(), wanted) == RENDERER.render("order.created", order(), code)


def test_an_unknown_kind_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"order\.lost.*order\.created"):
        RENDERER.render("order.lost", order(), "en")
    with pytest.raises(ValueError, match=r"user\.registered is not made of a OrderMail"):
        RENDERER.render("user.registered", order(), "en")


def test_an_unknown_payment_method_is_shown_as_it_came() -> None:
    assert "Payment method: barter" in RENDERER.render("order.created", order(payment_method="barter"), "en").text


@all_mails
def test_without_a_name_the_greeting_needs_none(kind: str, code: str) -> None:
    mail = RENDERER.render(kind, letter(kind, customer=" \t"), code)
    assert mail.text.startswith(f"{RENDERER.languages[code].labels.greeting_nameless}\n")


def test_there_is_a_sample_of_every_kind() -> None:
    assert list(SAMPLES) == list(KINDS)
    assert [type(sample) for sample in SAMPLES.values()] == list(KINDS.values())


@pytest.mark.parametrize("typed", HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
def test_what_somebody_typed_is_shown_as_typed(kind: str, typed: str) -> None:
    fields = {
        OrderMail: ("customer", "payment_method", "reason", "currency"),
        WelcomeMail: ("customer", "address"),
    }
    typed_in = fields.get(KINDS[kind], ("customer", "token"))
    usual = LINKING.render(kind, letter(kind, **dict.fromkeys(typed_in, "x")), "en")
    mail = LINKING.render(kind, letter(kind, **dict.fromkeys(typed_in, typed)), "en")
    page = Page(mail.html)
    assert f"Hello {typed},\n" in mail.text
    assert page.words.count(typed) >= len(typed_in)
    assert page.tags == Page(usual.html).tags
    assert mail.subject == usual.subject


@given(
    name=st.text(max_size=80),
    other=st.text(min_size=1, max_size=80).filter(lambda text: CONTROLS.sub(" ", text).strip()),
    kind=st.sampled_from(list(KINDS)),
    code=st.sampled_from(CODES),
)
@settings(max_examples=150, deadline=None)
def test_nothing_typed_adds_a_line_or_a_tag(name: str, other: str, kind: str, code: str) -> None:
    field = {OrderMail: "reason", WelcomeMail: "address", ResetMail: "token"}[KINDS[kind]]
    usual = LINKING.render(kind, letter(kind, **{field: "x"}), code)
    mail = LINKING.render(kind, letter(kind, customer=name, **{field: other}), code)
    assert mail.subject == usual.subject
    assert len(mail.text.splitlines()) == len(usual.text.splitlines())
    assert not CONTROLS.search(mail.text.replace("\n", ""))
    assert Page(mail.html).tags == Page(usual.html).tags


@all_mails
def test_the_html_fetches_nothing_and_runs_nothing(kind: str, code: str) -> None:
    html = RENDERER.render(kind, letter(kind), code).html
    page = Page(html)
    assert not {"script", "img", "link", "iframe", "object", "form", "base"} & set(page.tags)
    assert not {"src", "srcset", "background", "action"} & {name for name, _ in page.attributes}
    assert not re.search(r"url\(|@import|https?:", html)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_shop_signs_with_its_own_name() -> None:
    for kind in KINDS:
        mail: Rendered = Renderer(Shop(name="Smith & Daughters")).render(kind, letter(kind), "en")
        assert "\nSmith & Daughters\n" in mail.text
        assert "Smith &amp; Daughters" in mail.html
        assert "Purveyor" not in mail.subject + mail.text + mail.html
