"""The rules of orders, as pure functions."""

import json
from collections import Counter
from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit.clock import now
from purveyor.kit.errors import InvalidInput
from purveyor.kit.events.message import encode
from purveyor.kit.ids import new_id
from purveyor.kit.money import MAX_MINOR
from purveyor.roles.orders.contract import IllegalTransition, ProductUnavailable, UnknownProduct
from purveyor.roles.orders.events import created_event
from purveyor.roles.orders.model import (
    MAX_QUANTITY,
    NEXT_PAYMENT_STATUS,
    NEXT_STATUS,
    Buyer,
    Order,
    Product,
    Unsellable,
)
from purveyor.roles.orders.schemas import order_view
from roles.orders.samples import HOME, SHELF, buyer, draft

ADA = buyer()
_CATALOGUE = st.dictionaries(st.integers(1, 50), st.integers(0, 10**9), min_size=1, max_size=20)


def place(*lines: tuple[int, int], prices: dict[int, int] | None = None) -> Order:
    products = SHELF
    if prices is not None:
        products = {number: Product(id=number, title=f"P{number}", price=p) for number, p in prices.items()}
    return Order.place(new_id(), ADA, draft(*lines), products, currency="EUR", at=now())


def test_a_new_order_waits_unpaid_at_the_catalogues_prices() -> None:
    at, order_id = now(), new_id()
    wanted = draft((2, 3), (1, 1), address=HOME, note="ring twice")
    order = Order.place(order_id, ADA, wanted, SHELF, currency="CHF", at=at)

    assert (order.id, order.user_id, order.number, order.version) == (order_id, ADA.user_id, 0, 1)
    assert (order.status, order.payment_status, order.payment_method) == ("pending", "unpaid", "card")
    assert (order.currency, order.total) == ("CHF", 3 * 550 + 2999)
    assert [(line.product_id, line.title, line.quantity, line.price, line.total) for line in order.lines] == [
        (2, 'Cup "Ada"', 3, 550, 1650),
        (1, "Kettle", 1, 2999, 2999),
    ]
    assert (order.shipping_address, order.note, order.created_at, order.updated_at) == (HOME, "ring twice", at, at)


@pytest.mark.parametrize(
    ("currency", "price", "amounts"),
    [
        ("KWD", 1255, ("1.255", "3.765")),
        ("KWD", 1000, ("1", "3")),
        ("JPY", 499, ("499", "1497")),
        ("EUR", 1255, ("12.55", "37.65")),
        ("EUR", 0, ("0", "0")),
    ],
)
def test_amounts_of_answer_and_event_have_the_decimals_of_the_currency(
    currency: str, price: int, amounts: tuple[str, str]
) -> None:
    shelf = {1: Product(id=1, title="Kettle", price=price)}
    order = Order.place(new_id(), ADA, draft((1, 3)), shelf, currency=currency, at=now())
    answer = json.loads(encode(order_view(order)), parse_float=Decimal)
    event = json.loads(created_event(order, Buyer(ADA.name, ADA.email, "en")).body, parse_float=Decimal)

    each, total = map(Decimal, amounts)
    assert (answer["total_amount"], answer["total_minor"], answer["currency"]) == (total, 3 * price, currency)
    assert (event["total_amount"], event["currency"]) == (total, currency)
    for (line,) in (answer["items"], event["items"]):
        assert (line["price"], line["total_amt"]) == (each, total)
    assert answer["items"][0]["price_minor"] == price


def test_the_same_product_twice_is_one_line_where_it_stood_first() -> None:
    order = place((2, 3), (1, 1), (2, 4))

    assert [(line.product_id, line.quantity) for line in order.lines] == [(2, 7), (1, 1)]


