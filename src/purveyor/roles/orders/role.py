"""The declaration of role orders."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from purveyor.kit.ratelimit import Rate
from purveyor.kit.role import Actor, Background, Check, Env, Role
from purveyor.roles.auth.contract import Identity
from purveyor.roles.orders.contract import OrderCreated, TraceOrder
from purveyor.settings import Url

_PURGE_EVERY_S = 600.0


class OrdersSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of role orders."""

    products_api: Annotated[Url, Meta(description="base URL of the product API; empty: the bundled catalogue")] = (
        Url()
    )
    rate_limit_orders: Annotated[Rate, Meta(description="orders per user")] = Rate(60, 60)
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="ISO 4217 code of all prices")] = "EUR"


@asynccontextmanager
async def build(env: Env, settings: OrdersSettings) -> AsyncIterator[Actor]:
    """Start role orders."""
    from purveyor.kit.outbox import Outbox, Relay
    from purveyor.roles.orders.products import ProductApi, Products
    from purveyor.roles.orders.products_bundled import BundledProducts
    from purveyor.roles.orders.routes import order_routes
    from purveyor.roles.orders.service import Orders
    from purveyor.roles.orders.store import PostgresOrders

    identity = env.port(Identity)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(env.database())
        products: Products = BundledProducts()
        if settings.products_api:
            api = ProductApi(settings.products_api, shared=env.shared_cache)
            products = await stack.enter_async_context(aclosing(api))
        book = PostgresOrders(database)
        relay = Relay(database, "orders", env.events)
        orders = Orders(
            book,
            products,
            identity,
            env.limiter,
            rate=settings.rate_limit_orders,
            currency=settings.currency,
            committed=relay.wake,
        )
        source = "external" if settings.products_api else "embedded"
        yield Actor(
            routes=order_routes(orders, identity, settings.currency),
            answers={TraceOrder: orders.trace},
            background=[Background("relay", relay.run), Background("purge", partial(_regularly, book.purge))],
            checks=[
                Check("postgres orders", env.database_kind, database.check),
                Check("products", source, products.check, required=False),
                *env.shared_checks,
            ],
            outbox=Outbox(database, "orders"),
        )


async def _regularly(purge: Callable[[], Awaitable[object]]) -> None:
    while True:
        await purge()
        await asyncio.sleep(_PURGE_EVERY_S)


ROLE = Role(
    name="orders",
    serves="placing and reading orders; the catalogue as it can be ordered",
    settings=OrdersSettings,
    build=build,
    needs=(Identity,),
    emits=(OrderCreated,),
    migrations=Path(__file__).with_name("migrations"),
)
