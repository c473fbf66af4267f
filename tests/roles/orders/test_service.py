"""The use cases of role orders, over the real store."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping

import pytest

from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import InvalidInput, NotFound, TooManyRequests, Unavailable
from purveyor.kit.ids import new_id
from purveyor.kit.limits.memory import Rate
from purveyor.roles.auth.contract import Address, GetAddress, GetProfile, Principal, Profile
from purveyor.roles.orders.contract import (
    KeyReused,
    ProductsUnavailable,
    RequestInProgress,
    TraceOrder,
    UnknownProduct,
)
from purveyor.roles.orders.model import Buyer, Draft, OrderFilter, Product, StoredAnswer
from purveyor.roles.orders.service import Orders
from purveyor.roles.orders.store import OrderStore
from roles.orders.samples import HOME, Shelf, Wakes, buyer, draft, home_of_ada, shop
from waiting import PATIENCE_S


@pytest.fixture
def store(database: Database) -> OrderStore:
    return OrderStore(database)


async def count(orders: Orders, who: Principal) -> int:
    return len((await orders.list(who, OrderFilter(), 100))[0])


async def test_an_order_is_answered_as_it_is_read(store: OrderStore) -> None:
    ada, wakes = buyer(), Wakes()
    orders = shop(store, wakes=wakes)
    stored = await orders.place(ada, draft((1, 2), (1, 1), (3, 1), note="x"))
    answer = json.loads(stored.answer)
    order = (await orders.get(ada, str(stored.order_id))).order

    assert wakes.count == 1
    assert (answer["id"], answer["order_number"], answer["user_id"]) == (str(order.id), order.number, ada.user_id)
    assert answer["items"] == [
        {
            "product_id": 1,
            "title": "Kettle",
            "quantity": 3,
            "price": 29.99,
            "price_minor": 2999,
            "total_amt": 89.97,
            "total_amt_minor": 8997,
        },
        {
            "product_id": 3,
            "title": "Tea, \u6f22 \U0001f375",
            "quantity": 1,
            "price": 0.01,
            "price_minor": 1,
            "total_amt": 0.01,
            "total_amt_minor": 1,
        },
    ]
    assert (answer["total_amount"], answer["currency"], order.total) == (89.98, "EUR", 8998)


async def test_the_price_is_the_catalogues_at_that_moment(store: OrderStore) -> None:
    ada, shelf = buyer(), Shelf()
    orders = shop(store, shelf)
    before = await orders.place(ada, draft((1, 1)))
    shelf.products[1] = Product(id=1, title="Kettle, new", price=1)
    after = await orders.place(ada, draft((1, 1)))

    assert (await orders.get(ada, str(before.order_id))).order.total == 2999
    assert (await orders.get(ada, str(after.order_id))).order.total == 1


async def test_an_address_is_copied_into_the_order(store: OrderStore) -> None:
    ada, orders = buyer(), shop(store)
    stored = await orders.place(ada, draft(), address_id="home")

    assert (await orders.get(ada, str(stored.order_id))).order.shipping_address == HOME
    with pytest.raises(InvalidInput):
        await orders.place(ada, draft(), address_id="of somebody else")
    assert await count(orders, ada) == 1


async def test_the_address_and_the_products_are_asked_for_at_once(store: OrderStore) -> None:
    asked = asyncio.Event()

    async def home(ask: GetAddress) -> Address:
        asked.set()
        return await home_of_ada(ask)

    class Waiting(Shelf):
        async def fetch(self, ids: Collection[int]) -> Mapping[int, Product]:
            async with asyncio.timeout(PATIENCE_S):
                await asked.wait()
            return await super().fetch(ids)

    ada, orders = buyer(), shop(store, Waiting(), home=home)
    stored = await orders.place(ada, draft(), address_id="home")
    assert (await orders.get(ada, str(stored.order_id))).order.shipping_address == HOME


@pytest.mark.parametrize(
    ("wanted", "closed", "error"),
    [
        (draft((99, 1)), False, UnknownProduct),
        (draft((1, 1000), (1, 1)), False, InvalidInput),
        (draft((1, 1)), True, ProductsUnavailable),
    ],
)
async def test_what_is_refused_is_not_kept_under_its_key(
    store: OrderStore, wanted: Draft, closed: bool, error: type[Exception]
) -> None:
    ada, shelf, wakes = buyer(), Shelf(), Wakes()
    orders = shop(store, shelf, wakes=wakes)
    shelf.closed = closed
    for _ in range(2):
        with pytest.raises(error):
            await orders.place(ada, wanted, key="key 1")
    shelf.closed = False

    assert (wakes.count, await count(orders, ada)) == (0, 0)
    assert not (await orders.place(ada, draft(), key="key 1")).replayed


async def test_the_first_answer_stands_whatever_has_changed(store: OrderStore) -> None:
    ada, shelf = buyer(), Shelf()
    orders = shop(store, shelf)
    first = await orders.place(ada, draft((1, 1)), address_id="home", key="key 1")
    again = StoredAnswer(first.order_id, first.answer, replayed=True)

    shelf.products[1] = Product(id=1, title="Kettle", price=1)
    assert await orders.place(ada, draft((1, 1)), address_id="home", key="key 1") == again
    shelf.products.clear()
    assert await orders.place(ada, draft((1, 1)), address_id="home", key="key 1") == again
    shelf.closed = True
    assert await orders.place(ada, draft((1, 1)), address_id="home", key="key 1") == again
    assert await count(orders, ada) == 1


@pytest.mark.parametrize(
    ("other", "address_id"),
    [
        (draft((1, 3)), None),
        (draft((2, 2)), None),
        (draft((1, 2), note="x"), None),
        (draft((1, 2), address=HOME), None),
        (draft((1, 2)), "home"),
        (draft((99, 1)), None),
    ],
)
async def test_a_key_with_another_request_is_refused(
    store: OrderStore, other: Draft, address_id: str | None
) -> None:
    ada, orders = buyer(), shop(store)
    await orders.place(ada, draft((1, 2)), key="key 1")

    with pytest.raises(KeyReused):
        await orders.place(ada, other, address_id=address_id, key="key 1")
    assert await count(orders, ada) == 1


async def test_without_a_key_every_request_is_an_order(store: OrderStore) -> None:
    ada, orders = buyer(), shop(store)
    for _ in range(2):
        await orders.place(ada, draft())

    assert await count(orders, ada) == 2


async def test_of_many_equal_requests_at_once_one_is_placed(store: OrderStore) -> None:
    ada, processes = buyer(), (shop(store), shop(store))
    outcomes = await asyncio.gather(
        *(processes[place % 2].place(ada, draft(), key="key 1") for place in range(30)), return_exceptions=True
    )
    placed = [outcome for outcome in outcomes if isinstance(outcome, StoredAnswer) and not outcome.replayed]

    assert len(placed) == 1
    assert {type(outcome) for outcome in outcomes} <= {StoredAnswer, RequestInProgress}
    assert await count(processes[0], ada) == 1
    assert (await processes[0].place(ada, draft(), key="key 1")).answer == placed[0].answer


async def test_a_limit_counts_each_buyer_apart(store: OrderStore) -> None:
    ada, eve, orders = buyer(), buyer(), shop(store, rate=Rate(2, 60))
    left = [(await orders.admit(ada)).remaining for _ in range(2)]

    assert left == [1, 0]
    with pytest.raises(TooManyRequests) as refusal:
        await orders.admit(ada)
    assert refusal.value.headers["RateLimit-Policy"] == '"orders";q=2;w=60'
    assert refusal.value.headers["RateLimit"].startswith('"orders";r=0;t=')
    assert 1 <= int(refusal.value.headers["Retry-After"]) <= 60
    assert (await orders.admit(eve)).remaining == 1


_OF_NOBODY: dict[str, Callable[[str], str]] = {
    "foreign": lambda order_id: order_id,
    "missing": lambda _: str(new_id()),
    "bare hex": lambda order_id: order_id.replace("-", ""),
    "a number": lambda _: "10001",
    "a path": lambda order_id: f"../{order_id}",
}


@pytest.mark.parametrize("name", _OF_NOBODY.values(), ids=_OF_NOBODY)
async def test_somebody_elses_order_does_not_exist(store: OrderStore, name: Callable[[str], str]) -> None:
    ada, eve, orders = buyer(), buyer(), shop(store)
    stored = await orders.place(ada, draft())

    with pytest.raises(NotFound) as refusal:
        await orders.get(eve, name(str(stored.order_id)))
    assert refusal.value.detail == "There is no such order."


async def test_a_customer_lists_only_their_own_orders_whatever_they_ask_for(store: OrderStore) -> None:
    ada, eve, orders = buyer(), buyer(), shop(store)
    stored = await orders.place(ada, draft())
    number = json.loads(stored.answer)["order_number"]

    for wanted in (
        OrderFilter(),
        OrderFilter(user_id=ada.user_id),
        OrderFilter(order_number=number),
        OrderFilter(status="pending"),
    ):
        assert await orders.list(eve, wanted, 10) == ([], None)
        page, following = await orders.list(ada, wanted, 10)
        assert ([each.order.id for each in page], following) == ([stored.order_id], None)


@pytest.mark.parametrize("access", ["staff", "admin"])
async def test_staff_see_every_order(store: OrderStore, access: str) -> None:
    ada, clerk, orders = buyer(), buyer(access), shop(store)
    stored = await orders.place(ada, draft())

    assert (await orders.get(clerk, str(stored.order_id))).order.user_id == ada.user_id
    assert (await orders.list(clerk, OrderFilter(), 1))[0][0].order.id == stored.order_id
    assert (await orders.list(clerk, OrderFilter(user_id=buyer().user_id), 1)) == ([], None)


async def test_a_cursor_is_given_exactly_while_more_is_there(store: OrderStore) -> None:
    ada, orders = buyer(), shop(store)
    ids = [(await orders.place(ada, draft())).order_id for _ in range(4)][::-1]
    first, following = await orders.list(ada, OrderFilter(), 2)
    second, end = await orders.list(ada, OrderFilter(after=following), 2)

    assert [each.order.id for each in (*first, *second)] == ids
    assert (following, end) == (ids[1], None)


async def test_products_as_they_can_be_ordered(store: OrderStore) -> None:
    shelf = Shelf()
    orders = shop(store, shelf)

    assert (await orders.product(2)).price == 550
    assert [product.id for product in (await orders.products(2, 2, None)).products] == [3]
    with pytest.raises(NotFound):
        await orders.product(99)
    shelf.closed = True
    with pytest.raises(ProductsUnavailable):
        await orders.product(2)


async def test_the_console_traces_an_order(store: OrderStore) -> None:
    orders = shop(store)
    stored = await orders.place(buyer(), draft(), key="key 1")

    assert (await orders.trace(TraceOrder(order=str(stored.order_id)))).order_id == str(stored.order_id)


async def test_an_order_is_for_the_current_profile_and_not_for_that_of_the_token(store: OrderStore) -> None:
    async def renamed(ask: GetProfile) -> Profile:
        return Profile(email="new@example.com", name="Ada King", language="fr")

    placed = await shop(store, profile=renamed).place(buyer(), draft())
    stored = await store.find(placed.order_id, None)
    assert stored.buyer == Buyer("Ada King", "new@example.com", "fr")


async def test_an_order_does_not_wait_for_profiles_while_auth_is_away(store: OrderStore) -> None:
    asked: list[str] = []

    async def away(ask: GetProfile) -> Profile:
        asked.append(ask.user_id)
        raise Unavailable

    orders, ada = shop(store, profile=away), buyer()
    for _ in range(3):
        placed = await orders.place(ada, draft())
        assert (await store.find(placed.order_id, None)).buyer.name == ada.name
    assert len(asked) == 1
