"""The mails about orders and accounts."""

import asyncio
import re
from collections import Counter
from email.utils import parsedate_to_datetime

import pytest

from shop import Customer, Shop, exact

KINDS = (
    *("order.created", "order.confirmed", "order.paid", "order.shipped", "order.delivered", "order.cancelled"),
    *("order.refunded", "shop.new_order", "user.registered", "user.email_confirmation_requested"),
    *("user.email_changed", "user.password_reset_requested", "user.password_changed", "user.erased"),
)
LANGUAGES = ("de", "en", "es", "fr")
WORDS = {"en": "order", "de": "Bestellung", "es": "pedido", "fr": "commande"}


def digits(text: str) -> str:
    """An amount without what a language puts between its digits."""
    return re.sub(r"\D", "", text)


@pytest.mark.one_shape
@pytest.mark.parametrize(
    ("language", "used"),
    [("en", "en"), ("de", "de"), ("es", "es"), ("fr", "fr"), ("de-AT", "de"), ("ja", "en")],
)
async def test_a_customer_is_written_to_in_their_language(shop: Shop, language: str, used: str) -> None:
    customer = await shop.customer(name="Zoë Müller", language=language)
    order = exact(await shop.place(customer, [(1, 2), (4, 1)]))
    (mail,) = await shop.mails(customer.email)
    assert str(order["order_number"]) in mail.subject
    assert WORDS[used].lower() in mail.subject.lower()
    for body in (mail.text, mail.html):
        assert "Zoë Müller" in body
        assert str(order["order_number"]) in body
        amounts = {digits(amount) for amount in re.findall(r"\d[\d., \u00a0\u202f]*[.,]\d\d", body)}
        assert digits(f"{order['total_amount']:.2f}") in amounts
        for line in order["items"]:
            assert digits(f"{line['total_amt']:.2f}") in amounts
    assert f'lang="{used}' in mail.html


@pytest.mark.events
async def test_a_mail_is_in_order(shop: Shop, ada: Customer) -> None:
    await shop.place(ada)
    (mail,) = await shop.mails(ada.email)
    assert re.fullmatch(r"<[^@<>\s]+@[^@<>\s]+>", mail.message_id)
    assert parsedate_to_datetime(mail.message["Date"]).tzinfo is not None
    assert mail.message["From"].addresses
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert max(len(line) for line in mail.content.split(b"\r\n")) <= 998
    assert b"\n" not in mail.content.replace(b"\r\n", b"")


async def test_the_language_may_be_chosen_later(shop: Shop, ada: Customer) -> None:
    await shop.change_profile(ada, language="es")
    await shop.place(await shop.logged_in(ada))
    (mail,) = await shop.mails(ada.email)
    assert WORDS["es"] in mail.subject


@pytest.mark.one_shape
@pytest.mark.parametrize(
    "name",
    [
        '<b onclick="x()">Tom</b> & Co',
        'Quote " \\ Back',
        "{{ 7 * 7 }} {% raw %}",
        "Ünï 漢字 🎩",
        "%s %(name)s {0}",
    ],
)
async def test_a_name_is_only_text(shop: Shop, name: str) -> None:
    customer = await shop.customer(name=name)
    await shop.place(customer)
    (mail,) = await shop.mails(customer.email)
    assert name in mail.text
    assert "<b onclick" not in mail.html
    assert "49" not in re.sub(r"\d{5,}|\d+[.,:]\d+", "", mail.subject)
    assert len(mail.message["To"].addresses) == 1


@pytest.mark.events
@pytest.mark.pooled
async def test_each_of_fifty_orders_at_once_is_confirmed_once(shop: Shop, ada: Customer) -> None:
    answers = await asyncio.gather(*(shop.placed(ada, [(1 + n, 1)]) for n in range(50)))
    numbers = [answer.json()["order_number"] for answer in answers]
    assert len(set(numbers)) == 50
    mails = await shop.mails(ada.email, at_least=50)
    told = Counter(number for mail in mails for number in numbers if str(number) in mail.subject)
    assert told == Counter(numbers)
    assert len({mail.message_id for mail in mails}) == len(mails) == 50


