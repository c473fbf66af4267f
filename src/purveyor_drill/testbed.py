"""The shapes that a drill can run, and a running one: its servers, the proxies in front of them, its processes."""

import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from purveyor.kit.db.embedded.server import Server as EmbeddedServer
from purveyor_drill.processes import Application, Part
from purveyor_drill.proxies import Links
from purveyor_drill.schedule import Group
from purveyor_drill.servers import reaper
from purveyor_drill.servers.mongodb import MongoServer
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.process import StartFailed, free_port
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.servers.redis import RedisServer
from purveyor_drill.servers.server import Server
from purveyor_drill.servers.smtp import SmtpSink
from purveyor_drill.targets import address_of, by_way_of

ShapeName = Literal["embedded", "monolith", "split"]
Policy = Literal["resend", "park"]
Ledger = Literal["postgres", "mongodb"]

PROGRAM = (sys.executable, "-m", "purveyor")
_AUTH = ("DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "JWT_SECRET", "RATE_LIMIT_LOGIN")
_ORDERS = (
    "DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "AUTH_SERVICE", "PRODUCTS_API", "RATE_LIMIT_ORDERS",
)  # fmt: skip
_MAILS = ("DATABASE_URL", "RABBITMQ_URL", "MONGODB_URI", "SMTP_URL", "EMAIL_FROM", "MAIL_DOUBTFUL")
_ALL = ("LOG_LEVEL", "LOG_FORMAT", "DATA_DIR")
_SERVERS: Mapping[str, type[Server]] = {
    "DATABASE_URL": PostgresServer,
    "REDIS_URL": RedisServer,
    "RABBITMQ_URL": RabbitServer,
    "MONGODB_URI": MongoServer,
}


class Shape(msgspec.Struct, frozen=True):
    """The processes of a shape, in the order of their start, and the settings for which it has servers."""

    parts: tuple[Part, ...]
    servers: tuple[str, ...] = ()


def _part(name: str, command: str, roles: str, *takes: str) -> Part:
    return Part(name, command, roles, (*takes, *_ALL))


SHAPES: Mapping[ShapeName, Shape] = {
    "embedded": Shape((Part("front", "serve", "auth,orders,catalog"), Part("mails", "worker", "email"))),
    "monolith": Shape((Part("all", "serve", "auth,catalog,orders,email"),), tuple(_SERVERS)),
    "split": Shape(
        (
            _part("auth", "serve", "auth", *_AUTH),
            _part("catalog", "serve", "catalog"),
            _part("orders-1", "serve", "orders", *_ORDERS),
            _part("orders-2", "serve", "orders", *_ORDERS),
            _part("mails-1", "worker", "email", *_MAILS),
            _part("mails-2", "worker", "email", *_MAILS),
        ),
        tuple(_SERVERS),
    ),
}


def usual_ledger() -> Ledger:
    """Where a drill keeps the mail ledger unless told otherwise: a stand-in for MongoDB would slow it down."""
    return "mongodb" if MongoServer.genuine() else "postgres"


def servers_of(shape: ShapeName, ledger: Ledger) -> tuple[str, ...]:
    """The settings for which a shape has servers, with the ledger in one of them."""
    return tuple(name for name in SHAPES[shape].servers if name != "MONGODB_URI" or ledger == "mongodb")


class Missing(Exception):
    """A server that the shape needs is not on this machine."""


@dataclass
class House:
    """A running shape. The drill itself reaches its servers directly, its processes by way of the proxies."""

    folder: Path
    policy: Policy
    canaries: dict[str, str]
    """Secrets that must not show up anywhere, by what they are."""
    given: bool
    """Whether the servers are given by settings: then they are left alone."""
    places: dict[str, str] = field(default_factory=dict)
    """The URLs of its servers, by the setting's name."""
    servers: dict[str, Server] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)
    """The ports of the proxies in front of its servers, by name."""
    proxies: Links = field(default_factory=Links)
    applications: dict[str, Application] = field(default_factory=dict)
    embedded: EmbeddedServer | None = None

    @property
    def sink(self) -> SmtpSink:
        """Where every mail ends."""
        sink = self.servers["smtp"]
        if not isinstance(sink, SmtpSink):
            raise TypeError("the mail server of a drill is a sink")
        return sink

    @property
    def database(self) -> str:
        """The DSN of the database."""
        return self.embedded.dsn() if self.embedded else self.places["DATABASE_URL"]

    @property
    def ledger(self) -> str:
        """The URI of the MongoDB that holds the mail ledger; empty: it is in the database."""
        return self.places.get("MONGODB_URI", "")

    def running(self, role: str) -> list[Application]:
        """The processes that run a role."""
        return [one for one in self.applications.values() if one.part.runs(role)]

    def senders(self) -> list[Application]:
        """The processes that send mails."""
        return self.running("email")

    def targets(self) -> dict[Group, list[str]]:
        """What faults can be aimed at."""
        targets: dict[Group, list[str]] = {"process": list(self.applications)}
        for name, server in self.servers.items():
            if server.ours:
                targets[name] = [name]  # type: ignore[index]  # the names of servers are groups
        if self.embedded:
            targets["embedded"] = ["embedded"]
        targets["network"] = list(self.links)
        return targets


