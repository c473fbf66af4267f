"""The servers of a real installation, each private to this run and started once for all of its processes.

Two are started once for each process: the stand-in for MongoDB, which uses one core and did not always answer all
in time, and the SMTP server, whose scripts apply to the next mail that comes.
"""

import itertools
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import cached_property
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

import pytest

from mailboxes import SunkMails
from purveyor_drill.servers import reaper
from purveyor_drill.servers.mongodb import MongoServer
from purveyor_drill.servers.nats import ACCOUNTS, NatsServer
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.servers.redis import DATABASES, RedisServer
from purveyor_drill.servers.server import Server
from purveyor_drill.servers.smtp import SmtpSink

KINDS = (PostgresServer, RedisServer, RabbitServer, NatsServer, MongoServer, SmtpSink)

Broker = Literal["rabbitmq", "nats"]
BROKER = "RABBITMQ_URL", "NATS_URL", "NATS_MONITOR_URL"
"""The settings of whatever carries the events."""
_VHOSTS = 8


class Owner:
    """Starts servers for the processes of a run, and ends them with it.

    It lives in the process that the others were started by. They reach it over a socket, and get a copy of
    a server that they can use but not end.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._started: dict[str, Server] = {}
        self._listener: Listener | None = None

    def server(self, name: str) -> Server:
        """The server of this name; started when first asked for."""
        with self._lock:
            if name not in self._started:
                (kind,) = (kind for kind in KINDS if kind.name == name)
                server = kind(require_auth=True) if issubclass(kind, SmtpSink) else kind()
                self._started[name] = self._stack.enter_context(server)
            return self._started[name]

    def number(self) -> int:
        """A number that nobody else in this run has."""
        with self._lock:
            return next(self._numbers)

    def address(self) -> str:
        """Where other processes of the run reach the owner."""
        if self._listener is None:
            folder = Path(tempfile.mkdtemp(prefix="purveyor-servers-"))  # 0700: nobody else can connect
            reaper.remove_at_end(folder)
            self._listener = Listener(str(folder / "socket"), "AF_UNIX")
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return str(self._listener.address)

    def stop(self) -> None:
        """End what was started."""
        self._stack.close()

    def _accept(self, listener: Listener) -> None:
        while True:
            threading.Thread(target=self._answer, args=(listener.accept(),), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with connection, suppress(EOFError):
            while True:
                question = connection.recv()
                try:
                    connection.send(self.server(question) if question else self.number())
                except Exception as error:
                    connection.send(error)


class _Elsewhere:
    """The owner as another process sees it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection = Client(address, "AF_UNIX")

    def address(self) -> str:
        return self._address

    def server(self, name: str) -> Server:
        return cast("Server", self._ask(name))

    def number(self) -> int:
        return cast("int", self._ask(""))

    def _ask(self, question: str) -> object:
        self._connection.send(question)
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


class RealServers:
    """PostgreSQL, Redis, RabbitMQ, NATS, MongoDB and SMTP; nothing starts before it is asked for."""

    def __init__(self) -> None:
        self._own = Owner()
        self.owner: Owner | _Elsewhere = self._own
        self._vhosts: list[str] = []

    def connect(self, address: str) -> None:
        """Use the servers of the owner at this address."""
        self.owner = _Elsewhere(address)

    def stop(self) -> None:
        """End what this process started."""
        self._own.stop()

    @cached_property
    def postgres(self) -> PostgresServer:
        return cast("PostgresServer", self.owner.server(PostgresServer.name))

    @cached_property
    def redis(self) -> RedisServer:
        return cast("RedisServer", self.owner.server(RedisServer.name))

    @cached_property
    def rabbitmq(self) -> RabbitServer:
        return cast("RabbitServer", self.owner.server(RabbitServer.name))

    @cached_property
    def nats(self) -> NatsServer:
        return cast("NatsServer", self.owner.server(NatsServer.name))

    @cached_property
    def mongodb(self) -> MongoServer:
        return cast("MongoServer", self._own.server(MongoServer.name))

    @cached_property
    def smtp(self) -> SmtpSink:
        return cast("SmtpSink", self._own.server(SmtpSink.name))

    @cached_property
    def mails(self) -> SunkMails:
        """Every mail that the SMTP server took."""
        return SunkMails(self.smtp)

    def create_database(self, name: str) -> str:
        """Make an empty database whose name begins so, and return its URL."""
        return self.postgres.create_database(f"{name[:50]}_{self.owner.number()}")

    def vhost(self) -> str:
        """The URL of a virtual host that no other test uses.

        Several are made at a time: each call of the operator's tool takes a second.
        """
        if not self._vhosts:
            number = self.owner.number()
            self._vhosts += self.rabbitmq.create_vhosts([f"tests_{number}_{place}" for place in range(_VHOSTS)])
        return self._vhosts.pop()

    def broker_settings(self, broker: Broker) -> dict[str, str]:
        """A virtual host of RabbitMQ, or an account of NATS, that no other test uses."""
        if broker == "rabbitmq":
            return {"RABBITMQ_URL": self.vhost()}
        account = self.nats.account_url(self.owner.number() % ACCOUNTS)
        return {"NATS_URL": account, "NATS_MONITOR_URL": self.nats.monitor_url}

    def redis_url(self) -> str:
        """The URL of a Redis database that no other test uses."""
        databases = DATABASES if self.redis.ours else 16
        return f"{self.redis.url.rpartition('/')[0]}/{self.owner.number() % databases}"

    def mongodb_uri(self, name: str) -> str:
        """The URI of a MongoDB database whose name begins so, and that no other test uses."""
        base, _, options = self.mongodb.url.partition("/?")
        return f"{base}/{name}_{self.owner.number()}?{options}"

    def place(self, broker: Broker = "rabbitmq") -> dict[str, str]:
        """The settings of an installation of its own on the shared servers: its own database, vhost and so on."""
        return {
            "DATABASE_URL": self.create_database("shop"),
            "REDIS_URL": self.redis_url(),
            **self.broker_settings(broker),
            "MONGODB_URI": self.mongodb_uri("shop"),
            **self.mail_settings(),
        }

    def mail_settings(self) -> dict[str, str]:
        """The SMTP server, with the credentials in settings of their own."""
        url = urlsplit(self.smtp.url)
        return {
            "SMTP_URL": f"smtp://{url.hostname}:{url.port}",
            "EMAIL_USER": url.username or "",
            "EMAIL_PASS": url.password or "",
            "EMAIL_FROM": "Purveyor <orders@shop.example.com>",
        }


SERVERS = RealServers()


def require_servers() -> RealServers:
    """The servers; skips the test, by name, where one of them cannot be had."""
    for kind in KINDS:
        if reason := kind.available():
            pytest.skip(f"no {kind.name}: {reason}")
    return SERVERS


def only(settings: Mapping[str, str], *names: str) -> dict[str, str]:
    """These settings and no others."""
    return {name: settings[name] for name in names if name in settings}
