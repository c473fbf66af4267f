"""An installation whose processes are killed at named points, and what a client and an auditor see of it."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import asyncpg
import httpx

from faults.crash_brokers import Broker, broker_of
from own_processes import Processes, own_processes
from purveyor.kit.db.postgres import open_database
from purveyor.kit.failpoints import VARIABLE
from purveyor.registry import ROLES
from purveyor.roles.email.ledger.mongo import MongoLedger, open_ledger
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.ports import DoubtPolicy, Ledger
from purveyor_drill.servers.process import free_port
from real_servers import BROKER, only, require_servers
from real_servers import Broker as BrokerName
from running import Running, public_client
from server_shapes import SECRET
from shop import Customer, Shop

Shape = Literal["monolith", "split"]

PATIENCE_S = 40.0
ORDERS_ONLY = "DATABASE_URL", "REDIS_URL", *BROKER, "AUTH_SERVICE", "PRODUCTS_API"
EMAIL_ONLY = *BROKER, "MONGODB_URI", "SMTP_URL", "EMAIL_USER", "EMAIL_PASS", "EMAIL_FROM"
# So that a frozen relay's rows and a held statement are free again soon.
IMPATIENT = "idle_in_transaction_session_timeout=2000&lock_timeout=1000"


async def until(condition: Callable[[], Awaitable[Any]], what: str, within_s: float = PATIENCE_S) -> Any:
    """What the condition gives as soon as it is true; fails when that takes too long."""
    deadline = time.monotonic() + within_s
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.02)
    return found


@dataclass
class Program:
    """How one process is run: its command, its roles, the settings that no other has."""

    command: str
    roles: str
    settings: dict[str, str] = field(default_factory=dict)


@dataclass
class Installation:
    """The monolith keeps its mails in PostgreSQL, the split shape in MongoDB: both ledgers meet every crash."""

    shape: Shape
    policy: DoubtPolicy
    processes: Processes
    programs: dict[str, Program]
    shop: Shop
    database: asyncpg.Pool
    broker: Broker
    ledger: Ledger
    buyer: Customer = None  # type: ignore[assignment]  # who needs the installation to run
    _keys: Any = field(default_factory=itertools.count)

    @property
    def front(self) -> str:
        """The process that takes orders and relays their events."""
        return "all" if self.shape == "monolith" else "orders"

    @property
    def mails(self) -> str:
        """The process that consumes events and sends mails."""
        return "all" if self.shape == "monolith" else "email"

    async def start(self, *names: str) -> None:
        """Run these processes, with no point set."""
        for name in names:
            program = self.programs[name]
            settings = program.settings | {VARIABLE: str(self._points(name))}
            self.arm(name, "")
            self.processes.start(name, program.command, program.roles, settings)
        await self.processes.ready(*names)

    @asynccontextmanager
    async def peer(self, name: str) -> AsyncIterator[str]:
        """A second process like the named one, meanwhile."""
        twin = f"{name}-2"
        self.programs[twin] = self.programs[name]
        await self.start(twin)
        try:
            yield twin
        finally:
            await self.processes.end(twin)

    def arm(self, name: str, points: str) -> None:
        """Set points of a process that runs."""
        draft = self._points(name).with_suffix(".draft")
        draft.write_text(points)
        draft.rename(self._points(name))

    def _points(self, name: str) -> Path:
        return self.processes.folder / f"points-{name}"

    async def back_after_death(self, name: str) -> None:
        """Wait until the point has killed the process, and start it again."""
        await self.processes.died(name)
        await self.start(name)

    def key(self) -> str:
        """An Idempotency-Key that is new; it is the order's note too, by which an auditor finds it."""
        return f"crash-{next(self._keys)}"

    async def place(self, key: str, shop: Shop | None = None) -> httpx.Response | None:
        """Try once to place the order of this key; ``None`` when the connection was cut."""
        try:
            return await (shop or self.shop).place(self.buyer, [(1, 2)], key=key, note=key)
        except httpx.TransportError:
            return None

    async def insist(self, key: str) -> httpx.Response:
        """Try until the order is placed, as a good client does; the answer."""

        async def placed() -> httpx.Response | None:
            answer = await self.place(key)
            if answer is None or answer.status_code in {409, 429, 503}:
                return None
            assert answer.status_code == 201, answer.text
            return answer

        found: httpx.Response = await until(placed, f"order {key}")
        return found

    async def orders(self, key: str) -> Sequence[asyncpg.Record]:
        """Every order of this key."""
        return await self.database.fetch("select id::text, number from orders.orders where note = $1", key)

    async def events(self, order_id: str) -> Sequence[asyncpg.Record]:
        """Every event of an order's creation."""
        return await self.database.fetch(
            "select id::text, published_at from orders.outbox where subject = $1 and type = 'order.created'",
            order_id,
        )

    async def waiting(self) -> dict[str, int]:
        """How much lies in each outbox and in each queue."""
        schemas = ["auth", "orders", *(["email"] if isinstance(self.ledger, PostgresLedger) else [])]
        count = "select count(*) from {}.outbox where published_at is null"
        found = {f"outbox of {schema}": await self.database.fetchval(count.format(schema)) for schema in schemas}
        found |= await self.broker.waiting([queue.name for role in ROLES.values() for queue in role.queues()])
        return {name: count for name, count in found.items() if count}

    async def settle(self) -> None:
        """Wait until nothing is under way: no event, no mail that can still be sent, no report."""

        left: object = None

        async def quiet() -> bool:
            nonlocal left
            under_way = [
                *[record for state in ("pending", "claimed", "data", "retry")
                  for record in await self.ledger.list(state, (), 10)],
                *(await self.ledger.unreported(10) if isinstance(self.ledger, MongoLedger) else ()),
            ]  # fmt: skip
            left = under_way, await self.waiting()
            return left == ([], {})

        try:
            await until(quiet, "nothing is left")
        except AssertionError as late:
            raise AssertionError(f"{late}: {left}") from late


