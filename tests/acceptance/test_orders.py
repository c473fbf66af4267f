"""Placing an order and reading it: prices, totals, the shipping address, who sees it."""

import json
import re
from decimal import Decimal

import pytest

from shop import Customer, Items, Shop, an_address, exact, problem

NO_ID = "01a20481-297c-700c-a82d-3d9ac6bc1ffd"


async def test_an_order_is_priced_from_the_catalogue(shop: Shop, ada: Customer) -> None:
    product = exact(await shop.product(7))
    answer = await shop.place(ada, [(7, 3)], note="ring twice")
    assert answer.status_code == 201
    order = exact(answer)
    assert isinstance(order["order_number"], int)
    assert order["items"] == [
        {
            "product_id": 7,
            "title": product["title"],
            "quantity": 3,
            "price": product["price"],
            "price_minor": product["price_minor"],
            "total_amt": 3 * product["price"],
            "total_amt_minor": 3 * product["price_minor"],
        }
    ]
    assert order["total_amount"] == 3 * product["price"]
    assert order["total_minor"] == 3 * product["price_minor"] == order["total_amount"] * 100
    assert order["currency"] == product["currency"]
    assert (order["user_id"], order["note"], order["version"]) == (ada.id, "ring twice", 1)
    assert (order["status"], order["payment_status"]) == ("pending", "unpaid")
    assert order["payment_method"] == "cash_on_delivery"
    assert order["shipping_address"] is None
    assert order["created_at"] == order["updated_at"]
    assert order["created_at"].endswith("Z")


@pytest.mark.one_shape
async def test_an_order_can_be_read_where_it_says(shop: Shop, ada: Customer) -> None:
    placed = await shop.place(ada)
    read = await shop.raw("GET", placed.headers["location"], ada)
    assert read.status_code == 200
    assert exact(read) == exact(placed)
    assert read.headers["etag"] == placed.headers["etag"] == '"1"'
    assert placed.headers["location"].rstrip("/").endswith(placed.json()["id"])


@pytest.mark.one_shape
async def test_an_order_that_one_has_is_not_sent_again(shop: Shop, ada: Customer) -> None:
    order = (await shop.place(ada)).json()
    for condition in ('"1"', 'W/"1"', "1", "*", '"0", "1"'):
        answer = await shop.get(ada, order["id"], if_none_match=condition)
        assert (answer.status_code, answer.content) == (304, b""), condition
        assert answer.headers["etag"] == '"1"'
    for condition in ('"2"', "2", '"11"', ""):
        answer = await shop.get(ada, order["id"], if_none_match=condition)
        assert (answer.status_code, answer.json()) == (200, order), condition


@pytest.mark.one_shape
async def test_the_same_product_twice_is_one_line(shop: Shop, ada: Customer) -> None:
    order = exact(await shop.place(ada, [(3, 2), (5, 1), (3, 4)]))
    assert [(line["product_id"], line["quantity"]) for line in order["items"]] == [(3, 6), (5, 1)]
    assert order["total_amount"] == sum(line["total_amt"] for line in order["items"])


async def test_amounts_have_two_decimals_at_most(shop: Shop, ada: Customer) -> None:
    answer = await shop.place(ada, [(product, 999) for product in range(1, 101)])
    assert answer.status_code == 201
    amounts = re.findall(r'"(?:price|total_amt|total_amount)":([^,}]+)', answer.text)
    assert len(amounts) == 201
    assert all(re.fullmatch(r"\d+(\.\d{2})?", amount) for amount in amounts)


@pytest.mark.one_shape
async def test_a_price_that_the_client_says_is_refused(shop: Shop, ada: Customer) -> None:
    body = {"items": [{"product_id": 1, "quantity": 1, "price": 0.01}]}
    problem(await shop.raw("POST", "/api/orders/", ada, json=body), 422, "invalid-input", "/items/0/price")


