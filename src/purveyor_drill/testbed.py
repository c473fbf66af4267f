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
from urllib.parse import urlsplit

from purveyor.kit.db.embedded.server import Server as EmbeddedServer
from purveyor_drill.observations import Policy
from purveyor_drill.processes import Application, ProcessSpec
from purveyor_drill.proxies import Proxies
from purveyor_drill.proxy import with_port
from purveyor_drill.schedule import Group
from purveyor_drill.servers import reaper
from purveyor_drill.servers.mongodb import MongoServer
from purveyor_drill.servers.nats import NatsServer
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.process import StartFailed, free_port
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.servers.redis import RedisServer
from purveyor_drill.servers.server import Server
from purveyor_drill.servers.smtp import SmtpSink

ShapeName = Literal["embedded", "monolith", "split"]
Ledger = Literal["postgres", "mongodb"]
Broker = Literal["rabbitmq", "nats"]

PROGRAM = (sys.executable, "-m", "purveyor")
_COMMON = ("LOG_LEVEL", "LOG_FORMAT", "DATA_DIR", "SERVICE_SECRET")
_SECRETS = ("JWT_SECRET", "SERVICE_SECRET")
_BROKER = ("RABBITMQ_URL", "NATS_URL")
_SETTINGS: Mapping[str, Sequence[str]] = {
    "auth": (
        "DATABASE_URL", "REDIS_URL", *_BROKER, "JWT_SECRET", "RATE_LIMIT_LOGIN", "RATE_LIMIT_REGISTER",
    ),
    "catalog": (),
    "orders": (
        "DATABASE_URL", "REDIS_URL", *_BROKER, "AUTH_SERVICE", "PRODUCTS_API", "RATE_LIMIT_ORDERS",
    ),
    "email": ("DATABASE_URL", *_BROKER, "MONGODB_URI", "SMTP_URL", "EMAIL_FROM", "MAIL_DOUBTFUL"),
}  # fmt: skip
"""The only settings that a process gets for each of its roles, apart from ``_COMMON``."""
_SERVERS: Mapping[str, type[Server]] = {
    "DATABASE_URL": PostgresServer,
    "REDIS_URL": RedisServer,
    "RABBITMQ_URL": RabbitServer,
    "NATS_URL": NatsServer,
    "MONGODB_URI": MongoServer,
}
_DEFAULT_PORTS = {
    "postgresql": 5432, "postgres": 5432, "redis": 6379, "amqp": 5672, "nats": 4222, "mongodb": 27017, "smtp": 25,
}  # fmt: skip


SHAPES: Mapping[ShapeName, Sequence[ProcessSpec]] = {
    "embedded": (
        ProcessSpec("front", "serve", "auth,orders,catalog"),
        ProcessSpec("mails", "worker", "email"),
    ),
    "monolith": (ProcessSpec("all", "serve", "auth,catalog,orders,email"),),
    "split": (
        ProcessSpec("auth", "serve", "auth"),
        ProcessSpec("catalog", "serve", "catalog"),
        ProcessSpec("orders-1", "serve", "orders"),
        ProcessSpec("orders-2", "serve", "orders"),
        ProcessSpec("mails-1", "worker", "email"),
        ProcessSpec("mails-2", "worker", "email"),
    ),
}
"""The processes of each shape, in the order in which they start."""


def default_ledger() -> Ledger:
    """MongoDB only where it is the real one: its substitute would slow the drill down."""
    return "mongodb" if MongoServer.genuine() else "postgres"


def servers_of(shape: ShapeName, ledger: Ledger, broker: Broker) -> tuple[str, ...]:
    """The settings for which a shape has servers."""
    if shape == "embedded":
        return ()
    unused = {"NATS_URL" if broker == "rabbitmq" else "RABBITMQ_URL", "" if ledger == "mongodb" else "MONGODB_URI"}
    return tuple(name for name in _SERVERS if name not in unused)


class Missing(Exception):
    """A server that the shape needs is not on this machine."""


@dataclass
class Testbed:
    """A running shape. The drill reaches its servers directly; its processes reach them through the proxies."""

    __test__ = False  # pytest would take it for a test class

    folder: Path
    policy: Policy
    canaries: dict[str, str]
    """Secrets that must not show up anywhere, by description."""
    given: bool
    """The servers come from the settings, so they are not touched."""
    urls: dict[str, str] = field(default_factory=dict)
    """The URLs of its servers, by setting."""
    sink: SmtpSink = field(default_factory=SmtpSink)
    """The mail server, which keeps every mail."""
    servers: dict[str, Server] = field(default_factory=dict)
    """All of its servers, by name."""
    links: dict[str, int] = field(default_factory=dict)
    """The ports of the proxies in front of its servers, by name."""
    proxies: Proxies = field(default_factory=Proxies)
    applications: dict[str, Application] = field(default_factory=dict)
    embedded: EmbeddedServer | None = None

    @property
    def database(self) -> str:
        return self.embedded.dsn() if self.embedded else self.urls["DATABASE_URL"]

    @property
    def ledger(self) -> str:
        """The URI of the MongoDB with the mail ledger; empty if the ledger is in the database."""
        return self.urls.get("MONGODB_URI", "")

    def running(self, role: str) -> list[Application]:
        return [one for one in self.applications.values() if one.spec.runs(role)]

    def senders(self) -> list[Application]:
        return self.running("email")

    def targets(self) -> dict[Group, list[str]]:
        """Return the targets of faults."""
        targets: dict[Group, list[str]] = {"process": list(self.applications)}
        for name, server in self.servers.items():
            if server.ours:
                targets[name] = [name]  # type: ignore[index]  # the names of servers are groups
        if self.embedded:
            targets["embedded"] = ["embedded"]
        targets["network"] = list(self.links)
        return targets