@asynccontextmanager
async def house(
    shape: ShapeName,
    *,
    logs: Path,
    policy: Policy = "resend",
    given: Mapping[str, str] | None = None,
    parts: Sequence[Part] = (),
    servers: Sequence[str],
    program: Sequence[str] = PROGRAM,
    look_first: Callable[["House"], Awaitable[None]] | None = None,
) -> AsyncIterator[House]:
    """Start a shape, and end it. ``logs``: a folder for what its processes write.

    ``servers``: the settings for which it has servers, see ``servers_of``; ``given``: their URLs, instead of
    private ones. ``parts`` and ``program`` take the place of the shape's own. ``look_first`` may object before
    anything of the application is started. Raises ``Missing``, ``StartFailed``.
    """
    folder = _temporary_folder()
    canaries = {"JWT_SECRET": f"canary-jwt-{secrets.token_hex(16)}"}
    made = House(folder, policy, canaries, given=given is not None)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        await _open_servers(made, servers, given, stack)
        await stack.enter_async_context(made.proxies)
        settings = await _settings(made)
        if look_first is not None:
            await look_first(made)
        chosen = parts or SHAPES[shape].parts
        ports = {part.name: free_port() for part in chosen}
        settings |= _neighbours(chosen, ports)
        for part in chosen:
            application = Application(part, program, settings, logs / part.name, ports[part.name])
            made.applications[part.name] = application
        stack.push_async_callback(_end, made)
        await _all(application.start() for application in made.applications.values())
        yield made


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="purveyor-drill-")).resolve()
    folder.chmod(0o755)  # the embedded server may run as another account
    reaper.remove_at_end(folder)
    return folder


async def _open_servers(
    made: House, wanted: Sequence[str], given: Mapping[str, str] | None, stack: AsyncExitStack
) -> None:
    kinds: dict[str, Server] = {"smtp": SmtpSink()}
    if given is None:
        kinds |= {name: _SERVERS[name]() for name in wanted}
    for server in kinds.values():
        if reason := server.available():
            raise Missing(f"{server.name}: {reason}")
        made.servers[server.name] = server
        stack.push_async_callback(asyncio.to_thread, server.stop)
    await _all(asyncio.to_thread(server.start) for server in kinds.values())
    made.places |= {setting: _place(server) for setting, server in kinds.items() if setting != "smtp"}
    if given is not None:
        made.places |= {name: given[name] for name in wanted if given.get(name)}
        if "DATABASE_URL" not in made.places:
            raise StartFailed("DATABASE_URL is not set: there is no server to use")


async def _all(starting: Iterable[Awaitable[None]]) -> None:
    """Await them all, also when one fails: nothing may still be starting while the rest is stopped."""
    for outcome in await asyncio.gather(*starting, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _place(server: Server) -> str:
    if isinstance(server, MongoServer):
        base, _, options = server.url.partition("/?")
        return f"{base}/purveyor?{options}"
    return server.url


async def _settings(made: House) -> dict[str, str]:
    """What the processes are started with: the servers by way of proxies, and room for the load."""
    settings = {
        "DATA_DIR": str(made.folder / "data"),
        "JWT_SECRET": made.canaries["JWT_SECRET"],
        "EMAIL_FROM": "Purveyor <orders@drill.example.com>",
        "MAIL_DOUBTFUL": made.policy,
        "RATE_LIMIT_ORDERS": "1000000/minute",
        "RATE_LIMIT_LOGIN": "1000000/minute",
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
    }
    if "DATABASE_URL" not in made.places:
        made.embedded = EmbeddedServer((made.folder / "data").resolve(), durable=True, max_connections=200)
    for name, url in {**made.places, "SMTP_URL": made.sink.url}.items():
        host, port = address_of(url)
        by = await made.proxies.open(host, port)
        made.links[f"link to {name.partition('_')[0].lower()}"] = by
        settings[name] = by_way_of(url, by)
    return settings


def _neighbours(parts: Sequence[Part], ports: Mapping[str, int]) -> dict[str, str]:
    """Where the roles of other processes are."""
    found = {}
    for role, setting, path in (("auth", "AUTH_SERVICE", ""), ("catalog", "PRODUCTS_API", "/catalog/products")):
        where = next((part for part in parts if part.runs(role)), None)
        if where is not None and not where.runs("orders"):
            found[setting] = f"http://127.0.0.1:{ports[where.name]}{path}"
    return found


async def _end(made: House) -> None:
    await asyncio.gather(*(_end_one(application) for application in made.applications.values()))


async def _end_one(application: Application) -> None:
    async with application.busy:
        if application.frozen:
            application.thaw()
        await application.terminate()