async def test_unknown_products_are_named(shop: Shop, ada: Customer) -> None:
    answer = await shop.place(ada, [(1, 1), (999_999, 1), (2, 1), (888_888, 2)])
    body = problem(answer, 422, "unknown-product", "/items/1/product_id", "/items/3/product_id")
    assert "999999" in body["detail"]
    assert "888888" in body["detail"]
    assert (await shop.list(ada)).json()["orders"] == []


@pytest.mark.one_shape
async def test_a_text_is_another_product_than_the_number(shop: Shop, ada: Customer) -> None:
    for product_id in ("1", "SKU-1", 2**53 - 1):
        body = problem(await shop.place(ada, [(product_id, 1)]), 422, "unknown-product", "/items/0/product_id")
        assert json.dumps(product_id) in body["detail"]


@pytest.mark.one_shape
async def test_whole_numbers_may_be_written_with_a_fraction(shop: Shop, ada: Customer) -> None:
    order = exact(await shop.place(ada, [(2.0, 3.0)]))
    assert [(line["product_id"], line["quantity"]) for line in order["items"]] == [(2, 3)]


@pytest.mark.one_shape
async def test_an_order_of_the_expected_total_is_placed(shop: Shop, ada: Customer) -> None:
    price = exact(await shop.product(1))["price"]
    for expected in (float(2 * price), str(2 * price), f"{2 * price:.4f}"):
        assert (await shop.place(ada, [(1, 2)], expected_total=expected)).status_code == 201


@pytest.mark.one_shape
async def test_an_order_of_another_total_is_refused_with_what_it_costs(shop: Shop, ada: Customer) -> None:
    costs = exact(await shop.place(ada, [(1, 2), (2, 1)]))
    for expected in (0, "1.00", 0.001, costs["total_minor"]):
        answer = await shop.place(ada, [(1, 2), (2, 1)], key=f"key-{expected}", expected_total=expected)
        told = ("items", "total_amount", "total_minor", "currency")
        body = problem(answer, 409, "price-changed", more=told)
        for name in told:
            assert exact(answer)[name] == costs[name]
        assert str(costs["total_amount"]) in body["detail"]
        agreed = await shop.place(
            ada, [(1, 2), (2, 1)], key=f"key-{expected}", expected_total=body["total_amount"]
        )
        assert agreed.status_code == 201, "what was refused does not use up the key"


@pytest.mark.one_shape
async def test_a_replayed_order_must_expect_the_same(shop: Shop, ada: Customer) -> None:
    total = exact(await shop.product(1))["price"]
    first = await shop.place(ada, key="k", expected_total=str(total))
    assert (await shop.place(ada, key="k", expected_total=f"{total}00")).json() == first.json()
    problem(await shop.place(ada, key="k"), 422, "idempotency-key-reused")


@pytest.mark.one_shape
@pytest.mark.parametrize(
    ("items", "pointer"),
    [
        ([], "/items"),
        ([(1, 1)] * 101, "/items"),
        ([(1, 0)], "/items/0/quantity"),
        ([(1, -1)], "/items/0/quantity"),
        ([(1, 1001)], "/items/0/quantity"),
        ([(0, 1)], "/items/0/product_id"),
        ([(2, 1), (1, 600), (1, 401)], "/items/2/quantity"),
    ],
    ids=["none", "101", "zero", "negative", "1001", "product 0", "1001 merged"],
)
async def test_an_order_has_bounds(shop: Shop, visitor: Customer, items: Items, pointer: str) -> None:
    problem(await shop.place(visitor, items), 422, "invalid-input", pointer)


@pytest.mark.one_shape
async def test_an_order_at_its_bounds_is_placed(shop: Shop, ada: Customer) -> None:
    assert (await shop.place(ada, [(1, 1000)])).status_code == 201
    assert (await shop.place(ada, [(1, 10)] * 100)).status_code == 201


