"""Mails as people read them: what they say, in which language, and that nothing typed becomes markup."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purveyor.kit.text import _COUNTRIES
from purveyor.roles.auth.contract import Address
from purveyor.roles.email.countries import country_name
from purveyor.roles.email.mail_models import (
    CONTROLS,
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
    address_lines,
)
from purveyor.roles.email.rendering import Rendered, Renderer
from purveyor.roles.email.template_check import SAMPLES

CODES = ("de", "en", "es", "fr")
RENDERER = Renderer()
LINKING = Renderer(Shop(url="https://shop.example"))
AT = datetime(2026, 11, 22, 17, 48, tzinfo=UTC)
LINK = "https://shop.example/order/signed"
TO_PEOPLE = [kind for kind in KINDS if kind != NEW_ORDER_NOTICE]
TYPED_IN: dict[type[Letter], tuple[str, ...]] = {
    OrderMail: ("customer", "payment_method", "payment_status", "reason", "currency", "note"),
    NoticeMail: ("payment_method", "currency"),
    WelcomeMail: ("customer", "address"),
    ConfirmationMail: ("customer", "address"),
    EmailChangedMail: ("customer",),
    ResetMail: ("customer", "token"),
    PasswordChangedMail: ("customer",),
    ErasedMail: ("customer",),
}
"""The texts of others that each mail shows."""
FULL = Shop(
    name="Nordlicht",
    url="https://shop.example",
    contact="help@shop.example",
    legal_url="https://shop.example/legal",
    logo_url="https://shop.example/logo.png",
    bank_details=("Nordlicht GmbH", "IBAN DE02 1203 0000 0000 2020 51"),
    zone=ZoneInfo("Europe/Berlin"),
)
ADDRESS = Address(recipient="Ada", line1="Torstraße 12", city="Berlin", postal_code="10119", country="DE")
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
            Line(
                product_id=3,
                title="Pour-over kettle",
                quantity=2,
                price=Decimal("29.99"),
                amount=Decimal("59.98"),
            ),
            Line(product_id=17, quantity=1, price=Decimal("1234.5"), amount=Decimal("1234.5")),
        ),
        payment_method="card",
        payment_status="paid",
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
    makers = {OrderMail: order, ResetMail: reset, WelcomeMail: welcome}
    if (maker := makers.get(KINDS[kind])) is not None:
        return maker(**changes)
    no_link = {"link": ""} if KINDS[kind] is NoticeMail else {}
    return msgspec.structs.replace(SAMPLES[kind], at=AT, **no_link, **changes)


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
        assert ("Zoë Müller" in body) == (kind in TO_PEOPLE)
        assert "2026" in body
        assert not re.search(r"\{\w*\}|\{\{|\{%|Undefined|None", body)
    if kind.startswith("order.") or kind == NEW_ORDER_NOTICE:
        assert "10482" in mail.subject
        assert mail.text.count("10482") == 1
        money = RENDERER.languages[code].money
        for amount in ("59.98", "29.99", "1234.50", "1294.48"):
            shown = money.format(Decimal(amount), "EUR")
            assert shown in mail.text
            assert shown in page.words
        assert amounts(mail.text) == amounts(page.words)
    elif kind not in ("user.erased", "user.email_changed"):
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
            [
                "Hello Zoë Müller,",
                "Pour-over kettle",
                "Product 17",
                "Paid",
                "2 \u00d7 €29.99",
                "€1,294.48",
                "Card",
            ],
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
        "Order 10482\nCancelled on: 22 November 2026, 17:48 UTC\n"
        "Payment method: Card\nPayment status: Paid\nReason: Bought twice\n\n"
        "- Pour-over kettle\n  2 \u00d7 €29.99 = €59.98\n"
        "- Product 17\n  1 \u00d7 €1,234.50 = €1,234.50\n\n"
        "Total: €1,294.48\n\n"
        "We hope to see you again at Purveyor.\n\n"
        "-- \nPurveyor\n"
        "You received this email because an order was placed at Purveyor with this email address.\n"
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
        "You received this email because there is an account at Purveyor with this email address.\n"
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
    typed_in = TYPED_IN[KINDS[kind]]
    usual = LINKING.render(kind, letter(kind, **dict.fromkeys(typed_in, "x")), "en")
    mail = LINKING.render(kind, letter(kind, **dict.fromkeys(typed_in, typed)), "en")
    page = Page(mail.html)
    assert ("customer" not in typed_in) or f"Hello {typed},\n" in mail.text
    assert page.words.count(typed) >= len(typed_in)
    assert page.tags == Page(usual.html).tags
    assert mail.subject == usual.subject


@given(
    name=st.text(max_size=80),
    other=st.text(min_size=1, max_size=80).filter(lambda text: CONTROLS.sub(" ", text).strip()),
    kind=st.sampled_from(TO_PEOPLE),
    code=st.sampled_from(CODES),
)
@settings(max_examples=150, deadline=None)
def test_nothing_typed_adds_a_line_or_a_tag(name: str, other: str, kind: str, code: str) -> None:
    field = TYPED_IN[KINDS[kind]][-1]
    usual = LINKING.render(kind, letter(kind, **{field: "x"}), code)
    mail = LINKING.render(kind, letter(kind, **{"customer": name, field: other}), code)
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


@all_mails
def test_every_mail_shows_what_is_known_of_the_shop(kind: str, code: str) -> None:
    mail = Renderer(FULL).render(kind, letter(kind), code)
    page = Page(mail.html)
    assert ("src", "https://shop.example/logo.png") in page.attributes
    assert ("alt", "Nordlicht") in page.attributes
    assert "https://shop.example/legal" in page.links
    assert ("mailto:help@shop.example" in page.links) == (kind in TO_PEOPLE)
    assert ("help@shop.example" in mail.text) == (kind in TO_PEOPLE)
    assert "18:48 CET" in mail.text


@pytest.mark.parametrize("code", CODES)
def test_an_order_mail_shows_address_note_link_and_how_to_pay(code: str) -> None:
    unpaid = order(
        payment_method="bank_transfer",
        payment_status="unpaid",
        is_payable=True,
        address=ADDRESS,
        note="Ring twice",
        link=LINK,
    )
    mail = Renderer(FULL).render("order.created", unpaid, code)
    page = Page(mail.html)
    assert LINK in page.links
    assert LINK in mail.text
    for shown in ("Torstraße 12", "10119 Berlin", "Ring twice", *FULL.bank_details):
        assert shown in mail.text
        assert shown in page.words


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"payment_method": "bank_transfer", "is_payable": True}, "IBAN"),
        ({"payment_method": "bank_transfer", "is_payable": False}, ""),
        ({"payment_method": "cash_on_delivery", "is_payable": True}, "You pay €1,294.48 on delivery."),
        ({"payment_method": "card", "is_payable": True}, ""),
    ],
)
def test_how_to_pay_is_shown_while_there_is_something_to_pay(changes: dict[str, object], shown: str) -> None:
    text = Renderer(FULL).render("order.created", order(**changes), "en").text
    assert shown in text
    assert ("How to pay" in text) == bool(shown)


def test_a_mail_without_free_text_shows_only_the_name() -> None:
    mail = order(address=ADDRESS, note="Call +1 900", reason="evil.test")
    text = RENDERER.render("order.cancelled", mail.without_free_text(), "en").text
    assert "Zoë Müller" in text
    assert not [word for word in ("Torstraße", "Ada", "+1 900", "evil.test") if word in text]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, "10119 Berlin"),
        ({"country": "US", "city": "Portland", "region": "OR", "postal_code": "97201"}, "Portland, OR 97201"),
        ({"country": "GB", "city": "Leeds", "postal_code": "LS1 1UR"}, "Leeds, LS1 1UR"),
        ({"country": "IT", "city": "Roma", "region": "RM", "postal_code": "00100"}, "00100 Roma, RM"),
    ],
)
def test_an_address_is_written_as_usual_in_its_country(changes: dict[str, str], place: str) -> None:
    assert address_lines(msgspec.structs.replace(ADDRESS, **changes), "en")[2] == place


@pytest.mark.parametrize(
    ("country", "language", "name"),
    [
        ("DE", "en", "Germany"),
        ("DE", "de", "Deutschland"),
        ("DE", "es", "Alemania"),
        ("DE", "fr", "Allemagne"),
        ("US", "de", "Vereinigte Staaten"),
        ("gb", "en", "United Kingdom"),
        ("GB", "fr", "Royaume-Uni"),
        ("Narnia", "de", "Narnia"),
        ("DE", "xx", "Germany"),
    ],
)
def test_country_of_an_address_is_named_in_the_language_of_the_mail(
    country: str, language: str, name: str
) -> None:
    assert address_lines(msgspec.structs.replace(ADDRESS, country=country), language)[-1] == name


@pytest.mark.parametrize("code", CODES)
def test_every_country_has_a_name_in_the_language_of_a_mail(code: str) -> None:
    countries = _COUNTRIES.split()
    names = {country_name(country, code) for country in countries}
    assert len(names) == len(countries)
    assert not names & set(countries)
    mail = order(address=ADDRESS)
    rendered = RENDERER.render("order.created", mail, code)
    for form in (rendered.text, rendered.html):
        assert country_name("DE", code) in form


def test_a_mail_to_nobody_in_particular_is_in_the_language_of_the_shop() -> None:
    assert Renderer(Shop(language="de")).render(NEW_ORDER_NOTICE, letter(NEW_ORDER_NOTICE), "").subject == (
        "Neue Bestellung 10482"
    )
