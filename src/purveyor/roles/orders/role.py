"""The declaration of role orders."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from purveyor.kit.limits.memory import Rate
from purveyor.kit.role import Actor, Env, Role
from purveyor.roles.auth.contract import Identity, UserErased, UserExportRequested
from purveyor.roles.email.contract import MailSettled
from purveyor.roles.orders.contract import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderDataErased,
    OrderDataExported,
    OrderDelivered,
    OrderShipped,
)
from purveyor.settings import Url


class OrdersSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of role orders."""

    products_api: Annotated[Url, Meta(description="base URL of the product API; empty: bundled catalog")] = Url()
    rate_limit_orders: Annotated[Rate, Meta(description="rate limit for placing orders, per user")] = Rate(60, 60)
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$", description="ISO 4217 code of all prices")] = "EUR"
    event_backlog_max_events: Annotated[
        int, Meta(ge=1, description="refuse new orders while this many events wait for the broker")
    ] = 100_000
    event_backlog_max_age_s: Annotated[
        float, Meta(gt=0, description="refuse new orders while an event has waited this many seconds")
    ] = 86_400.0


@asynccontextmanager
async def build(env: Env, settings: OrdersSettings) -> AsyncIterator[Actor]:
    """Start role orders."""
    from purveyor.roles.orders.assembly import assemble
    from purveyor.roles.orders.products.bundled import BundledProducts
    from purveyor.roles.orders.products.client import ProductApi, Products

    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(env.database())
        products: Products = BundledProducts()
        if settings.products_api:
            api = ProductApi(settings.products_api, shared=env.shared_cache)
            products = await stack.enter_async_context(aclosing(api))
        yield assemble(env, settings, database, products)


ROLE = Role(
    name="orders",
    serves="orders from placing to delivery, and the products that can be ordered",
    settings=OrdersSettings,
    build=build,
    needs=(Identity,),
    emits=(
        OrderCreated,
        OrderConfirmed,
        OrderShipped,
        OrderDelivered,
        OrderCancelled,
        OrderDataErased,
        OrderDataExported,
    ),
    consumes={
        MailSettled: "mail.settled",
        UserErased: "user.erased.orders",
        UserExportRequested: "user.export_requested.orders",
    },
    migrations=Path(__file__).with_name("migrations"),
)