@given(st.data())
def test_the_total_is_the_sum_whatever_is_ordered(data: st.DataObject) -> None:
    prices = data.draw(_CATALOGUE)
    line = st.tuples(st.sampled_from(sorted(prices)), st.integers(1, 10))
    lines = data.draw(st.lists(line, min_size=1, max_size=100))
    order = place(*lines, prices=prices)
    wanted: Counter[int] = Counter()
    for product_id, quantity in lines:
        wanted[product_id] += quantity

    assert order.total == sum(prices[product_id] * quantity for product_id, quantity in lines)
    assert order.total == sum(line.total for line in order.lines)
    assert {line.product_id: line.quantity for line in order.lines} == wanted
    assert [line.product_id for line in order.lines] == list(dict.fromkeys(product_id for product_id, _ in lines))
    assert all(line.price == prices[line.product_id] for line in order.lines)


@given(st.lists(st.integers(1, MAX_QUANTITY), min_size=1, max_size=4))
def test_a_merged_quantity_has_the_bound_of_a_single_one(quantities: list[int]) -> None:
    lines = [(1, quantity) for quantity in quantities]
    if sum(quantities) <= MAX_QUANTITY:
        assert place(*lines).lines[0].quantity == sum(quantities)
        return

    with pytest.raises(InvalidInput) as refusal:
        place(*lines)
    over = next(p for p in range(len(quantities)) if sum(quantities[: p + 1]) > MAX_QUANTITY)
    assert [field.pointer for field in refusal.value.errors] == [f"/items/{over}/quantity"]


@given(st.integers(0, MAX_MINOR), st.integers(1, MAX_QUANTITY))
def test_a_total_is_exact_for_every_json_reader_or_refused(price: int, quantity: int) -> None:
    if price * quantity <= MAX_MINOR:
        assert place((7, quantity), prices={7: price}).total == price * quantity
        return

    with pytest.raises(InvalidInput) as refusal:
        place((7, quantity), prices={7: price})
    assert [field.pointer for field in refusal.value.errors] == ["/items"]


def test_the_largest_total_there_is() -> None:
    assert place((7, 1), prices={7: MAX_MINOR}).total == 2**53
    with pytest.raises(InvalidInput):
        place((7, 1), (8, 1), prices={7: MAX_MINOR, 8: 1})


def test_each_line_with_an_unknown_product_is_named() -> None:
    with pytest.raises(UnknownProduct) as refusal:
        place((1, 1), (99, 1), (2, 1), (98, 1), (99, 2))

    assert refusal.value.detail == "The catalog does not contain these products: 99, 98."
    assert [field.pointer for field in refusal.value.errors] == [
        "/items/1/product_id",
        "/items/3/product_id",
        "/items/4/product_id",
    ]


def test_each_line_that_cannot_be_sold_is_named() -> None:
    unsellable = {number: Unsellable(id=number, why="its price is missing") for number in (7, "7")}
    with pytest.raises(ProductUnavailable) as refusal:
        Order.place(new_id(), ADA, draft((1, 1), (7, 1), ("7", 2)), SHELF | unsellable, currency="EUR", at=now())

    assert (refusal.value.code, refusal.value.status) == ("product-unavailable", 422)
    assert refusal.value.detail == (
        'These products cannot be sold now: 7 (its price is missing), "7" (its price is missing).'
    )
    assert [(field.pointer, field.detail) for field in refusal.value.errors] == [
        ("/items/1/product_id", "product 7 cannot be sold now: its price is missing"),
        ("/items/2/product_id", 'product "7" cannot be sold now: its price is missing'),
    ]

    with pytest.raises(UnknownProduct) as both:
        Order.place(new_id(), ADA, draft((7, 1), (99, 1)), SHELF | unsellable, currency="EUR", at=now())
    assert [field.pointer for field in both.value.errors] == ["/items/0/product_id", "/items/1/product_id"]


