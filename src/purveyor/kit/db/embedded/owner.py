"""The embedded PostgreSQL: one process runs the server under ``DATA_DIR``, and another takes over when it ends."""

import asyncio
import fcntl
import logging
import os
import time
from pathlib import Path
from types import TracebackType

from purveyor.kit.db.embedded.server import Server
from purveyor.kit.errors import StartupError
from purveyor.kit.retry import RetrySchedule

_log = logging.getLogger(__name__)

_ATTACH_S = 60.0
_POLL_S = 0.05
_WATCH = RetrySchedule(first_s=0.25, longest_s=10.0, jitter=0.0)


class EmbeddedPostgres:
    """One server per data folder, shared by all processes of the same user.

    The holder of an exclusive flock(2) owns the server and runs it as its child. The others attach. When the owner
    ends, one of them takes over, and connection pools reconnect to the same address. The server and its sessions
    inherit the lock, so a process that gets it knows that none of them is left, without trusting process ids.

    ``durable=False`` trades crash safety for speed, for tests only.
    """

    owner: bool
    """True if this process runs the server."""

    def __init__(self, data_dir: Path, *, durable: bool = True, max_connections: int = 200) -> None:
        self.owner = False
        self._data_dir = data_dir.resolve()
        self._server = Server(self._data_dir, durable=durable, max_connections=max_connections)
        self._lock: int | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Start the server or attach to a running one; return its DSN once it answers. Raises ``StartupError``."""
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
            await self._own_or_attach(self._lock)
        except OSError as error:
            await self.stop()
            raise StartupError(
                f"The embedded database cannot use {error.filename or self._data_dir}: "
                f"{error.strerror or error}. Run as the owner of that folder or set another DATA_DIR."
            ) from error
        except BaseException:
            await self.stop()
            raise
        self._watcher = asyncio.create_task(self._watch(self._lock), name="embedded-postgres")
        return self._server.dsn()

    async def stop(self) -> None:
        """Detach from the server; the owner also shuts it down."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            self._watcher = None
        if self.owner:
            await self._server.end()
            self.owner = False
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _own_or_attach(self, lock: int) -> None:
        deadline = time.monotonic() + _ATTACH_S
        while not self._owns(lock):
            if await self._server.answers():
                return
            if time.monotonic() > deadline:
                raise StartupError(
                    f"Another process uses {self._data_dir}, but its database did not respond within "
                    f"{_ATTACH_S:.0f} s. See postgres.log there, stop that process and try again."
                )
            await asyncio.sleep(_POLL_S)
        await self._server.launch(lock)

    def _owns(self, lock: int) -> bool:
        """Return whether we hold the lock, after trying to take it."""
        if not self.owner:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self.owner = True
        return True

    async def _watch(self, lock: int) -> None:
        """Take over when the owner has ended, and restart our own server when it has died."""
        failures = 0
        while True:
            await asyncio.sleep(_WATCH.pause_s(failures + 1))
            try:
                if not self._server.running and self._owns(lock):
                    _log.warning("the embedded database has no server any more: starting it")
                    await self._server.launch(lock)
                failures = 0
            except Exception:
                failures += 1
                _log.exception(
                    "the embedded database did not start; next try in %.1f s", _WATCH.pause_s(failures + 1)
                )
                await self._server.end()