@pytest.mark.one_shape
@pytest.mark.parametrize(
    ("member", "value", "pointer"),
    [
        ("payment_method", "gold", "/payment_method"),
        ("note", "x" * 501, "/note"),
        ("note", "ring\rtwice", "/note"),
        ("note", "ring\n\x1b[2Jtwice", "/note"),
        ("items", "1", "/items"),
        ("items", [{"product_id": 1}], "/items/0/quantity"),
        ("items", [{"product_id": "", "quantity": 1}], "/items/0/product_id"),
        ("items", [{"product_id": "a\nb", "quantity": 1}], "/items/0/product_id"),
        ("items", [{"product_id": "x" * 101, "quantity": 1}], "/items/0/product_id"),
        ("items", [{"product_id": 2**53, "quantity": 1}], "/items/0/product_id"),
        ("items", [{"product_id": 1.5, "quantity": 1}], "/items/0/product_id"),
        ("expected_total", -1, "/expected_total"),
        ("expected_total", "NaN", "/expected_total"),
        ("expected_total", "1e999999", "/expected_total"),
        ("expected_total", "much", "/expected_total"),
        ("expected_total", True, "/expected_total"),
        ("items", [{"product_id": 1, "quantity": 1.5}], "/items/0/quantity"),
        ("user_id", NO_ID, "/user_id"),
        ("total_amount", 1, "/total_amount"),
        (
            "shipping_address",
            {"city": "London", "line1": "1 High Street"},
            "/shipping_address/recipient /shipping_address/postal_code /shipping_address/country",
        ),
        ("shipping_address", an_address() | {"country": "XX"}, "/shipping_address/country"),
        ("shipping_address", an_address() | {"planet": "Earth"}, "/shipping_address/planet"),
    ],
)
async def test_what_is_wrong_with_an_order_is_pointed_at(
    shop: Shop, visitor: Customer, member: str, value: object, pointer: str
) -> None:
    body = {"items": [{"product_id": 1, "quantity": 1}], member: value}
    problem(await shop.raw("POST", "/api/orders/", visitor, json=body), 422, "invalid-input", *pointer.split())


@pytest.mark.one_shape
async def test_a_note_may_have_several_lines(shop: Shop, ada: Customer) -> None:
    placed = await shop.place(ada, note="Ring twice.\r\n\nThen  wait.\n")
    assert placed.json()["note"] == "Ring twice.\n\nThen wait."
    assert (await shop.get(ada, placed.json()["id"])).json() == placed.json()


@pytest.mark.one_shape
async def test_an_address_of_the_address_book_can_be_sent_as_it_is(shop: Shop, ada: Customer) -> None:
    placed = await shop.place(ada, shipping_address=an_address() | {"is_default": True})
    assert placed.status_code == 201
    assert "is_default" not in placed.json()["shipping_address"]
    wrong = await shop.place(ada, shipping_address=an_address() | {"is_default": "yes"})
    problem(wrong, 422, "invalid-input", "/shipping_address/is_default")


@pytest.mark.one_shape
async def test_the_customer_chooses_how_to_pay(shop: Shop, ada: Customer) -> None:
    for method in ("cash_on_delivery", "card", "bank_transfer"):
        assert (await shop.place(ada, payment_method=method)).json()["payment_method"] == method


async def test_an_order_goes_to_an_address_of_the_account(shop: Shop, ada: Customer) -> None:
    stored = (await shop.add_address(ada, line2="Flat 1")).json()
    placed = await shop.place(ada, shipping_address_id=stored["id"])
    assert placed.status_code == 201
    goes_to = placed.json()["shipping_address"]
    assert goes_to == {name: value for name, value in stored.items() if name not in ("id", "is_default")}
    await shop.address(ada, stored["id"], method="DELETE")
    assert (await shop.get(ada, placed.json()["id"])).json()["shipping_address"] == goes_to


@pytest.mark.one_shape
async def test_an_order_goes_to_an_address_that_comes_with_it(shop: Shop, ada: Customer) -> None:
    order = (await shop.place(ada, shipping_address=an_address() | {"country": "gb"})).json()
    assert order["shipping_address"].items() >= an_address().items()
    assert (await shop.get(ada, order["id"])).json() == order
    assert (await shop.addresses(ada)).json() == []


