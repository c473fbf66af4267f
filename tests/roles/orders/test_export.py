"""The CSV file: guarded, and read in batches, each when the one before has been taken."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit.db.postgres import Database
from purveyor.roles.auth.contract import Address
from purveyor.roles.orders.export import BATCH, COLUMNS, export, guarded
from purveyor.roles.orders.model import OrderFilter
from purveyor.roles.orders.store import OrderStore
from roles.orders.samples import buyer, draft, new_order


@given(st.text(max_size=20))
def test_no_text_begins_like_a_formula(text: str) -> None:
    cell = guarded(text)

    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell.removeprefix("'") == text.removeprefix("'")
    assert cell == text or text.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


async def test_every_kind_of_text_survives(store: OrderStore) -> None:
    ada = buyer()
    address = Address(
        recipient='O\'Hara, "Zoë"', line1="line; one", city="\u6f22", postal_code="1", country="DE", phone="+49 1"
    )
    await store.add(new_order(ada, draft((2, 3), address=address, note="=1+1")))
    pieces = [piece async for piece in export(store, OrderFilter(user_id=ada.user_id))]
    (row,) = csv.DictReader(io.StringIO(b"".join(pieces).decode(), newline=""), strict=True)

    assert tuple(row) == COLUMNS
    assert (row["recipient"], row["line1"], row["city"], row["phone"]) == (
        'O\'Hara, "Zoë"',
        "line; one",
        "\u6f22",
        "'+49 1",
    )
    assert (row["note"], row["items"], row["total_amount"]) == ("'=1+1", '3 x Cup "Ada"', "16.50")


async def test_pieces_are_read_one_at_a_time_and_hold_no_connection(store: OrderStore, database: Database) -> None:
    """What comes in between two pieces does not disturb: the file goes on from where it was."""
    ada = buyer()
    ids = [(await store.add(new_order(ada, draft((1, 1))))).order_id for _ in range(BATCH + 5)]
    pieces = export(store, OrderFilter(user_id=ada.user_id))
    first = await anext(pieces)
    assert database._pool.get_idle_size() == database._pool.get_size()
    await store.add(new_order(ada))
    rest = b"".join([piece async for piece in pieces])

    assert first.count(b"\r\n") == BATCH + 1
    lines = (first + rest).decode().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == [str(order_id) for order_id in ids[::-1]]


async def test_a_last_batch_that_is_full_is_followed_by_nothing(store: OrderStore) -> None:
    ada = buyer()
    for _ in range(BATCH):
        await store.add(new_order(ada, draft((1, 1))))
    text = b"".join([piece async for piece in export(store, OrderFilter(user_id=ada.user_id))])

    assert text.count(b"\r\n") == BATCH + 1
