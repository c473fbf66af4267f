"""The page that a link in a mail shows: what is on it, and for whom it is not there."""

import msgspec
import pytest

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import NotFound
from purveyor.kit.events.message import Envelope
from purveyor.kit.ids import new_id
from purveyor.kit.link_tokens import LinkTokens
from purveyor.roles.auth.contract import UserErased
from purveyor.roles.orders.contract import ORDER_LINK
from purveyor.roles.orders.order_page import OrderPages
from purveyor.roles.orders.privacy import PersonalData, PersonalDataStore
from purveyor.roles.orders.store import HistoryStore, OrderStore
from purveyor.shop_details import ShopDetails
from roles.orders.samples import HOME, buyer, draft, new_order

LINKS = LinkTokens(ORDER_LINK, "a secret")
SHOP = ShopDetails(
    shop_name="Smith & Daughters",
    shop_contact="help@shop.test",
    bank_details="IBAN DE02",
)


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


@pytest.fixture
def pages(store: OrderStore) -> OrderPages:
    return OrderPages(store, LINKS, SHOP, "https://shop.test/store")


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", "Bestellung"),
        ("fr-CA", "Commande"),
        ("es", "Pedido"),
        ("en", "Order"),
        ("tlh", "Order"),
        ("", "Order"),
    ],
)
async def test_a_link_shows_the_order_in_its_language_and_nothing_of_the_person(
    pages: OrderPages, store: OrderStore, language: str, words: str
) -> None:
    ada = msgspec.structs.replace(buyer(), language=language)
    new = new_order(ada, draft(address=HOME, note="ring twice"))
    order = await store.get((await store.add(new)).order_id, None)
    page = await pages.page(LINKS.sign(order.id, ada.email))
    for shown in (f"<h1>{words} {order.number}</h1>", "Smith &amp; Daughters", "Kettle", "help@shop.test"):
        assert shown in page
    assert 'href="https://shop.test/store/"' in page
    hidden = (
        ada.email,
        ada.name,
        HOME.line1,
        HOME.city,
        HOME.postal_code,
        "ring twice",
        ada.user_id,
    )
    assert [text for text in hidden if text in page] == []


@pytest.mark.parametrize(
    ("payment", "is_shown"),
    [(("bank_transfer", "unpaid"), True), (("bank_transfer", "paid"), False), (("card", "unpaid"), False)],
)
async def test_how_to_pay_is_shown_while_a_transfer_is_due(
    pages: OrderPages, store: OrderStore, database: Database, payment: tuple[str, str], *, is_shown: bool
) -> None:
    ada, (method, status) = buyer(), payment
    wanted = msgspec.structs.replace(draft(), payment_method=method)
    order_id = (await store.add(new_order(ada, wanted))).order_id
    await database.execute("update orders.orders set payment_status = $2 where id = $1", order_id, status)
    assert ("IBAN DE02" in await pages.page(LINKS.sign(order_id, ada.email))) == is_shown


@pytest.mark.parametrize(
    ("currency", "language", "shown"),
    [
        ("EUR", "en", "€1,234.50"),
        ("EUR", "de", "1.234,50 €"),
        ("EUR", "fr", "1\N{NARROW NO-BREAK SPACE}234,50 €"),
        ("GBP", "es", "1.234,50 £"),
        ("KWD", "en", "123.450 KWD"),
        ("KWD", "de", "123,450 KWD"),
        ("KWD", "es", "123,450 KWD"),
        ("IQD", "en", "123.450 IQD"),
        ("JPY", "en", "¥123,450"),
        ("JPY", "de", "123.450 ¥"),
    ],
)
async def test_amounts_are_written_as_in_the_language_of_the_order(
    pages: OrderPages, store: OrderStore, database: Database, currency: str, language: str, *, shown: str
) -> None:
    ada = msgspec.structs.replace(buyer(), language=language)
    order_id = (await store.add(new_order(ada))).order_id
    await database.execute(
        "update orders.orders set total = 123450, currency = $2 where id = $1", order_id, currency
    )
    page = await pages.page(LINKS.sign(order_id, ada.email))
    assert f"<td>{shown}</td>" in page.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("language", "shown"),
    [
        ("en", "1 March 2026"),
        ("de", "1. März 2026"),
        ("es", "1 de marzo de 2026"),
        ("fr", "1 mars 2026"),
    ],
)
async def test_the_day_is_written_as_in_the_language_of_the_order(
    pages: OrderPages, store: OrderStore, database: Database, language: str, shown: str
) -> None:
    ada = msgspec.structs.replace(buyer(), language=language)
    order_id = (await store.add(new_order(ada))).order_id
    await database.execute("update orders.orders set created_at = '2026-03-01 12:00Z' where id = $1", order_id)
    assert f"<dd>{shown}</dd>" in await pages.page(LINKS.sign(order_id, ada.email))


@pytest.mark.parametrize(
    ("accepted", "shown"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "Dieser Link funktioniert nicht"),
        ("tlh, fr;q=0.5", "Ce lien ne fonctionne pas"),
        ("", "This link does not work"),
    ],
)
def test_a_broken_link_shows_the_way_to_the_shop(pages: OrderPages, accepted: str, shown: str) -> None:
    page = pages.broken(accepted)
    assert f"<h1>{shown}</h1>" in page
    assert 'href="https://shop.test/store/"' in page
    assert "help@shop.test" in page


async def test_a_link_with_another_signature_shows_nothing(pages: OrderPages, store: OrderStore) -> None:
    ada = buyer()
    order_id = (await store.add(new_order(ada))).order_id
    right = LINKS.sign(order_id, ada.email)
    wrong = [
        LINKS.sign(order_id, "someone@else.test"),
        LinkTokens(ORDER_LINK, "other").sign(order_id, ada.email),
        LINKS.sign(new_id(), ada.email),
        *("", "x", right[:-1], right + "x", str(order_id)),
    ]
    assert await pages.page(right)
    details = set()
    for token in wrong:
        with pytest.raises(NotFound) as refused:
            await pages.page(token)
        details.add(refused.value.detail)
    assert len(details) == 1


async def test_a_link_ends_with_the_erasure(pages: OrderPages, store: OrderStore, database: Database) -> None:
    ada = buyer()
    order_id = (await store.add(new_order(ada))).order_id
    await database.execute("update orders.orders set status = 'delivered' where id = $1", order_id)  # none is kept
    personal = PersonalData(PersonalDataStore(database), store, HistoryStore(database), committed=lambda: None)
    erased = UserErased(user_id=ada.user_id, user_email=ada.email)
    await personal.erase(erased, Envelope(id=new_id(), type=erased.type, body=b"", occurred_at=now()))
    for address in (ada.email, ""):
        with pytest.raises(NotFound):
            await pages.page(LINKS.sign(order_id, address))
