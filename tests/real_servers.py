"""The servers of a real installation, started once for all tests that need them, each private to this run."""

import itertools
import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from urllib.parse import urlsplit

import pytest

from mailboxes import SunkMails
from purveyor_drill.servers.mongodb import MongoServer
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.rabbitmq import RabbitServer
from purveyor_drill.servers.redis import RedisServer
from purveyor_drill.servers.smtp import SmtpSink

_PLACES = 1000
KINDS = (PostgresServer, RedisServer, RabbitServer, MongoServer, SmtpSink)


class RealServers:
    """PostgreSQL, Redis, RabbitMQ, MongoDB and SMTP; nothing starts before it is asked for."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        # A server that the environment gives is the same one for all processes of a parallel run.
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        self._places = itertools.count(1 + worker * _PLACES)

    @cached_property
    def postgres(self) -> PostgresServer:
        return self._stack.enter_context(PostgresServer())

    @cached_property
    def redis(self) -> RedisServer:
        return self._stack.enter_context(RedisServer())

    @cached_property
    def rabbitmq(self) -> RabbitServer:
        return self._stack.enter_context(RabbitServer())

    @cached_property
    def mongodb(self) -> MongoServer:
        return self._stack.enter_context(MongoServer())

    @cached_property
    def smtp(self) -> SmtpSink:
        return self._stack.enter_context(SmtpSink(require_auth=True))

    @cached_property
    def mails(self) -> SunkMails:
        """Every mail that the SMTP server took."""
        return SunkMails(self.smtp)

    def place(self) -> dict[str, str]:
        """The settings of an installation of its own on the shared servers: its own database, vhost and so on."""
        number = next(self._places)
        mongodb, _, options = self.mongodb.url.partition("/?")
        return {
            "DATABASE_URL": self.postgres.create_database(f"shop_{number}"),
            "REDIS_URL": f"{self.redis.url.rpartition('/')[0]}/{(number + number // _PLACES * 4) % 16}",
            "RABBITMQ_URL": self.rabbitmq.create_vhost(f"shop_{number}"),
            "MONGODB_URI": f"{mongodb}/shop_{number}?{options}",
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

    def stop(self) -> None:
        """End what was started."""
        self._stack.close()


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
