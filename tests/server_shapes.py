"""The shapes on real servers: everything in one process, and one process per role."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from own_processes import own_processes
from purveyor.kit.role import BUILT_IN
from purveyor.registry import ROLES
from purveyor_drill.servers.pgbouncer import PgBouncerServer
from purveyor_drill.servers.process import free_port
from real_servers import BROKER, Broker, only, require_servers
from running import Running, public_client
from shop import Deployment

_INSTALLED = {name: role for name, role in ROLES.items() if role.origin != BUILT_IN}
"""The roles of other packages."""
_WHO_SERVES = {
    "/": "auth",
    "/api": "orders",
    "/catalog": "catalog",
    **dict.fromkeys(("/api/mails", "/api/dead-letters", "/static/shop"), "shop"),
    **{f"/api/{name}": name for name in _INSTALLED},
}
SECRET = {"JWT_SECRET": "a secret for tests that is long enough"}
PATIENT = {"TEST_PATIENCE_S": "60"}
"""What these tests are about does not change because the machine is busy."""


@asynccontextmanager
async def monolith(folder: Path, broker: Broker = "rabbitmq") -> AsyncIterator[Deployment]:
    """Every role in one process, on PostgreSQL, Redis, a broker, MongoDB and SMTP."""
    servers = require_servers()
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(
            own_processes(folder, **servers.place(broker), **SECRET, **PATIENT)
        )
        house.start("all", "serve", ",".join(ROLES))
        await house.ready("all")
        client = await stack.enter_async_context(public_client(house.ports["all"]))
        yield Running({"/": client}, house.settings, folder, servers.mails.read, shows_mailbox=False)


@asynccontextmanager
async def pooled(folder: Path) -> AsyncIterator[Deployment]:
    """Every role in one process, behind PgBouncer in transaction mode, which also carries the events."""
    servers = require_servers()
    if reason := PgBouncerServer.available():
        pytest.skip(f"no {PgBouncerServer.name}: {reason}")
    async with AsyncExitStack() as stack:
        pooler = stack.enter_context(PgBouncerServer(servers.postgres.url))
        direct = servers.create_database("shop")
        place = {"DATABASE_URL": pooler.database_url(direct), "EMAIL_DATABASE_URL": direct}
        place |= {"REDIS_URL": servers.redis_url(), **servers.mail_settings(), **SECRET, **PATIENT}
        house = await stack.enter_async_context(own_processes(folder, **place))
        house.start("all", "serve", ",".join(ROLES))
        await house.ready("all")
        client = await stack.enter_async_context(public_client(house.ports["all"]))
        yield Running({"/": client}, house.settings, folder, servers.mails.read, shows_mailbox=False)


@asynccontextmanager
async def split(folder: Path, broker: Broker = "rabbitmq") -> AsyncIterator[Deployment]:
    """One process per role, each with the settings that it needs and no others."""
    servers = require_servers()
    place = servers.place(broker) | SECRET
    ports = {name: free_port() for name in ("auth", "orders", "email", "catalog", *_INSTALLED)}
    asked = "auth", "orders", "email", *_INSTALLED
    place |= {f"{name.upper()}_SERVICE": f"http://127.0.0.1:{ports[name]}" for name in asked}
    place["PRODUCTS_API"] = f"http://127.0.0.1:{ports['catalog']}/catalog/products"
    needs = {
        "auth": only(place, "DATABASE_URL", "REDIS_URL", *BROKER, "JWT_SECRET"),
        "catalog": {},
        "orders": only(place, "DATABASE_URL", "REDIS_URL", *BROKER, "AUTH_SERVICE", "PRODUCTS_API"),
        "email": only(place, *BROKER, "MONGODB_URI", "SMTP_URL", "EMAIL_USER", "EMAIL_PASS", "EMAIL_FROM"),
        "shop": only(place, *BROKER, "AUTH_SERVICE", "ORDERS_SERVICE", "EMAIL_SERVICE"),
    }
    for name, role in _INSTALLED.items():
        needs[name] = only(place, "DATABASE_URL", *BROKER, *(port.setting for port in role.needs))
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(own_processes(folder, **PATIENT))
        house.ports.update(ports)
        for role, settings in needs.items():
            house.start(role, "serve", role, settings)
        await house.ready(*needs)
        clients = {
            prefix: await stack.enter_async_context(public_client(house.ports[role]))
            for prefix, role in _WHO_SERVES.items()
        }
        settings = {**house.settings, **place}
        yield Running(clients, settings, folder, servers.mails.read, shows_mailbox=False)