async def _needed(shape: Shape, place: dict[str, str], ports: dict[str, int]) -> dict[str, Program]:
    if shape == "monolith":
        own = {name: value for name, value in place.items() if name != "MONGODB_URI"}
        return {"all": Program("serve", ",".join(ROLES), own)}
    place = place | {
        "AUTH_SERVICE": f"http://127.0.0.1:{ports['auth']}",
        "PRODUCTS_API": f"http://127.0.0.1:{ports['catalog']}/catalog/products",
    }
    return {
        "auth": Program("serve", "auth", only(place, "DATABASE_URL", "REDIS_URL", *BROKER, "JWT_SECRET")),
        "catalog": Program("serve", "catalog"),
        "orders": Program("serve", "orders", only(place, *ORDERS_ONLY)),
        "email": Program("worker", "email", only(place, *EMAIL_ONLY)),
    }


@asynccontextmanager
async def opened_ledger(place: dict[str, str], shape: Shape) -> AsyncIterator[Ledger]:
    """The mail ledger of an installation."""
    if shape == "split":
        async with open_ledger(place["MONGODB_URI"]) as mongo:
            yield mongo
    else:
        async with open_database(place["DATABASE_URL"], application="tests", max_size=2) as database:
            yield PostgresLedger(database)


@asynccontextmanager
async def installation(
    shape: Shape, policy: DoubtPolicy, broker: BrokerName, folder: Path
) -> AsyncIterator[Installation]:
    """An installation with a buyer, on the shared servers but in a place of its own; empty again at the end."""
    servers = require_servers()
    place = servers.place(broker) | SECRET
    dsn = place["DATABASE_URL"]
    place["DATABASE_URL"] = f"{dsn}{'&' if '?' in dsn else '?'}{IMPATIENT}"
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(
            own_processes(folder, MAIL_DOUBTFUL=policy, RATE_LIMIT_ORDERS="100000/minute")
        )
        processes.ports.update({name: free_port() for name in ("auth", "catalog", "orders", "all")})
        programs = await _needed(shape, place, processes.ports)
        fronts = {"/": "auth", "/api": "orders"} if shape == "split" else {"/": "all"}
        clients = {
            prefix: await stack.enter_async_context(public_client(processes.ports[name]))
            for prefix, name in fronts.items()
        }
        running = Running(clients, place, folder, servers.mails.read, shows_mailbox=False)
        made = Installation(
            shape,
            policy,
            processes,
            programs,
            Shop(running),
            await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=0, max_size=4)),
            await stack.enter_async_context(broker_of(place)),
            await stack.enter_async_context(opened_ledger(place, shape)),
        )
        await made.start(*programs)
        made.buyer = await made.shop.customer()

        async def welcomed() -> Sequence[object]:
            return await made.ledger.list("sent", (), 1)

        await until(welcomed, "the buyer's welcome mail is sent")  # or it would meet the first crash
        await made.settle()
        yield made
        await processes.stop()  # what was delivered and never acked goes back to its queue, and shows
        left = await made.waiting()
        assert not left, left
