"""Declaration of role shop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from purveyor.kit.role import Actor, Env, Role
from purveyor.roles.auth.client import Identity
from purveyor.roles.email.contract import Email
from purveyor.roles.orders.contract import Orders
from purveyor.roles.shop.settings import ShopSettings


@asynccontextmanager
async def build(env: Env, settings: ShopSettings) -> AsyncIterator[Actor]:
    """Run the role: routes only. It keeps nothing, and asks the other roles."""
    from purveyor.roles.shop.desk import desk_routes
    from purveyor.roles.shop.mailbox import mailbox_routes
    from purveyor.roles.shop.routes import storefront_routes

    identity, orders, email = env.port(Identity), env.port(Orders), env.port(Email)
    routes = [
        *storefront_routes(email, settings, development=not env.production),
        *desk_routes(identity, orders, email, env.events),
    ]
    if not env.production and not env.is_here(Email):  # role email serves its mailbox itself where it runs
        routes += mailbox_routes(email)
    yield Actor(routes=routes)


ROLE = Role(
    name="shop",
    serves="the storefront and the order desk",
    settings=ShopSettings,
    build=build,
    needs=(Identity, Orders, Email),
    reads_events=True,
    tags={"desk": "For staff: emails about orders, and events that could not be handled."},
    pages={"Shop": "/", "Mailbox": "/mailbox"},
)
