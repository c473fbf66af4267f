"""A private PgBouncer in transaction mode in front of a PostgreSQL server."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from purveyor_drill.servers.newer import find_program
from purveyor_drill.servers.process import talk
from purveyor_drill.servers.server import Server

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


class PgBouncerServer(Server):
    """Every database of the server behind it, with the user and the password of ``postgres_url``."""

    name: ClassVar[str] = "pgbouncer"
    variable: ClassVar[str] = "TEST_PGBOUNCER_URL"

    def __init__(self, postgres_url: str) -> None:
        super().__init__()
        self._postgres = urlsplit(postgres_url)

    @classmethod
    def _missing(cls) -> str | None:
        if find_program("pgbouncer"):
            return None
        return "pgbouncer is not on the PATH (scripts/newer-programs gets one)"

    def _own_url(self) -> str:
        return urlunsplit(self._postgres._replace(netloc=f"{self._postgres.username}@127.0.0.1:{self.port}"))

    def database_url(self, direct: str) -> str:
        """The URL of a database through the pooler."""
        return urlunsplit(urlsplit(self.url)._replace(path=urlsplit(direct).path))

    def _prepare(self) -> None:
        super()._prepare()
        server = self._postgres
        account = "user = nobody\n" if os.geteuid() == 0 else ""  # it refuses to stay root
        self._configuration.write_text(
            "[databases]\n"
            f"* = host={server.hostname} port={server.port} user={server.username} password={server.password}\n"
            "[pgbouncer]\n"
            f"{account}"
            "listen_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\n"
            "unix_socket_dir =\n"
            "auth_type = any\n"
            "pool_mode = transaction\n"
            "max_prepared_statements = 200\n"
            "ignore_startup_parameters = idle_in_transaction_session_timeout, lock_timeout, statement_timeout\n"
        )

    @property
    def _configuration(self) -> Path:
        return self.folder / "pgbouncer.ini"

    def _command(self) -> Sequence[str]:
        return [find_program("pgbouncer") or "", str(self._configuration)]

    def _ready(self) -> bool:
        return talk(self.port, _SSL_REQUEST) == b"N"
