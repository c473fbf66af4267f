"""What the tests of role orders share: buyers, products, drafts, orders as they are stored."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime

import msgspec

from purveyor.kit.clock import now
from purveyor.kit.errors import NotFound
from purveyor.kit.ids import first_id_of, new_id
from purveyor.kit.limits.memory import MemoryLimiter, Rate
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import Address, GetAddress, GetProfile, Principal, Profile
from purveyor.roles.orders.contract import ProductId, ProductsUnavailable
from purveyor.roles.orders.events import created_event
from purveyor.roles.orders.model import (
    Buyer,
    Draft,
    DraftLine,
    IdempotencyKey,
    NewOrder,
    Order,
    Product,
    ProductSlice,
    Unsellable,
)
from purveyor.roles.orders.schemas import answer_of
from purveyor.roles.orders.service import Orders
from purveyor.roles.orders.store import OrderStore
from purveyor.transports.local import LocalAsker

HOME = Address(recipient="Ada", line1="1 High Street", city="Berlin", postal_code="10115", country="DE")
SHELF: dict[ProductId, Product] = {
    1: Product(id=1, title="Kettle", price=2999),
    2: Product(id=2, title='Cup "Ada"', price=550),
    3: Product(id=3, title="Tea, \u6f22 \U0001f375", price=1),
}


def buyer(access: str = "customer") -> Principal:
    user_id = str(new_id())
    return Principal(
        user_id=user_id,
        email=f"{user_id}@example.com",
        name="Ada Lovelace",
        access=access,
        language="de",
        expires_at=2e9,
        token="token",
    )


def draft(*lines: tuple[ProductId, int], address: Address | None = None, note: str = "") -> Draft:
    wanted = lines or ((1, 2), (2, 1))
    return Draft(
        lines=tuple(DraftLine(product_id, quantity) for product_id, quantity in wanted),
        payment_method="card",
        shipping_address=address,
        note=note,
    )


def new_order(
    who: Principal,
    wanted: Draft | None = None,
    key: IdempotencyKey | None = None,
    at: datetime | None = None,
) -> NewOrder:
    order_id = first_id_of(at) if at else new_id()
    order = Order.place(order_id, who, wanted or draft(), SHELF, currency="EUR", at=at or now())
    known = Buyer(who.name, who.email, who.language)
    return NewOrder(
        order=order,
        buyer_email=who.email,
        buyer_name=who.name,
        answer=answer_of(order),
        event=msgspec.structs.replace(created_event(order, known), correlation_id="request 1"),
        key=key,
    )


class Shelf:
    """Satisfies ``Products`` from a table that a test may empty, change or close."""

    def __init__(self) -> None:
        self.products: dict[ProductId, Product | Unsellable] = dict(SHELF)
        self.closed = False

    async def fetch(self, ids: Collection[ProductId]) -> Mapping[ProductId, Product | Unsellable]:
        if self.closed:
            raise ProductsUnavailable
        return {number: self.products[number] for number in ids if number in self.products}

    async def page(self, page: int, limit: int, category: str | None) -> ProductSlice:
        sellable = [product for product in self.products.values() if isinstance(product, Product)]
        return ProductSlice(sellable[(page - 1) * limit : page * limit], len(self.products) > page * limit)

    async def check(self) -> str:
        return f"{len(self.products)} products"


async def home_of_ada(ask: GetAddress) -> Address:
    """Answers as role auth does; the one address there is has the id ``home``."""
    if ask.address_id != "home":
        raise NotFound("There is no such address.")
    return HOME


async def no_profile(_: GetProfile) -> Profile:
    """Answers as a foreign auth service without profiles does."""
    raise NotFound("There is no such account.")


def identity(
    home: Callable[[GetAddress], Awaitable[Address]] = home_of_ada,
    profile: Callable[[GetProfile], Awaitable[Profile]] = no_profile,
) -> Identity:
    """Role auth as orders ask it."""
    return Identity(LocalAsker({GetAddress: home, GetProfile: profile}, timeout_s=2))


class Wakes:
    """Counts how often the relay was woken."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


def shop(
    store: OrderStore,
    shelf: Shelf | None = None,
    rate: Rate | None = None,
    wakes: Wakes | None = None,
    home: Callable[[GetAddress], Awaitable[Address]] = home_of_ada,
    *,
    profile: Callable[[GetProfile], Awaitable[Profile]] = no_profile,
) -> Orders:
    return Orders(
        store,
        shelf or Shelf(),
        identity(home, profile),
        MemoryLimiter(),
        rate=rate or Rate(1000, 60),
        currency="EUR",
        committed=wakes or Wakes(),
    )
