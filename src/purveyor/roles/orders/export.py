"""Orders as a file for spreadsheets: CSV (RFC 4180) or XLSX, one row per order or per item."""

import asyncio
import csv
import io
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from purveyor.kit.deadline import no_deadline
from purveyor.kit.money import to_fixed
from purveyor.roles.orders.model import Line, Order, OrderFilter, StoredOrder
from purveyor.roles.orders.store import OrderStore

BATCH = 200
Rows = Literal["orders", "items"]
Format = Literal["csv", "xlsx"]
MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_BOM = b"\xef\xbb\xbf"
_CHUNK_BYTES = 64 * 1024
_COLUMN_WIDTH = 18
_MAX_SHEET_ROWS = 1_048_576
_ADDRESS = ("recipient", "line1", "line2", "city", "region", "postal_code", "country", "phone")

# A spreadsheet may split the file at other characters than we did. Each of them starts a cell, as the text itself
# does. Blanks, quotes and invisible marks before the first character of a formula do not keep it from being one.
_BLANK = r"[ \"\xa0\u2000-\u200f\u2060\u3000\ufeff]*"
_FORMULA = re.compile(
    rf"(^|[;|\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029])"
    rf"(?={_BLANK}[=+\-@\t\r\u2212\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b])"
)

Cell = str | int | Decimal | datetime | UUID
Columns = dict[str, Callable[[StoredOrder], Cell]]
ItemColumns = dict[str, Callable[[Line, str], Cell]]


def _address(name: str) -> Callable[[StoredOrder], Cell]:
    def value(stored: StoredOrder) -> Cell:
        address = stored.order.shipping_address
        return getattr(address, name) if address else ""

    return value


def _list_of_items(stored: StoredOrder) -> Cell:
    return "; ".join(f"{line.quantity} x {line.title}" for line in stored.order.lines)


_ORDER: Columns = {
    "order_number": lambda stored: stored.order.number,
    "id": lambda stored: stored.order.id,
    "created_at": lambda stored: stored.order.created_at,
    "updated_at": lambda stored: stored.order.updated_at,
    "status": lambda stored: stored.order.status,
    "payment_status": lambda stored: stored.order.payment_status,
    "payment_method": lambda stored: stored.order.payment_method,
    "currency": lambda stored: stored.order.currency,
}
_TOTALS: Columns = {
    "total_amount": lambda stored: to_fixed(stored.order.total, stored.order.currency),
    "quantity": lambda stored: sum(line.quantity for line in stored.order.lines),
    "items": _list_of_items,
}
_BUYER: Columns = {
    "user_id": lambda stored: stored.order.user_id,
    "user_name": lambda stored: stored.buyer.name,
    "user_email": lambda stored: stored.buyer.email,
    **{name: _address(name) for name in _ADDRESS},
    "note": lambda stored: stored.order.note,
}
_ITEM: ItemColumns = {
    "product_id": lambda line, _: line.product_id,
    "title": lambda line, _: line.title,
    "quantity": lambda line, _: line.quantity,
    "unit_price": lambda line, currency: to_fixed(line.price, currency),
    "amount": lambda line, currency: to_fixed(line.total, currency),
}
COLUMNS: dict[Rows, tuple[str, ...]] = {
    "orders": (*_ORDER, *_TOTALS, *_BUYER),
    "items": (*_ORDER, *_ITEM, *_BUYER),
}


def export(
    store: OrderStore,
    wanted: OrderFilter,
    rows: Rows = "orders",
    file_format: Format = "csv",
    zone: tzinfo = UTC,
) -> AsyncIterator[bytes]:
    """The file in pieces, newest orders first. Orders are read as the pieces are sent.

    Times are in ``zone`` in a workbook, whose cells have no zone of their own, and in UTC in CSV.
    """
    if file_format == "xlsx":
        return _export_xlsx(store, wanted, rows, zone)
    return _export_csv(store, wanted, rows)


async def _export_csv(store: OrderStore, wanted: OrderFilter, rows: Rows) -> AsyncIterator[bytes]:
    start = _BOM + _csv([COLUMNS[rows]])
    async for page in _pages(store, wanted):
        yield start + _csv(_rows(page, rows))
        start = b""


