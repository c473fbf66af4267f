"""Search for orders by number, buyer, phone number and product title.

Every word of a query must occur in the order. A word of three or more characters matches anywhere in a word of the
order, a shorter one only at its beginning. A buyer's whole email address matches only itself. Without pg_trgm all
words match only at the beginning.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import msgspec

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database, Record
from purveyor.kit.ids import first_id_of
from purveyor.roles.auth.contract import Address
from purveyor.roles.orders.model import Order

MAX_QUERY = 200
_MAX_WORDS = 8
_MAX_WORD = 64
_MAX_TEXT = 4000
_ANYWHERE = 3
"""The shortest word that a trigram index finds anywhere."""
_BATCH = 500
_RECENT = timedelta(hours=1)
_PHONE = re.compile(r"[+(]?[0-9][0-9 ()./-]*")
_SPACES = re.compile(r"[\s\x00-\x1f\x7f]+")
_LIKE = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})
_BARE = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "\u0131": "i"})
"""Letters that Unicode does not decompose."""
_LEXEME = str.maketrans({"\\": r"\\", "'": "''"})


def fold(text: str) -> str:
    """Remove case, accents and compatibility forms: ``Zoë  MÜLLER`` becomes ``zoe muller``."""
    bare = text.casefold()
    if not bare.isascii():
        decomposed = unicodedata.normalize("NFKD", bare).translate(_BARE)
        bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return _SPACES.sub(" ", bare).strip()


def query_words(query: str) -> tuple[str, ...]:
    """The folded words of a query. A phone number is one word of digits without leading zeros."""
    folded = fold(query)
    if _PHONE.fullmatch(folded):
        digits = _digits(folded).lstrip("0")
        return (digits,) if digits else ("0",)
    return tuple(word[:_MAX_WORD] for word in dict.fromkeys(folded.split(" ")) if word)[:_MAX_WORDS]


def search_text(number: int | str, name: str, email: str, address: Address | None, titles: Iterable[str]) -> str:
    """The words of an order, each after a space."""
    recipient, phone = (address.recipient, _digits(address.phone)) if address else ("", "")
    folded = fold(" ".join([str(number), name, email, recipient, phone, *titles]))
    words = dict.fromkeys(word[:_MAX_WORD] for word in folded.split(" ") if word)
    return "".join(f" {word}" for word in words)[:_MAX_TEXT]


def text_of(order: Order, name: str, email: str) -> str:
    """The words of a new order but its number, which the database puts before them."""
    return search_text("", name, email, order.shipping_address, (line.title for line in order.lines))


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdecimal())


def like_patterns(words: Sequence[str]) -> list[str]:
    """The patterns for ``like``, in a database with pg_trgm."""
    return [f"{'%' if len(word) >= _ANYWHERE else '% '}{word.translate(_LIKE)}%" for word in words]


def prefix_query(words: Sequence[str]) -> str:
    """The ``tsquery`` that finds the beginnings of words."""
    return " & ".join(f"'{word.translate(_LEXEME)}':*" for word in words)


_ADDRESS = re.compile("[^ ]+@[^ ]+")
_BUYERS = f"substring(text from '{_ADDRESS.pattern}')"
"""The buyer's email address in SQL, as in the index of migration 0009."""
_IS_BUYERS = f"select exists (select from orders.search_texts where {_BUYERS} = $1)"  # noqa: S608 - constants
_address = msgspec.json.Decoder(Address)
_UNFOLDED = """
    select o.id, o.number, o.user_name, o.user_email, o.shipping_address,
        array(select i.title from orders.order_items i where i.order_id = o.id order by i.line) as titles
    from page join orders.orders o using (id)
    where o.erased_at is null and not exists (select from orders.search_texts t where t.order_id = o.id)"""


class SearchTexts:
    """Completes the search texts of orders and tells how to search them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._has_trigrams: bool | None = None

    async def conditions(self, words: Sequence[str]) -> Mapping[str, str]:
        """SQL conditions on ``search_texts.text`` with ``{}`` for the argument, by argument."""
        if self._has_trigrams is None:
            self._has_trigrams = await self._database.fetchval(
                "select to_regclass('orders.search_texts_trigrams') is not null"
            )
        if self._has_trigrams:
            conditions: dict[str, str] = {}
            for word, pattern in zip(words, like_patterns(words), strict=True):
                is_buyers = _ADDRESS.fullmatch(word) and await self._database.fetchval(_IS_BUYERS, word)
                conditions |= {word: f"{_BUYERS} = {{}}"} if is_buyers else {pattern: "text like {}"}
            return conditions
        return {prefix_query(words): "array_to_tsvector(string_to_array(btrim(text), ' ')) @@ {}::text::tsquery"}

    async def complete(self) -> None:
        """Add missing texts: of orders from before the search existed, and of recent ones by an older process."""
        while await self._complete_older():
            continue
        recent = "select id from orders.orders where id > $1 order by id desc limit 10000"
        floor = first_id_of(now() - _RECENT)
        rows = await self._database.fetch(f"with page as materialized ({recent}) {_UNFOLDED}", floor)
        await self._add(self._database, rows)

    async def _complete_older(self) -> bool:
        """Index a page of older orders; whether there may be more."""
        async with self._database.transaction() as connection:
            before = await connection.fetchval("select before from orders.search_backlog for update skip locked")
            if before is None:
                return False
            page = f"select id from orders.orders where id < $1 order by id desc limit {_BATCH}"  # noqa: S608
            last = await connection.fetchval(f"select min(id::text) from ({page}) as page", before)  # noqa: S608
            if last is None:
                await connection.execute("delete from orders.search_backlog")
                return False
            rows = await connection.fetch(f"with page as materialized ({page}) {_UNFOLDED}", before)
            await self._add(connection, rows)
            await connection.execute("update orders.search_backlog set before = $1::text::uuid", last)
        return True

    async def _add(self, connection: object, rows: Sequence[Record]) -> None:
        texts = [
            search_text(
                row["number"],
                row["user_name"],
                row["user_email"],
                _address.decode(row["shipping_address"]) if row["shipping_address"] else None,
                row["titles"],
            )
            for row in rows
        ]
        await connection.execute(  # type: ignore[attr-defined]  # asyncpg carries no types
            """
            insert into orders.search_texts (order_id, text)
            with present as materialized (  -- waits for an erasure that is not committed yet
                select id from orders.orders where id = any($1) and erased_at is null for share
            )
            select id, new.text from unnest($1::uuid[], $2::text[]) as new (id, text) join present using (id)
            on conflict do nothing""",
            [row["id"] for row in rows],
            texts,
        )