@asynccontextmanager
async def open_testbed(
    shape: ShapeName,
    *,
    logs: Path,
    policy: Policy = "resend",
    given: Mapping[str, str] | None = None,
    processes: Sequence[ProcessSpec] = (),
    servers: Sequence[str],
    program: Sequence[str] = PROGRAM,
    preflight: Callable[[Testbed], Awaitable[None]] | None = None,
) -> AsyncIterator[Testbed]:
    """Start a shape, and stop it at the end. ``logs``: a folder for the output of its processes.

    ``servers``: the settings for which it has servers (see ``servers_of``); ``given``: their URLs, instead of
    private ones. ``processes`` and ``program`` replace the shape's own. ``preflight`` may raise before any
    process of the application is started. Raises ``Missing``, ``StartFailed``.
    """
    folder = _temporary_folder()
    canaries = {name: f"canary-{secrets.token_hex(20)}" for name in _SECRETS}
    testbed = Testbed(folder, policy, canaries, given=given is not None)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        await _open_servers(testbed, servers, given, stack)
        await stack.enter_async_context(testbed.proxies)
        settings = await _settings(testbed)
        if preflight is not None:
            await preflight(testbed)
        specs = processes or SHAPES[shape]
        ports = {spec.name: free_port() for spec in specs}
        settings |= _peers(specs, ports)
        for spec in specs:
            names = [*_COMMON, *(name for role in spec.roles.split(",") for name in _SETTINGS[role])]
            own = {name: settings[name] for name in names if name in settings}
            testbed.applications[spec.name] = Application(spec, program, own, logs / spec.name, ports[spec.name])
        stack.push_async_callback(_stop_processes, testbed)
        await _all(application.start() for application in testbed.applications.values())
        yield testbed


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="purveyor-drill-")).resolve()
    folder.chmod(0o755)  # the embedded server may run as another account
    reaper.remove_at_end(folder)
    return folder


async def _open_servers(
    testbed: Testbed, wanted: Sequence[str], given: Mapping[str, str] | None, stack: AsyncExitStack
) -> None:
    servers: dict[str, Server] = {"smtp": testbed.sink}
    if given is None:
        servers |= {name: _SERVERS[name]() for name in wanted}
    for server in servers.values():
        if reason := server.available():
            raise Missing(f"{server.name}: {reason}")
        testbed.servers[server.name] = server
        stack.push_async_callback(asyncio.to_thread, server.stop)
    await _all(asyncio.to_thread(server.start) for server in servers.values())
    testbed.urls |= {setting: _url(server) for setting, server in servers.items() if setting != "smtp"}
    if given is not None:
        testbed.urls |= {name: given[name] for name in wanted if given.get(name)}
        if "DATABASE_URL" not in testbed.urls:
            raise StartFailed("DATABASE_URL is not set: there is no server to use")


async def _all(starting: Iterable[Awaitable[None]]) -> None:
    """Await them all, also if one fails: nothing may still be starting while the rest is stopped."""
    for outcome in await asyncio.gather(*starting, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _url(server: Server) -> str:
    if isinstance(server, MongoServer):
        base, _, options = server.url.partition("/?")
        return f"{base}/purveyor?{options}"
    return server.url


async def _settings(testbed: Testbed) -> dict[str, str]:
    """The settings of the processes: servers behind proxies, and rate limits above the load."""
    settings = {
        "DATA_DIR": str(testbed.folder / "data"),
        **testbed.canaries,
        "EMAIL_FROM": "Purveyor <orders@drill.example.com>",
        "MAIL_DOUBTFUL": testbed.policy,
        "RATE_LIMIT_ORDERS": "1000000/minute",
        "RATE_LIMIT_LOGIN": "1000000/minute",
        "RATE_LIMIT_REGISTER": "1000000/minute",
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
    }
    if "DATABASE_URL" not in testbed.urls:
        testbed.embedded = EmbeddedServer(testbed.folder / "data", durable=True, max_connections=200)
    for name, url in {**testbed.urls, "SMTP_URL": testbed.sink.url}.items():
        port = await testbed.proxies.open(*_address(url))
        testbed.links[f"link to {name.partition('_')[0].lower()}"] = port
        settings[name] = with_port(url, port)
    return settings


def _address(url: str) -> tuple[str, int]:
    """Host and port of a server. Raises ``ValueError`` for TLS and for URLs that name several servers."""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"A drill cannot put a proxy in front of {parts.scheme}://. Give a plain URL.")
    return parts.hostname or "127.0.0.1", parts.port or _DEFAULT_PORTS[parts.scheme]


def _peers(specs: Sequence[ProcessSpec], ports: Mapping[str, int]) -> dict[str, str]:
    """The settings that name the roles of other processes."""
    found = {}
    for role, setting, path in (("auth", "AUTH_SERVICE", ""), ("catalog", "PRODUCTS_API", "/catalog/products")):
        peer = next((spec for spec in specs if spec.runs(role)), None)
        if peer is not None and not peer.runs("orders"):
            found[setting] = f"http://127.0.0.1:{ports[peer.name]}{path}"
    return found


async def _stop_processes(testbed: Testbed) -> None:
    await asyncio.gather(*(_stop(application) for application in testbed.applications.values()))


async def _stop(application: Application) -> None:
    async with application.busy:
        if application.frozen:
            application.thaw()
        await application.terminate()