async def _export_xlsx(store: OrderStore, wanted: OrderFilter, rows: Rows, zone: tzinfo) -> AsyncIterator[bytes]:
    """Complete on disk before the first piece is sent: an XLSX file is a ZIP archive."""
    with tempfile.TemporaryFile() as file, tempfile.TemporaryDirectory() as scratch:
        sheets = _Sheets(file, scratch, rows, zone)
        async for page in _pages(store, wanted):
            await asyncio.to_thread(sheets.add, list(_rows(page, rows)))
        await asyncio.to_thread(sheets.close)
        file.seek(0)
        while piece := file.read(_CHUNK_BYTES):
            yield piece


async def _pages(store: OrderStore, wanted: OrderFilter) -> AsyncIterator[Sequence[StoredOrder]]:
    page = await store.page(wanted, BATCH)
    yield page
    while len(page) == BATCH:
        wanted = msgspec.structs.replace(wanted, after=page[-1].order.id)
        with no_deadline():
            page = await store.page(wanted, BATCH)
        yield page


def _rows(page: Sequence[StoredOrder], rows: Rows) -> Iterator[Sequence[Cell]]:
    for stored in page:
        order: Order = stored.order
        start = [value(stored) for value in _ORDER.values()]
        end = [value(stored) for value in _BUYER.values()]
        if rows == "orders":
            yield [*start, *(value(stored) for value in _TOTALS.values()), *end]
            continue
        for line in order.lines:
            yield [*start, *(value(line, order.currency) for value in _ITEM.values()), *end]


# CSV


def guarded(text: str) -> str:
    """Put an apostrophe wherever a spreadsheet would begin a formula, whatever separator it splits the file at."""
    return _FORMULA.sub(lambda place: f"{place[0]}'", text)


def _csv(rows: Iterable[Sequence[Cell]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC).writerows([_csv_cell(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _csv_cell(cell: Cell) -> str | int | Decimal:
    if isinstance(cell, str):
        return guarded(cell)
    if isinstance(cell, datetime):
        return cell.isoformat().replace("+00:00", "Z")
    return str(cell) if isinstance(cell, UUID) else cell


# XLSX


class _Sheets:
    """Writes rows to as many sheets as they need, with one row at a time in memory."""

    def __init__(self, file: Any, scratch: str, rows: Rows, zone: tzinfo) -> None:
        from xlsxwriter import Workbook

        self._book = Workbook(file, {"constant_memory": True, "tmpdir": scratch})
        self._name, self._columns, self._zone = rows.capitalize(), COLUMNS[rows], zone
        self._sheets = 0
        self._header = self._book.add_format({"bold": True})
        self._time = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._amounts = {
            digits: self._book.add_format({"num_format": f"0.{'0' * digits}" if digits else "0"})
            for digits in range(5)
        }
        self._open()

    def add(self, rows: Sequence[Sequence[Cell]]) -> None:
        for row in rows:
            if self._row == _MAX_SHEET_ROWS:
                self._finish()
                self._open()
            for column, cell in enumerate(row):
                self._write(column, self._columns[column], cell)
            self._row += 1

    def close(self) -> None:
        self._finish()
        self._book.close()

    def _finish(self) -> None:
        self._sheet.autofilter(0, 0, self._row - 1, len(self._columns) - 1)

    def _open(self) -> None:
        self._sheets += 1
        self._sheet = self._book.add_worksheet(self._name if self._sheets == 1 else f"{self._name} {self._sheets}")
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, len(self._columns) - 1, _COLUMN_WIDTH)
        for column, name in enumerate(self._columns):
            self._sheet.write_string(0, column, name, self._header)
        self._row = 1

    def _write(self, column: int, name: str, cell: Cell) -> None:
        if isinstance(cell, Decimal):
            digits = -int(cell.as_tuple().exponent)
            self._sheet.write_number(self._row, column, float(cell), self._amounts[digits])
        elif isinstance(cell, datetime):
            local = cell.astimezone(self._zone).replace(tzinfo=None)
            self._sheet.write_datetime(self._row, column, local, self._time)
        elif isinstance(cell, int) and name != "product_id":  # ids may have more digits than a spreadsheet keeps
            self._sheet.write_number(self._row, column, cell)
        else:
            self._sheet.write_string(self._row, column, str(cell))
