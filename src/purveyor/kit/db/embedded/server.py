"""The cluster and the server process of the embedded PostgreSQL."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import asyncpg

from purveyor.kit.db.embedded.binaries import Account, Binaries, settle
from purveyor.kit.errors import StartupError

_USER, _DATABASE, _PORT = "app", "purveyor", 5432
_SOCKET = f".s.PGSQL.{_PORT}"
_SOCKET_PATH_MAX = 103
"""Bytes in the path of a Unix socket (``sun_path`` without its NUL): 107 on Linux, 103 on macOS and the BSDs."""
_LOG_MAX = 1_000_000
"""Size in bytes from which the server's log is rotated at startup."""
_BUILTIN_LOCALE_SINCE = 17

_POLL_S = 0.02
_CONNECT_S = 5.0
_RECOVER_S = 600.0
"""Limit for a start. Long, because an interrupted crash recovery has to start over."""
_STOP: tuple[tuple[signal.Signals, float], ...] = (
    (signal.SIGINT, 30.0),  # fast shutdown: ends sessions and writes a checkpoint
    (signal.SIGQUIT, 5.0),  # immediate shutdown: the next start has to recover
    (signal.SIGKILL, 5.0),
)


class Server:
    """PostgreSQL on ``<data_dir>/postgres``. Only the holder of the folder's lock may launch and end it."""

    def __init__(self, data_dir: Path, *, durable: bool, max_connections: int) -> None:
        self._data_dir = data_dir
        self._cluster = data_dir / "postgres"
        self._log = data_dir / "postgres.log"
        self._log_start = 0
        self._socket_dir = _socket_dir(self._cluster)
        self._durable = durable
        self._max_connections = max_connections
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """True if the server that we launched is alive."""
        return self._process is not None and self._process.poll() is None

    def dsn(self, database: str = _DATABASE) -> str:
        """Return the address for asyncpg and libpq, with the port, which ``PGPORT`` would otherwise override."""
        return f"postgresql://{_USER}@/{database}?host={quote(str(self._socket_dir))}&port={_PORT}"

    async def answers(self, database: str = _DATABASE) -> bool:
        try:
            async with asyncio.timeout(_CONNECT_S):
                connection = await asyncpg.connect(self.dsn(database))
                await connection.close()
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    async def launch(self, lock: int) -> None:
        """Start the server and wait until it answers; create the cluster and the database if they do not exist.

        The server and its children inherit ``lock``. Raises ``StartupError`` or ``OSError``.
        """
        if self._log.exists() and self._log.stat().st_size > _LOG_MAX:
            self._log.replace(self._log.with_suffix(".log.1"))
        binaries, account = await asyncio.to_thread(settle, self._data_dir, self._cluster)
        if not (self._cluster / "PG_VERSION").exists():
            await self._create_cluster(binaries, account, lock)
        self._prepare_socket_dir(account)
        postgres = [str(binaries.bin / "postgres"), "-D", str(self._cluster), *self._options()]
        self._process = self._spawn(account, postgres, self._cluster, lock)
        self._guard = _guard(self._process.pid) if sys.platform != "linux" else None
        deadline = time.monotonic() + _RECOVER_S
        while not await self.answers("postgres"):
            if not self.running or time.monotonic() > deadline:
                raise StartupError(f"The embedded database did not start: {self._last_words()}")
            await asyncio.sleep(_POLL_S)
        await self._create_database()

    async def end(self) -> None:
        """Shut down the server that we launched, if any, and wait for it."""
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.wait()
        if process is None:
            return
        for number, patience_s in _STOP:
            process.send_signal(number)  # does nothing to a process that has ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, patience_s)
                break
        if self._socket_dir != self._cluster:
            with contextlib.suppress(OSError):
                self._socket_dir.rmdir()

    async def _create_cluster(self, binaries: Binaries, account: Account, lock: int) -> None:
        """Run ``initdb`` in a draft folder and rename it at the end, so that a kill leaves no partial cluster."""
        draft = self._cluster.with_name(f"{self._cluster.name}.init")
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        account.give(draft)
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb = [
            *(str(binaries.bin / "initdb"), "-D", str(draft), "-U", _USER, "-E", "UTF8", "--locale=C"),
            *(locale if binaries.major >= _BUILTIN_LOCALE_SINCE else []),
            *("--data-checksums", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"),
        ]
        process = self._spawn(account, initdb, draft, lock)
        try:
            await asyncio.to_thread(process.wait)
        finally:
            process.kill()
        if process.returncode != 0:
            raise StartupError(f"The embedded database cannot be created: {self._last_words()}")
        draft.rename(self._cluster)
        _fsync(self._data_dir)

    def _spawn(self, account: Account, command: list[str], folder: Path, lock: int) -> subprocess.Popen[bytes]:
        # PostgreSQL ignores a lock file with its grandparent's id, so a reused pid (in a container, after a
        # reboot) cannot keep it from starting. Our lock proves that no server is left.
        stale = self._stale_pid()
        env = {"PG_GRANDPARENT_PID": stale} if stale else {}
        with self._log.open("ab") as output:
            self._log_start = output.tell()
            return account.spawn(command, folder=folder, output=output, env=env, keep=[lock])

    def _stale_pid(self) -> str:
        path = self._cluster / "postmaster.pid"
        try:
            return str(int(path.read_text().partition("\n")[0]))
        except FileNotFoundError:
            return ""
        except ValueError:  # emptied by a power failure; PostgreSQL would wait for a starting server
            path.unlink()
            return ""

    def _options(self) -> list[str]:
        settings = {
            "max_connections": self._max_connections,
            "shared_buffers": "64MB",
            # Errors of statements go to the client; in the log they would let it grow with the traffic.
            "log_min_messages": "log",
            "log_min_error_statement": "panic",
            "log_checkpoints": "off",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        pairs = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        return ["-k", str(self._socket_dir), "-h", "", "-p", str(_PORT), *pairs]

    def _prepare_socket_dir(self, account: Account) -> None:
        if self._socket_dir != self._cluster:
            self._socket_dir.mkdir(mode=0o700, exist_ok=True)
            found = self._socket_dir.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), account.uid):
                raise StartupError(
                    f"{self._socket_dir} belongs to another account. Remove it, or set a shorter DATA_DIR."
                )
            account.give(self._socket_dir)
        (self._socket_dir / f"{_SOCKET}.lock").unlink(missing_ok=True)  # stale, see _spawn

    async def _create_database(self) -> None:
        try:
            connection = await asyncpg.connect(self.dsn("postgres"), timeout=_CONNECT_S)
            try:
                if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _DATABASE):
                    await connection.execute(f'CREATE DATABASE "{_DATABASE}"')
            finally:
                await connection.close()
        except asyncpg.PostgresError as error:
            raise StartupError(f"The embedded database cannot be created: {error}") from error

    def _last_words(self) -> str:
        with self._log.open("rb") as output:
            output.seek(self._log_start)
            lines = output.read().decode(errors="replace").splitlines()
        errors = [line for line in lines if "FATAL:" in line or "error:" in line] or lines
        return f"{errors[-1] if errors else 'it logged nothing'} (see {self._log})"


def _socket_dir(cluster: Path) -> Path:
    """Return the cluster, which only its owner may enter, or a short folder if its path is no valid address."""
    if len(os.fsencode(cluster / _SOCKET)) <= _SOCKET_PATH_MAX and "," not in str(cluster):
        return cluster
    digest = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    return Path(f"/tmp/purveyor-{digest}")  # noqa: S108 - all processes need the same path, and TMPDIR may differ


def _guard(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that ends the server when we die, for systems without PR_SET_PDEATHSIG."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r _; kill -INT "$0"', str(pid)], stdin=subprocess.PIPE, start_new_session=True
    )


def _fsync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