@pytest.mark.events
async def test_a_request_can_be_followed_to_its_mail(shop: Shop, ada: Customer) -> None:
    request_id = f"checkout-{ada.id}"
    order = await shop.place(ada, key="k-1", headers={"x-request-id": request_id})
    (mail,) = await shop.mails(ada.email)
    assert mail.message["X-Request-ID"] == request_id
    by_number = await shop.trace(order.json()["order_number"])
    for fact in (request_id, "k-1", "order.created", mail.message_id, "sent", order.json()["id"]):
        assert fact in by_number
    assert await shop.trace(order.json()["id"]) == by_number


async def test_the_mailbox_shows_what_was_sent(shop: Shop, ada: Customer) -> None:
    await shop.place(ada)
    (mail,) = await shop.mails(ada.email)
    page, listing = await shop.raw("GET", "/mailbox"), await shop.raw("GET", "/mailbox/messages")
    if not shop.shows_mailbox:
        assert (page.status_code, listing.status_code) == (404, 404)
        return
    assert page.headers["content-type"].startswith("text/html")
    (shown,) = [
        message for message in listing.json() if message["to"] == ada.email and message["subject"] == mail.subject
    ]
    assert set(shown) == {"id", "to", "subject", "text", "html", "sent_at"}
    assert shown["text"] == mail.text


@pytest.mark.one_shape
async def test_the_mailbox_shows_every_kind_of_mail_in_every_language(shop: Shop) -> None:
    answer = await shop.raw("GET", "/mailbox/previews")
    if not shop.shows_mailbox:
        assert answer.status_code == 404
        return
    previews = answer.json()
    assert len(previews) == len(KINDS) * len(LANGUAGES)
    assert {(preview["kind"], preview["language"]) for preview in previews} == {
        (kind, language) for kind in KINDS for language in LANGUAGES
    }
    for preview in previews:
        assert set(preview) == {"kind", "language", "subject", "text", "html"}
        assert f'lang="{preview["language"]}"' in preview["html"]


@pytest.mark.parametrize("confirmed", [True, False])
@pytest.mark.events
async def test_only_a_confirmed_customer_reads_the_whole_order(shop: Shop, *, confirmed: bool) -> None:
    customer = await shop.customer()
    if confirmed:
        token = await shop.mailed_token(customer.email)
        assert (await shop.raw("POST", "/email/confirm", json={"token": token})).status_code == 204
    address = {
        "recipient": "Zoë Müller",
        "line1": "Torstraße 12",
        "city": "Berlin",
        "postal_code": "10119",
        "country": "DE",
    }
    order = exact(await shop.place(customer, [(1, 2)], shipping_address=address, note="Ring twice"))
    (mail,) = await shop.mails(customer.email)
    assert order["items"][0]["title"] in mail.text
    for typed in ("Zoë Müller", "Torstraße 12", "10119 Berlin", "Germany", "Ring twice"):
        assert (typed in mail.text) == confirmed


@pytest.mark.events
async def test_the_next_mail_is_for_the_profile_of_the_moment(shop: Shop, staff: Customer) -> None:
    """The access token still has the old name and language."""
    customer = await shop.customer(name="Ada Lovelace", language="de")
    first = exact(await shop.place(customer))
    assert (await shop.change_profile(customer, language="fr", name="Ada King")).status_code == 200
    assert (await shop.change(staff, first["id"], payment_status="paid")).status_code == 200
    second = exact(await shop.place(customer))
    mails = await shop.mails(customer.email, at_least=3)
    told = {mail.subject: mail for mail in mails}
    assert set(told) == {
        f"Wir haben Ihre Bestellung {first['order_number']} erhalten",
        f"Nous avons bien reçu le paiement de votre commande {first['order_number']}",
        f"Nous avons bien reçu votre commande {second['order_number']}",
    }
    for subject, mail in told.items():
        assert ("Ada King" in mail.text) == subject.startswith("Nous")


