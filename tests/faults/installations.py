"""Installations on real servers, with a proxy before each server and before each process that serves."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import httpx
from pymongo import MongoClient

from faults.proxy import Proxy
from faults.proxy.amqp import Amqp
from faults.proxy.conversation import Speaks
from faults.proxy.conversations import InTurn, Smtp
from faults.proxy.postgres import Postgres
from own_processes import Processes, own_processes
from purveyor.registry import ROLES
from purveyor_drill.servers.process import free_port
from real_servers import RealServers, require_servers
from running import Running, public_client
from server_shapes import SECRET
from shop import Customer, Mail, Shop

RECOVERED = "recovered"
"""Name of the recorded property: installation, fault, seconds until the first success."""

FINAL = ("sent", "failed", "unknown")
_SPLIT_ROLES = ("auth", "catalog", "orders", "email")

_SPEAKS: Mapping[str, Speaks] = {
    "DATABASE_URL": Postgres,
    "REDIS_URL": InTurn,
    "RABBITMQ_URL": Amqp,
    "MONGODB_URI": InTurn,
    "SMTP_URL": Smtp,
}


@dataclass(eq=False)
class Installation:
    """An installation; ``place`` are its servers' own addresses, past the proxies."""

    name: str
    place: Mapping[str, str]
    servers: RealServers
    shop: Shop = field(init=False)
    proxies: dict[str, Proxy] = field(default_factory=dict)
    recovered_s: dict[str, float] = field(default_factory=dict)
    """Seconds from the end of a fault to the first success after it."""

    def __getitem__(self, setting: str) -> Proxy:
        return self.proxies[setting]

    @property
    def parks(self) -> bool:
        """Whether a doubtful mail is parked, and not sent again."""
        return self.place["MAIL_DOUBTFUL"] == "park"

    @property
    def port(self) -> int:
        """Where orders are placed, past the proxy."""
        return int(self["front"].target[1])

    def mails_of(self, by: Customer, order: httpx.Response) -> Sequence[Mail]:
        """The mails that say that this order was placed."""
        number = str(order.json()["order_number"])
        # By the envelope: to parse every mail there is would hold up the proxies, which live in this loop.
        theirs = [sunk for sunk in self.servers.smtp.messages() if by.email in sunk.recipients]
        return [mail for mail in (Mail(sunk.content) for sunk in theirs) if number in mail.subject]

    async def customer(self) -> Customer:
        """A new customer, whose mail of welcome is out of the way: no fault may strike that instead."""
        made = await self.shop.customer()
        async with asyncio.timeout(30):
            while (await self._mail_states("recipient", made.email)) != ["sent"]:
                await asyncio.sleep(0.05)
        return made

    async def mail_state(self, order: httpx.Response) -> str:
        """What the ledger says of that mail; empty when it knows none."""
        return "".join(await self._mail_states("order_number", order.json()["order_number"]))

    async def _mail_states(self, column: str, value: object) -> Sequence[str]:
        if "MONGODB_URI" in self.place:
            return await asyncio.to_thread(self._states_in_mongodb, {column: value})
        connection = await asyncpg.connect(self.place["DATABASE_URL"])
        try:
            rows = await connection.fetch(f"select state from email.mails where {column} = $1", value)
        finally:
            await connection.close()
        return [row["state"] for row in rows]

    def _states_in_mongodb(self, wanted: Mapping[str, object]) -> Sequence[str]:
        with MongoClient[dict[str, object]](self.place["MONGODB_URI"]) as client:
            found = client.get_default_database()["email_logs"].find(wanted)
            return [str(document["state"]) for document in found]

    async def unpublished(self) -> int:
        """How many of the orders' events wait."""
        connection = await asyncpg.connect(self.place["DATABASE_URL"])
        try:
            return int(await connection.fetchval("select count(*) from orders.outbox where published_at is null"))
        finally:
            await connection.close()

    async def queued(self, queue: str = "order.created") -> int:
        """How many events wait in a queue."""
        async with await aio_pika.connect(self.place["RABBITMQ_URL"]) as connection:
            declared = await (await connection.channel()).get_queue(queue)
            return declared.declaration_result.message_count or 0

    async def place_until_stored(self, by: Customer, key: str, *, within_s: float = 30.0) -> httpx.Response:
        """Place one order, as a client does that repeats what fails under the same key."""
        deadline = time.monotonic() + within_s
        while True:
            answer = await self.shop.place(by, [(1, 2)], key=key)
            if answer.status_code == 201:
                return answer
            assert answer.status_code in (409, 503), answer.text
            assert int(answer.headers["retry-after"]) >= 1
            assert time.monotonic() < deadline, answer.text
            await asyncio.sleep(0.1)

    async def settled(self, order: httpx.Response, *, within_s: float = 30.0) -> str:
        """Wait until everything that follows from an order has ended; its mail's state."""
        async with asyncio.timeout(within_s):
            while (state := await self.mail_state(order)) not in FINAL or await self.unpublished():
                await asyncio.sleep(0.1)
            while await self.queued():
                await asyncio.sleep(0.1)
        return state

    async def kept_once(self, by: Customer, order: httpx.Response, *, mails: int = 1) -> None:
        """Check that this is the customer's only order, and that so many equal mails tell of it."""
        await self.settled(order)
        listed = (await self.shop.list(by)).json()["orders"]
        assert [found["id"] for found in listed] == [order.json()["id"]]
        sent = self.mails_of(by, order)
        assert len(sent) == mails, f"{len(sent)} mails"
        assert len({mail.content for mail in sent}) == 1

    async def first_success(
        self, fault: str, attempt: Callable[[], Awaitable[bool]], *, within_s: float = 30.0
    ) -> None:
        """Try until it succeeds, and note how long that took."""
        began = time.monotonic()
        async with asyncio.timeout(within_s):
            while not await attempt():
                await asyncio.sleep(0.05)
        self.recovered_s[fault] = time.monotonic() - began


