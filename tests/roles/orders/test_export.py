"""The files for spreadsheets: without formulas, and read in batches, each when the one before has been taken."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit.db.postgres import Database
from purveyor.roles.auth.contract import Address, Principal
from purveyor.roles.orders import export as exports
from purveyor.roles.orders.export import BATCH, COLUMNS, Format, Rows, export, guarded
from purveyor.roles.orders.model import OrderFilter, Product
from purveyor.roles.orders.store import OrderStore
from roles.orders.samples import SHELF, buyer, draft, new_order

FORMULA = tuple("=+-@\t\r\u2212\uff1d\uff0b\uff0d\uff20")
ADDRESS = Address(
    recipient='O\'Hara, "Zoë"', line1="line; one", city="\u6f22", postal_code="01067", country="DE", phone="+49 1"
)


def cells(text: str, delimiter: str) -> list[str]:
    written = exports._csv([["before", text, "after"]]).decode()
    return [cell for row in csv.reader(io.StringIO(written, newline=""), delimiter=delimiter) for cell in row]


@given(st.text(st.sampled_from([*FORMULA, *"ab1 ;,|\n\"'"]), max_size=12), st.sampled_from(";,|\t"))
def test_no_cell_is_a_formula_whatever_the_separator(text: str, delimiter: str) -> None:
    assert not [cell for cell in cells(text, delimiter) if cell.lstrip(' "').startswith(FORMULA)]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("hi;=1+1", "hi;'=1+1"),
        ("=1+1", "'=1+1"),
        ("+49 30 1", "'+49 30 1"),
        ("a\n-1\t@b", "a\n'-1\t'@b"),
        ("x; \uff1d1", "x;' \uff1d1"),
        ('x;"=1', "x;'\"=1"),
        ("\tx", "'\tx"),
        ("5 - 3 = 2", "5 - 3 = 2"),
        ("ada@example.com", "ada@example.com"),
        ("2 x Tea; 1 x Cup", "2 x Tea; 1 x Cup"),
    ],
)
def test_formula_gets_an_apostrophe_where_it_begins(text: str, written: str) -> None:
    assert guarded(text) == written


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


async def exported(store: OrderStore, ada: Principal, rows: Rows = "orders", kind: Format = "csv") -> bytes:
    return b"".join([piece async for piece in export(store, OrderFilter(user_id=ada.user_id), rows, kind)])


def read_csv(data: bytes) -> list[dict[str, str]]:
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))


async def test_every_kind_of_text_survives(store: OrderStore) -> None:
    ada = buyer()
    await store.add(new_order(ada, draft((2, 3), address=ADDRESS, note="=1+1")))
    data = await exported(store, ada)
    (row,) = read_csv(data)

    assert tuple(row) == COLUMNS["orders"]
    assert (row["recipient"], row["line1"], row["city"], row["phone"]) == (
        'O\'Hara, "Zoë"',
        "line; one",
        "\u6f22",
        "'+49 1",
    )
    assert (row["note"], row["items"], row["total_amount"]) == ("'=1+1", '3 x Cup "Ada"', "16.50")
    assert b',"pending","unpaid","card","EUR",16.50,3,"3 x Cup ""Ada""",' in data, "every text is quoted"


async def test_rows_can_be_items(store: OrderStore) -> None:
    ada = buyer()
    await store.add(new_order(ada, draft((2, 3), (1, 1), address=ADDRESS)))
    first, second = read_csv(await exported(store, ada, "items"))

    assert tuple(first) == COLUMNS["items"]
    assert first["id"] == second["id"]
    wanted = ("product_id", "title", "quantity", "unit_price", "amount")
    assert [first[name] for name in wanted] == ["2", 'Cup "Ada"', "3", "5.50", "16.50"]
    assert [second[name] for name in wanted] == ["1", "Kettle", "1", "29.99", "29.99"]