@pytest.mark.one_shape
async def test_an_order_goes_to_one_place(shop: Shop, ada: Customer) -> None:
    stored = (await shop.add_address(ada)).json()
    answer = await shop.place(ada, shipping_address=an_address(), shipping_address_id=stored["id"])
    problem(answer, 422, "invalid-input", "/shipping_address_id")


async def test_an_order_cannot_go_to_somebody_elses_address(shop: Shop, ada: Customer, stranger: Customer) -> None:
    stored = (await shop.add_address(ada)).json()
    for address_id in (stored["id"], NO_ID, "no-id", "", ".", "..", "../../x", "?", "\U0001f3e0"):
        answer = await shop.place(stranger, shipping_address_id=address_id)
        problem(answer, 422, "invalid-input", "/shipping_address_id")
        assert "St James" not in answer.text
    assert (await shop.list(stranger)).json()["orders"] == []


@pytest.mark.one_shape
async def test_somebody_elses_order_does_not_exist(shop: Shop, ada: Customer, stranger: Customer) -> None:
    order = (await shop.place(ada)).json()
    hidden = problem(await shop.get(stranger, order["id"]), 404, "not-found")
    missing = problem(await shop.get(stranger, NO_ID), 404, "not-found")
    assert hidden["detail"] == missing["detail"]
    problem(await shop.get(ada, "no-id"), 404, "not-found")
    problem(await shop.get(stranger, order["id"], if_none_match='"1"'), 404, "not-found")


@pytest.mark.one_shape
async def test_staff_see_every_order(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = (await shop.place(ada)).json()
    seen = (await shop.get(staff, order["id"])).json()
    assert seen == order | {"buyer": {"name": "Ada Lovelace", "email": ada.email}, "undo_until": None}


@pytest.mark.one_shape
async def test_an_order_needs_somebody_who_places_it(shop: Shop) -> None:
    body = {"items": [{"product_id": 1, "quantity": 1}]}
    problem(await shop.raw("POST", "/api/orders/", json=body), 401, "unauthorized")
    problem(await shop.raw("GET", f"/api/orders/{NO_ID}"), 401, "unauthorized")


@pytest.mark.one_shape
async def test_order_numbers_are_never_given_twice(shop: Shop, ada: Customer, stranger: Customer) -> None:
    numbers = [(await shop.place(buyer)).json()["order_number"] for buyer in (ada, stranger) * 3]
    assert sorted(set(numbers)) == numbers


async def test_the_catalogue_can_be_read(shop: Shop) -> None:
    page = exact(await shop.products(page=2, limit=10))
    assert (page["page"], page["limit"]) == (2, 10)
    assert [product["id"] for product in page["products"]] == list(range(11, 21))
    first = page["products"][0]
    assert exact(await shop.product(first["id"])) == first
    assert isinstance(first["price"], int | Decimal)
    assert first["price"] > 0
    of_one = exact(await shop.products(category=first["category"]))["products"]
    assert {product["category"] for product in of_one} == {first["category"]}
    assert page["has_more"] is True
    last = exact(await shop.products(page=1000))
    assert (last["products"], last["has_more"]) == ([], False)
    assert exact(await shop.products(category="no such thing"))["products"] == []


@pytest.mark.parametrize(
    "product_id", ["0", "-1", "999999", "x", "1.0", "01", "9" * 20, "%00", "%FF", "a/b", "a%2Fb", "x" * 101]
)
async def test_a_product_that_is_not_there_is_not_found(shop: Shop, product_id: str) -> None:
    problem(await shop.product(product_id), 404, "not-found")


@pytest.mark.one_shape
@pytest.mark.parametrize(("name", "value"), [("page", "0"), ("limit", "0"), ("limit", "101"), ("limit", "x")])
async def test_a_page_of_the_catalogue_has_bounds(shop: Shop, name: str, value: str) -> None:
    problem(await shop.products(**{name: value}), 422, "invalid-input", f"/{name}")