@pytest.mark.events
async def test_a_customer_hears_of_a_new_password_and_of_the_end_of_the_account(shop: Shop) -> None:
    customer = await shop.customer(language="es")
    assert (await shop.change_password(customer, customer.password, "another horse 2")).status_code == 204
    await shop.mails(customer.email, at_least=2, account=True)
    assert (await shop.raw("DELETE", f"/user/{customer.id}", customer)).status_code == 204
    mails = await shop.mails(customer.email, at_least=3, account=True)
    subjects = [mail.subject for mail in mails]
    assert "Su contraseña ha cambiado" in subjects
    assert "Su cuenta se ha eliminado" in subjects


@pytest.mark.events
@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_customer_hears_of_every_step_of_an_order_once(shop: Shop, staff: Customer, language: str) -> None:
    customer = await shop.customer(name="Zoë Müller", language=language)
    order = exact(await shop.place(customer, [(1, 2)]))
    for status in ("confirmed", "shipped", "delivered"):
        await moved(shop, staff, order["id"], status)
    mails = await shop.mails(customer.email, at_least=4)
    assert len(mails) == 4
    assert len({mail.subject for mail in mails}) == 4
    for mail in mails:
        assert str(order["order_number"]) in mail.subject
        assert digits(f"{order['total_amount']:.2f}") in digits(mail.text)
        assert WORDS[language].lower() in mail.subject.lower()
        assert f'lang="{language}"' in mail.html


async def moved(shop: Shop, staff: Customer, order_id: str, status: str) -> None:
    """Have staff bring an order to a status."""
    tag = (await shop.get(staff, order_id)).headers["etag"]
    answer = await shop.raw(
        "PATCH", f"/api/orders/{order_id}", staff, json={"status": status}, headers={"if-match": tag}
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.events
async def test_a_mail_to_an_unconfirmed_address_repeats_no_text_of_the_customer(shop: Shop, ada: Customer) -> None:
    order = exact(await shop.place(ada))
    reason = "<b>Bought</b> {{ 7 * 7 }} twice"
    answer = await shop.raw("POST", f"/api/orders/{order['id']}/cancel", ada, json={"reason": reason})
    assert answer.status_code == 200, answer.text
    mails = await shop.mails(ada.email, at_least=2)
    (mail,) = [mail for mail in mails if "cancelled" in mail.subject]
    assert str(order["order_number"]) in mail.subject
    assert str(order["order_number"]) in mail.text
    assert "twice" not in mail.text + mail.html


@pytest.mark.events
async def test_a_new_customer_is_welcomed_once(shop: Shop) -> None:
    customer = await shop.customer(name="Zoë Müller", language="fr-CA")
    (mail,) = await shop.mails(customer.email, account=True)
    assert mail.subject.startswith("Bienvenue")
    assert "Zoë Müller" in mail.text
    assert customer.email in mail.text


@pytest.mark.events
async def test_who_forgot_their_password_gets_a_token_that_works_once(shop: Shop, ada: Customer) -> None:
    await shop.mails(ada.email, account=True)
    answer = await shop.raw("POST", "/password/forgot", json={"email": ada.email})
    assert answer.status_code == 202, answer.text
    mails = await shop.mails(ada.email, account=True, at_least=2)
    (mail,) = [mail for mail in mails if "password" in mail.subject]
    (token,) = [line for line in mail.text.splitlines() if re.fullmatch(r"[\w-]{20,}", line)]
    assert token in mail.html
    body = {"token": token, "password": "another long password"}
    assert (await shop.raw("POST", "/password/reset", json=body)).status_code == 204
    assert (await shop.login(ada.email, "another long password")).status_code == 200
    assert (await shop.raw("POST", "/password/reset", json=body)).status_code in (400, 401, 404, 409, 422)
