"""All orders as a file: what stands in it, for whom, and that a spreadsheet runs none of it."""

import csv
import io
import re
from decimal import Decimal

import httpx
import openpyxl
import pytest

from shop import Customer, Shop, an_address, exact, problem

pytestmark = pytest.mark.one_shape


def rows(answer: httpx.Response) -> list[dict[str, str]]:
    """The lines of the file by the names of their columns."""
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"\xef\xbb\xbf"), "Excel takes the file for UTF-8 only with a byte order mark"
    text = answer.content.decode("utf-8-sig")
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


async def test_the_file_tells_of_each_order(shop: Shop, staff: Customer) -> None:
    zoe = await shop.customer(name="Zoë 漢字, O'Hara")
    order = exact(
        await shop.place(zoe, [(1, 2), (2, 1)], note='say "hi",\nthen wait', shipping_address=an_address())
    )
    answer = await shop.export(staff, user_id=zoe.id)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="orders-\d{4}-\d\d-\d\d\.csv"', answer.headers["content-disposition"]
    )
    (row,) = rows(answer)
    titles = [f"{line['quantity']} x {line['title']}" for line in order["items"]]
    assert row["items"] == "; ".join(titles)
    assert Decimal(row["total_amount"]) == order["total_amount"]
    assert (row["order_number"], row["quantity"]) == (str(order["order_number"]), "3")
    assert (row["user_name"], row["user_email"], row["note"]) == (zoe.name, zoe.email, 'say "hi",\nthen wait')
    for name in ("id", "user_id", "status", "payment_status", "payment_method", "currency", "created_at"):
        assert row[name] == order[name]
    for name, value in an_address().items():
        assert row[name] == value


async def test_the_filters_are_those_of_the_list(shop: Shop, ada: Customer, staff: Customer) -> None:
    orders = [(await shop.place(ada)).json() for _ in range(4)]
    await shop.change(staff, orders[1]["id"], status="confirmed", payment_status="paid")
    for filters in (
        {},
        {"status": "confirmed"},
        {"status": "pending"},
        {"payment_status": "paid"},
        {"payment_status": "unpaid"},
        {"order_number": orders[2]["order_number"]},
        {"created_from": orders[2]["created_at"]},
        {"created_to": orders[2]["created_at"]},
    ):
        listed = (await shop.list(staff, user_id=ada.id, **filters)).json()["orders"]
        exported = rows(await shop.export(staff, user_id=ada.id, **filters))
        assert [row["id"] for row in exported] == [order["id"] for order in listed], filters
        assert listed


async def test_no_orders_are_a_file_too(shop: Shop, staff: Customer) -> None:
    answer = await shop.export(staff, user_id="nobody")
    assert rows(answer) == []
    assert answer.content.startswith(b'\xef\xbb\xbf"order_number","id",')


async def test_a_large_file_has_every_order_once(shop: Shop, staff: Customer) -> None:
    buyers = [await shop.customer() for _ in range(3)]
    placed = {(await shop.place(buyers[n % 3])).json()["id"] for n in range(210)}
    exported = [row["id"] for row in rows(await shop.export(staff))]
    assert len(exported) == len(set(exported))
    assert placed <= set(exported)
    assert exported == sorted(exported, reverse=True)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://x","y")'])
async def test_a_spreadsheet_runs_nothing(shop: Shop, staff: Customer, text: str) -> None:
    eve = await shop.customer()
    address = an_address() | {"recipient": text, "line1": text, "city": text}
    assert (await shop.place(eve, note=text, shipping_address=address)).status_code == 201
    (row,) = rows(await shop.export(staff, user_id=eve.id))
    for name in ("note", "recipient", "line1", "city"):
        assert row[name] == f"'{text}"
    assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r")) for value in row.values())


async def test_the_file_is_for_staff(shop: Shop, ada: Customer) -> None:
    problem(await shop.export(ada), 403, "forbidden")
    problem(await shop.raw("GET", "/api/orders/export.csv"), 401, "unauthorized")


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "lost"), ("payment_status", "stolen"), ("order_number", "0"), ("created_from", "yesterday")],
)
async def test_a_filter_that_cannot_be_is_pointed_at(shop: Shop, staff: Customer, name: str, value: str) -> None:
    problem(await shop.export(staff, **{name: value}), 422, "invalid-input", f"/{name}")


async def test_head_tells_of_the_file_without_sending_it(shop: Shop, staff: Customer) -> None:
    head = await shop.raw("HEAD", "/api/orders/export.csv", staff)
    assert (head.status_code, head.content) == (200, b"")
    assert "attachment" in head.headers["content-disposition"]


async def test_a_row_can_be_an_item(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = exact(await shop.place(ada, [(1, 2), (2, 1)]))
    answer = await shop.export(staff, user_id=ada.id, rows="items")
    assert "order-items-" in answer.headers["content-disposition"]
    for row, item in zip(rows(answer), order["items"], strict=True):
        assert (row["order_number"], row["product_id"]) == (str(order["order_number"]), str(item["product_id"]))
        assert (row["title"], row["quantity"]) == (item["title"], str(item["quantity"]))
        assert (Decimal(row["unit_price"]), Decimal(row["amount"])) == (item["price"], item["total_amt"])


async def test_the_file_can_be_a_workbook(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = exact(await shop.place(ada, [(1, 2)], note="=1+1", shipping_address=an_address()))
    answer = await shop.export(staff, user_id=ada.id, format="xlsx")
    assert answer.headers["content-type"].startswith("application/vnd.openxmlformats-officedocument.spreadsheetml")
    assert answer.headers["content-disposition"].endswith('.xlsx"')
    header, cells = openpyxl.load_workbook(io.BytesIO(answer.content)).active.iter_rows(values_only=True)
    row = dict(zip(header, cells, strict=True))
    assert (row["order_number"], row["note"], row["currency"]) == (
        order["order_number"],
        "=1+1",
        order["currency"],
    )
    assert Decimal(str(row["total_amount"])) == order["total_amount"]
    assert row["postal_code"] == an_address()["postal_code"]


@pytest.mark.parametrize(("name", "value"), [("format", "pdf"), ("rows", "cells"), ("rows", "null")])
async def test_there_are_two_formats_and_two_kinds_of_rows(
    shop: Shop, staff: Customer, name: str, value: str
) -> None:
    problem(await shop.export(staff, **{name: value}), 422, "invalid-input", f"/{name}")
