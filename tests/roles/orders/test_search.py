"""What an order is found by, with pg_trgm and without it, and what becomes of orders from before."""

from uuid import UUID

import msgspec
import pytest

from purveyor.kit.db.postgres import Database
from purveyor.roles.auth.contract import Address
from purveyor.roles.orders.model import OrderFilter
from purveyor.roles.orders.search import fold, like_patterns, prefix_query, query_words, search_text
from purveyor.roles.orders.store import OrderStore
from roles.orders.samples import HOME, buyer, draft, new_order


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Zoë  MÜLLER", "zoe muller"),
        ("Łukasz Groß", "lukasz gross"),
        ("\uff21da\tLovelace\n", "ada lovelace"),  # full width
        ("ﬁnance İstanbul", "finance istanbul"),
        ("ЙВАН 漢字", "иван 漢字"),
        ("  ", ""),
    ],
)
def test_case_accents_and_spaces_do_not_matter(text: str, folded: str) -> None:
    assert fold(text) == folded


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("Zoë Müller", ("zoe", "muller")),
        ("10001", ("10001",)),
        ("+49 (170) 123-4567", ("491701234567",)),
        ("0170/1234567", ("1701234567",)),
        ("0049 170", ("49170",)),
        ("0", ("0",)),
        ("ada ada", ("ada",)),
        ("   ", ()),
        ("a b c d e f g h i j", ("a", "b", "c", "d", "e", "f", "g", "h")),
        ("x" * 100, ("x" * 64,)),
    ],
)
def test_a_query_is_words_or_a_phone_number(query: str, words: tuple[str, ...]) -> None:
    assert query_words(query) == words


def test_wildcards_and_quotes_are_only_characters() -> None:
    assert like_patterns(["100%", "a_b", "\\x", "zo"]) == [r"%100\%%", r"%a\_b%", r"% \\x%", "% zo%"]
    assert prefix_query(["o'neil", "a\\b"]) == r"'o''neil':* & 'a\\b':*"


def test_a_search_text_has_each_word_once_and_an_end() -> None:
    address = Address(recipient="Ada", line1="-", city="-", postal_code="-", country="DE", phone="+49 170 1")
    assert search_text(7, "Ada", "ada@x.example", address, ["Red Kettle", "red cup"]) == (
        " 7 ada ada@x.example 491701 red kettle cup"
    )
    assert len(search_text(7, "Ada", "a@b", None, [f"word{number}" for number in range(2000)])) <= 4000


async def test_a_whole_email_address_finds_its_own_orders_else_those_with_it_inside(database: Database) -> None:
    store, ada = OrderStore(database), buyer()
    longer, like = (msgspec.structs.replace(ada, email=f"{start}{ada.email}") for start in ("nada.", "x@y."))
    orders = {who.email: (await store.add(new_order(who))).order_id for who in (ada, longer, like)}

    async def found(query: str) -> set[UUID]:
        return {one.order.id for one in await store.page(OrderFilter(words=query_words(query)), 10)}

    assert await found(ada.email.upper()) == {orders[ada.email]}
    assert await found(f"kettle {longer.email}") == {orders[longer.email]}
    assert await found(f"kettle-2 {longer.email}") == set()
    assert await found(f"{longer.email} {ada.email}") == set()
    assert await found(ada.email.removesuffix("m")) == set(orders.values())
    assert await found(ada.email.partition("@")[0]) == set(orders.values())
    await database.execute("update orders.orders set erased_at = now() where id = $1", orders[ada.email])
    await database.execute("delete from orders.search_texts where order_id = $1", orders[ada.email])
    assert await found(ada.email) == {orders[longer.email], orders[like.email]}


async def without_trigrams(database: Database) -> None:
    """Make the schema what the migration leaves where pg_trgm cannot be created."""
    await database.execute("drop index orders.search_texts_trigrams")
    await database.execute(
        "create index search_texts_words on orders.search_texts "
        "using gin (orders.spans_of(order_id), array_to_tsvector(string_to_array(btrim(text), ' ')))"
    )


async def test_orders_are_found_by_the_beginnings_of_words_without_trigrams(database: Database) -> None:
    ada = buyer()
    await OrderStore(database).add(new_order(ada, draft(address=HOME)))

    async def found(query: str) -> int:
        wanted = OrderFilter(user_id=ada.user_id, words=query_words(query))
        return len(await OrderStore(database).page(wanted, 10))

    assert await found("velace") == 1
    await without_trigrams(database)
    for query in ("love", "ada love", ada.email, "ket", 'cup "ada"'):
        assert await found(query) == 1, query
    for query in ("velace", "ada x", "o'neil", "a & b", "a:*|b", "\\", "'"):
        assert await found(query) == 0, query


async def test_orders_from_before_the_search_become_findable(database: Database) -> None:
    store, ada, eve = OrderStore(database), buyer(), buyer()
    orders = [(await store.add(new_order(ada))).order_id for _ in range(3)]
    erased = (await store.add(new_order(eve))).order_id
    await database.execute("update orders.orders set erased_at = now() where id = $1", erased)
    await database.execute("delete from orders.search_texts")
    await database.execute("delete from orders.search_backlog")
    await database.execute("insert into orders.search_backlog values ($1)", orders[2])
    wanted = OrderFilter(words=query_words(ada.email))

    assert await store.page(wanted, 10) == []
    await store.search.complete()
    assert [found.order.id for found in await store.page(wanted, 10)] == orders[::-1]
    assert await store.page(OrderFilter(words=query_words(eve.email)), 10) == []
    assert await database.fetchval("select count(*) from orders.search_backlog") == 0
    await store.search.complete()