async def in_each(installations: Sequence[Installation], row: Callable[[Installation], Awaitable[None]]) -> None:
    """Run a row in every installation at the same time; what fails says where."""

    async def in_one(installation: Installation) -> None:
        try:
            await row(installation)
        except Exception as error:
            error.add_note(f"in {installation.name}")
            raise
        finally:
            for proxy in installation.proxies.values():
                proxy.clear()

    outcomes = await asyncio.gather(*map(in_one, installations), return_exceptions=True)
    if failures := [outcome for outcome in outcomes if isinstance(outcome, Exception)]:
        raise failures[0] if len(failures) == 1 else ExceptionGroup("several installations", failures)


@asynccontextmanager
async def _installation(
    name: str, place: Mapping[str, str], folder: Path
) -> AsyncIterator[tuple[Installation, Processes]]:
    folder.mkdir()
    installation = Installation(name, place, require_servers())
    async with AsyncExitStack() as stack:
        for setting, speaks in _SPEAKS.items():
            if setting in place:
                target = urlsplit(place[setting])
                proxy = Proxy(target.hostname or "", target.port or 0, speaks=speaks)
                installation.proxies[setting] = await stack.enter_async_context(proxy)
        proxied = {setting: installation[setting].through(place[setting]) for setting in installation.proxies}
        settings = {**place, **proxied, **SECRET}
        yield installation, await stack.enter_async_context(own_processes(folder, **settings))


async def _front(stack: AsyncExitStack, port: int) -> tuple[Proxy, httpx.AsyncClient]:
    proxy = await stack.enter_async_context(Proxy("127.0.0.1", port, speaks=InTurn))
    return proxy, await stack.enter_async_context(public_client(proxy.port))


@asynccontextmanager
async def monolith(folder: Path) -> AsyncIterator[Installation]:
    """One process, with the mail ledger in PostgreSQL; doubtful mails are sent again."""
    place = require_servers().place() | {"MAIL_DOUBTFUL": "resend"}
    del place["MONGODB_URI"]
    async with (
        _installation("monolith", place, folder / "monolith") as (installation, processes),
        AsyncExitStack() as stack,
    ):
        processes.start("all", "serve", ",".join(ROLES))
        await processes.ready("all")
        installation.proxies["front"], client = await _front(stack, processes.ports["all"])
        installation.shop = Shop(Running({"/": client}, processes.settings, processes.folder, list))
        yield installation


@asynccontextmanager
async def split(folder: Path) -> AsyncIterator[Installation]:
    """A process for each role, with the mail ledger in MongoDB; doubtful mails are parked."""
    place = require_servers().place() | {"MAIL_DOUBTFUL": "park"}
    async with (
        _installation("split", place, folder / "split") as (installation, processes),
        AsyncExitStack() as stack,
    ):
        ports = processes.ports
        ports |= {name: free_port() for name in ("auth", "catalog")}
        installation.proxies["AUTH_SERVICE"] = await stack.enter_async_context(
            Proxy("127.0.0.1", ports["auth"], speaks=InTurn)
        )
        settings = dict(processes.settings)
        settings["AUTH_SERVICE"] = f"http://127.0.0.1:{installation['AUTH_SERVICE'].port}"
        settings["PRODUCTS_API"] = f"http://127.0.0.1:{ports['catalog']}/catalog/products"
        processes.settings = settings
        for role in _SPLIT_ROLES:
            processes.start(role, "worker" if role == "email" else "serve", role)
        await processes.ready(*_SPLIT_ROLES)
        installation.proxies["front"], orders = await _front(stack, ports["orders"])
        installation.proxies["front of auth"], auth = await _front(stack, ports["auth"])
        installation.shop = Shop(Running({"/": auth, "/api": orders}, settings, processes.folder, list))
        yield installation
