"""The mail that confirms an order."""

import asyncio
import re
from collections import Counter
from email.utils import parsedate_to_datetime

import pytest

from shop import Customer, Shop, exact

SETTLE_S = 1.5
"""Longer than every poll of a relay, a consumer and a sender: a mail that is doubled has come by then."""

WORDS = {"en": "order", "de": "Bestellung", "es": "pedido", "fr": "commande"}


def digits(text: str) -> str:
    """An amount without what a language puts between its digits."""
    return re.sub(r"\D", "", text)


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


async def test_each_of_fifty_orders_at_once_is_confirmed_once(shop: Shop, ada: Customer) -> None:
    answers = await asyncio.gather(*(shop.place(ada, [(1 + n, 1)]) for n in range(50)))
    numbers = [answer.json()["order_number"] for answer in answers]
    assert len(set(numbers)) == 50
    await shop.mails(ada.email, at_least=50)
    await asyncio.sleep(SETTLE_S)
    mails = await shop.mails(ada.email, at_least=50)
    told = Counter(number for mail in mails for number in numbers if str(number) in mail.subject)
    assert told == Counter(numbers)
    assert len({mail.message_id for mail in mails}) == len(mails) == 50


async def test_a_request_can_be_followed_to_its_mail(shop: Shop, ada: Customer) -> None:
    request_id = f"checkout-{ada.id}"
    order = await shop.place(ada, key="k-1", headers={"x-request-id": request_id})
    (mail,) = await shop.mails(ada.email)
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
    (shown,) = [message for message in listing.json() if message["to"] == ada.email]
    assert set(shown) == {"id", "to", "subject", "text", "html", "sent_at"}
    assert shown["subject"] == mail.subject
    assert shown["text"] == mail.text