def test_number_and_text_are_different_products() -> None:
    products: dict[int | str, Product | Unsellable] = {
        number: Product(id=number, title="Lamp", price=price) for number, price in ((1, 100), ("1", 200))
    }
    order = Order.place(new_id(), ADA, draft((1, 1), ("1", 2), (1, 3)), products, currency="EUR", at=now())

    assert [(line.product_id, line.quantity, line.total) for line in order.lines] == [(1, 4, 400), ("1", 2, 400)]


def test_a_gift_costs_nothing() -> None:
    assert place((7, 3), prices={7: 0}).total == 0


def test_unknown_products_are_told_before_quantities() -> None:
    with pytest.raises(UnknownProduct):
        place((1, MAX_QUANTITY), (1, 1), (99, 1))


STATUS_STEPS = {
    ("pending", "confirmed"),
    ("confirmed", "shipped"),
    ("shipped", "delivered"),
    ("pending", "cancelled"),
    ("confirmed", "cancelled"),
}
PAYMENT_STEPS = {("unpaid", "paid"), ("paid", "refunded")}
_STATUSES = st.sampled_from(["pending", "confirmed", "shipped", "delivered", "cancelled"])
_PAYMENTS = st.sampled_from(["unpaid", "paid", "refunded"])


def an_order(status: str, payment_status: str) -> Order:
    return msgspec.structs.replace(place((1, 1)), status=status, payment_status=payment_status, version=7)


@given(_STATUSES, _STATUSES, _PAYMENTS)
def test_an_order_takes_the_steps_that_there_are_and_no_others(now_is: str, wanted: str, payment: str) -> None:
    order, at = an_order(now_is, payment), now()
    if (now_is, wanted) in STATUS_STEPS:
        changed = order.become(status=wanted, at=at)
        assert (changed.status, changed.payment_status, changed.version) == (wanted, payment, 8)
        assert changed == msgspec.structs.replace(order, status=wanted, version=8, updated_at=at)
        return

    with pytest.raises(IllegalTransition) as refusal:
        order.become(status=wanted, at=at)
    allowed = [after for before, after in sorted(STATUS_STEPS) if before == now_is]
    assert f"is {now_is} and cannot become {wanted}" in refusal.value.detail
    assert all(status in refusal.value.detail.partition("can become")[2] for status in allowed)
    assert bool(allowed) != refusal.value.detail.endswith("nothing else.")


@given(_PAYMENTS, _PAYMENTS, _STATUSES)
def test_a_payment_takes_its_own_steps_in_every_status(now_is: str, wanted: str, status: str) -> None:
    order = an_order(status, now_is)
    if (now_is, wanted) in PAYMENT_STEPS:
        changed = order.become(payment_status=wanted, at=now())
        assert (changed.status, changed.payment_status, changed.version) == (status, wanted, 8)
        return

    with pytest.raises(IllegalTransition, match=f"payment is {now_is} and cannot become {wanted}"):
        order.become(payment_status=wanted, at=now())


@given(st.lists(st.tuples(st.none() | _STATUSES, st.none() | _PAYMENTS), max_size=12))
def test_whatever_is_tried_an_order_stays_on_its_way(wishes: list[tuple[str | None, str | None]]) -> None:
    order = place((1, 1))
    seen = [(order.status, order.payment_status)]
    for status, payment_status in wishes:
        try:
            changed = order.become(status=status, payment_status=payment_status, at=now())
        except IllegalTransition:
            continue
        assert changed.version == order.version + 1
        order = changed
        seen.append((order.status, order.payment_status))

    for (status, payment), (next_status, next_payment) in pairwise(seen):
        assert (status, next_status) in STATUS_STEPS or status == next_status
        assert (payment, next_payment) in PAYMENT_STEPS or payment == next_payment
    assert (order.lines, order.total, order.id) == (place((1, 1)).lines, 2999, order.id)


def test_every_state_that_can_come_has_its_own_following_states() -> None:
    for steps in (NEXT_STATUS, NEXT_PAYMENT_STATUS):
        assert {state for following in steps.values() for state in following} < set(steps)