@pytest.mark.parametrize(
    ("currency", "total", "form"), [("EUR", 100, "0.00"), ("KWD", 3765, "0.000"), ("JPY", 1980, "0")]
)
async def test_amounts_have_the_decimals_of_their_currency(
    store: OrderStore, currency: str, total: int, form: str
) -> None:
    ada = buyer()
    new = new_order(ada)
    await store.add(
        msgspec.structs.replace(new, order=msgspec.structs.replace(new.order, currency=currency, total=total))
    )
    (row,) = read_csv(await exported(store, ada))
    _, (cell, *_) = openpyxl.load_workbook(io.BytesIO(await exported(store, ada, kind="xlsx"))).active.iter_rows(
        min_col=COLUMNS["orders"].index("total_amount") + 1
    )

    assert row["total_amount"] == str(Decimal(total).scaleb(-len(form.partition(".")[2])))
    assert (Decimal(str(cell.value)), cell.number_format) == (Decimal(row["total_amount"]), form)


async def test_workbook_has_numbers_and_texts(store: OrderStore) -> None:
    ada = buyer()
    await store.add(new_order(ada, draft((2, 3), (1, 1), address=ADDRESS, note="=1+1")))
    sheet = openpyxl.load_workbook(io.BytesIO(await exported(store, ada, "items", "xlsx"))).active
    header, first, second = ([cell.value for cell in row] for row in sheet.iter_rows())
    row = dict(zip(header, first, strict=True))

    assert tuple(header) == COLUMNS["items"]
    assert (row["unit_price"], row["amount"], row["quantity"]) == (5.5, 16.5, 3)
    assert (row["product_id"], row["postal_code"], row["phone"]) == ("2", "01067", "+49 1")
    assert (row["note"], row["city"]) == ("=1+1", "\u6f22")
    assert {cell.data_type for cell in sheet[2]} <= {"s", "n", "d"}, "no formula"
    assert second[header.index("title")] == "Kettle"


@pytest.mark.parametrize(
    ("month", "hour", "expected"), [(1, 23, (2, 1, 0)), (6, 22, (7, 1, 0)), (6, 21, (6, 30, 23))]
)
async def test_workbook_has_the_times_of_the_shop(
    store: OrderStore, month: int, hour: int, expected: tuple[int, int, int]
) -> None:
    """A workbook has no time zones: without this an order may belong to another month in the books."""
    ada = buyer()
    new = new_order(ada)
    at = datetime(2026, month, 31 if month == 1 else 30, hour, 15, tzinfo=UTC)
    placed = msgspec.structs.replace(new.order, created_at=at)
    await store.add(msgspec.structs.replace(new, order=placed))
    pieces = export(store, OrderFilter(user_id=ada.user_id), "orders", "xlsx", ZoneInfo("Europe/Berlin"))
    sheet = openpyxl.load_workbook(io.BytesIO(b"".join([piece async for piece in pieces]))).active
    shown = sheet.cell(2, COLUMNS["orders"].index("created_at") + 1).value

    assert (shown.month, shown.day, shown.hour) == expected


async def test_workbook_goes_on_in_another_sheet(store: OrderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_MAX_SHEET_ROWS", 3)
    ada = buyer()
    for _ in range(5):
        await store.add(new_order(ada))
    book = openpyxl.load_workbook(io.BytesIO(await exported(store, ada, kind="xlsx")))

    assert [(sheet.title, sheet.max_row) for sheet in book] == [("Orders", 3), ("Orders 2", 3), ("Orders 3", 2)]
    assert [sheet.auto_filter.ref for sheet in book] == ["A1:W3", "A1:W3", "A1:W2"]


async def test_text_ids_stay_texts(store: OrderStore) -> None:
    ada = buyer()
    shelf = SHELF | {"-SKU": Product(id="-SKU", title="Lamp", price=0)}
    wanted = draft(("-SKU", 1), (1, 1))
    new = new_order(ada)
    order = type(new.order).place(new.order.id, ada, wanted, shelf, currency="EUR", at=new.order.created_at)
    await store.add(msgspec.structs.replace(new, order=order))

    assert [row["product_id"] for row in read_csv(await exported(store, ada, "items"))] == ["'-SKU", "1"]


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
    assert [row["id"] for row in read_csv(first + rest)] == [str(order_id) for order_id in ids[::-1]]


async def test_a_last_batch_that_is_full_is_followed_by_nothing(store: OrderStore) -> None:
    ada = buyer()
    for _ in range(BATCH):
        await store.add(new_order(ada, draft((1, 1))))

    assert (await exported(store, ada)).count(b"\r\n") == BATCH + 1
