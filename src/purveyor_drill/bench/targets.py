"""The services that are compared: Purveyor in two shapes, and the peer."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from purveyor.kit.db.embedded.server import Server as EmbeddedServer
from purveyor_drill.bench.stand_ins import MailSink
from purveyor_drill.database import Database, open_database
from purveyor_drill.http_client import HttpClient
from purveyor_drill.servers.process import Child, StartFailed, free_port, talk
from purveyor_drill.testbed import PROGRAM

_DOMAIN = "bench.example.com"
_READY_WITHIN_S = 120.0
_STOP_WITHIN_S = 30.0
_NO_LIMIT = "100000000/minute"
PEER, MONOLITH, STOPPED, EMBEDDED = "peer", "monolith", "monolith, email worker stopped", "embedded"


class Servers(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses that the services get, and the first processes of the servers by name."""

    database: str
    peer_database: str
    redis: str
    rabbitmq: str
    peer_rabbitmq: str
    products: str
    pids: Mapping[str, int]


class Process:
    """One process of a service, always on the same port."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], folder: Path, port: int, ready: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._command = command
        self._env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **env}
        self._folder = folder
        self._hello = f"GET {ready} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        self._child: Child | None = None
        self.port = port

    @property
    def child(self) -> Child:
        if self._child is None:
            raise StartFailed(f"{self._command} is not running")
        return self._child

    def start(self) -> None:
        """Start it and wait until it is ready. Raises ``StartFailed``."""
        self._child = Child(self._command, env=self._env, folder=self._folder)
        self._child.wait_ready(self._answers, _READY_WITHIN_S)

    def _answers(self) -> bool:
        return talk(self.port, self._hello).startswith(b"HTTP/1.1 200")

    def stop(self) -> None:
        """End it as an operator would. Safe to repeat."""
        if self._child is not None:
            self._child.thaw()
            self._child.end(signal.SIGTERM, _STOP_WITHIN_S)
            self._child = None


class Target:
    """A service under load: its processes, its customers and what waits in it."""

    def __init__(self, name: str, processes: Mapping[str, Process], servers: Mapping[str, int]) -> None:
        """``processes``: by part; the first answers the API. ``servers``: pids of the servers that it uses."""
        self.name = name
        self.processes = processes
        self._servers = servers
        self._client = HttpClient()
        self._password = secrets.token_hex(12)
        self.emails: list[str] = []
        self.tokens: list[str] = []

    @property
    def port(self) -> int:
        return next(iter(self.processes.values())).port

    def parts(self) -> dict[str, int]:
        """The first process of each part whose CPU time a request uses."""
        return {name: process.child.pid for name, process in self.processes.items()} | dict(self._servers)

    async def start(self) -> float:
        """Start every process at once; the seconds until all are ready. Raises ``StartFailed``."""
        began = time.monotonic()
        starts = [asyncio.to_thread(process.start) for process in self.processes.values()]
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return time.monotonic() - began

    async def stop(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(process.stop) for process in self.processes.values()))

    async def register(self, customers: int) -> None:
        """Create the accounts."""
        self.emails = [f"customer{number}@{_DOMAIN}" for number in range(customers)]
        for email in self.emails:
            await self._post("/register", {"email": email, "name": "A Customer", "password": self._password})

    async def log_in(self) -> None:
        """Get new tokens: those of Purveyor live for ten minutes."""
        self.tokens = [
            (await self._post("/login", credentials))["access_token"] for credentials in self.credentials()
        ]

    def credentials(self) -> list[dict[str, str]]:
        """The body of a login for each customer."""
        return [{"email": email, "password": self._password} for email in self.emails]

    def login_port(self) -> int:
        """The port of the accounts."""
        return self.port

    async def order_ids(self) -> list[str]:
        """The newest orders of the first customer."""
        headers = {"Authorization": f"Bearer {self.tokens[0]}"}
        answer = await self._client.request(self.port, "GET", "/api/orders/", headers=headers)
        found = answer.json()
        return [order["id"] for order in (found if isinstance(found, list) else found["orders"])]

    async def _post(self, path: str, body: Mapping[str, str]) -> dict[str, str]:
        answer = await self._client.request(self.login_port(), "POST", path, body=body)
        if answer.status not in {200, 201}:
            raise StartFailed(f"{self.name}: {path} was answered with {answer.status}: {answer.body[:300]!r}")
        content: dict[str, str] = answer.json()
        return content


class Peer(Target):
    """The naive services of ``scripts/bench_peer``: one process for orders and one for accounts."""

    def __init__(self, servers: Servers, python: Path, source: Path, folder: Path) -> None:
        ports = {"orders": free_port(), "auth": free_port()}
        address = servers.peer_database.replace("postgresql://", "postgresql+asyncpg://")
        env = {
            "DATABASE_URL": address,
            "JWT_SECRET": secrets.token_hex(32),
            "REDIS_URL": servers.redis.rpartition("/")[0] + "/1",
            "RABBITMQ_URL": servers.peer_rabbitmq,
            "PRODUCTS_API": servers.products,
            "AUTH_SERVICE": f"http://127.0.0.1:{ports['auth']}",
            "ORDERS_PER_MINUTE": "100000000",
        }
        processes = {}
        for part, module in (("orders", "order_service"), ("auth", "auth_service")):
            command = [str(python), "-m", "uvicorn", f"{module}:app", "--app-dir", str(source)]
            command += ["--loop", "uvloop", "--http", "httptools", "--port", str(ports[part])]
            processes[part] = Process(command, env=env, folder=folder / part, port=ports[part], ready="/health")
        super().__init__(PEER, processes, servers.pids)

    def login_port(self) -> int:
        return self.processes["auth"].port


class Purveyor(Target):
    """Purveyor with a mail sink of its own. ``database`` is there after ``prepare``."""

    def __init__(
        self, name: str, processes: Mapping[str, Process], servers: Mapping[str, int], dsn: str, sink: MailSink
    ) -> None:
        super().__init__(name, processes, servers)
        self.sink = sink
        self.dsn = dsn
        self.database: Database

    async def prepare(self, stack: AsyncExitStack, customers: int) -> None:
        """Create customers with confirmed addresses: others get only a few emails an hour."""
        self.database = await stack.enter_async_context(open_database(self.dsn, _DOMAIN, 0.0))
        await self.register(customers)
        await self.database.confirm_customers()


class Monolith(Purveyor):
    """One process for HTTP and one email worker, on all servers."""

    def __init__(self, servers: Servers, folder: Path, sink: MailSink) -> None:
        settings = _settings(folder, sink) | {"DATABASE_URL": servers.database, "RABBITMQ_URL": servers.rabbitmq}
        front = {"REDIS_URL": servers.redis, "PRODUCTS_API": servers.products}
        processes = {
            "application": _process("serve", "auth,orders", settings | front, folder / "application"),
            "email worker": _process("worker", "email", settings, folder / "worker"),
        }
        super().__init__(MONOLITH, processes, servers.pids, servers.database, sink)

    def stop_worker(self) -> None:
        """SIGSTOP for the email worker."""
        self.processes["email worker"].child.freeze()

    def continue_worker(self) -> None:
        self.processes["email worker"].child.thaw()


class Embedded(Purveyor):
    """Every role in one process on the embedded PostgreSQL."""

    def __init__(self, folder: Path, sink: MailSink) -> None:
        settings = _settings(folder, sink)
        self._data = Path(settings["DATA_DIR"])
        roles = "auth,orders,email,catalog,shop"
        processes = {"application": _process("serve", roles, settings, folder / "application")}
        dsn = EmbeddedServer(self._data, durable=True, max_connections=200).dsn()
        super().__init__(EMBEDDED, processes, {}, dsn, sink)

    def parts(self) -> dict[str, int]:
        pid = (self._data / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0]
        return super().parts() | {"postgres": int(pid)}


def _process(command: str, roles: str, settings: Mapping[str, str], folder: Path) -> Process:
    port = free_port()
    option = "--port" if command == "serve" else "--health-port"
    arguments = [*PROGRAM, command, "--roles", roles, option, str(port)]
    return Process(arguments, env=settings, folder=folder, port=port, ready="/health/ready")


def _settings(folder: Path, sink: MailSink) -> dict[str, str]:
    """The defaults, with limits that count but never refuse."""
    return {
        "DATA_DIR": str(folder / "data"),
        "JWT_SECRET": secrets.token_hex(32),
        "SERVICE_SECRET": secrets.token_hex(32),
        "SMTP_URL": f"smtp://127.0.0.1:{sink.port}",
        "EMAIL_FROM": f"Purveyor <orders@{_DOMAIN}>",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "info",
        "RATE_LIMIT_ORDERS": _NO_LIMIT,
        "RATE_LIMIT_LOGIN": _NO_LIMIT,
        "RATE_LIMIT_REGISTER": _NO_LIMIT,
    }
