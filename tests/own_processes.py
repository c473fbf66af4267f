"""Processes of the real command line, and the environment that they run in."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from purveyor_drill.servers.process import Child, free_port, talk
from waiting import PATIENCE_S, until

SETTINGS = {
    "TRUSTED_PROXIES": "127.0.0.0/8",  # a test says where a customer comes from with X-Forwarded-For
    "RATE_LIMIT_ORDERS": "200/minute",
    "RATE_LIMIT_REGISTER": "10000/minute",  # most customers of the tests register from one address
    "RATE_LIMIT_UNCONFIRMED_MAIL": "1000/hour",
    "LOG_LEVEL": "warning",
}
"""What every shape is started with."""

_APP = str(Path(__file__).with_name("cheap_hashes.py"))
_STOP_S = 25.0


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of ours: nothing of the developer's own settings may change a test."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **settings}


@dataclass
class Processes:
    """Processes of the real command line that share their settings; a name for each."""

    folder: Path
    settings: Mapping[str, str]
    ports: dict[str, int] = field(default_factory=dict)
    _children: dict[str, Child] = field(default_factory=dict)

    def start(
        self, name: str, command: str, roles: str, settings: Mapping[str, str] | None = None, *, workers: int = 1
    ) -> None:
        """Begin to run ``app serve`` or ``app worker``; on the same port as before, if it ran before.

        ``settings`` are its own, beside those that all share.
        """
        port = self.ports.setdefault(name, free_port())
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        listen = "--port" if command == "serve" else "--health-port"
        arguments = [sys.executable, _APP, command, "--roles", roles, listen, str(port), "--workers", str(workers)]
        self._children[name] = Child(
            arguments, env=environment({**self.settings, **(settings or {})}), folder=folder
        )

    async def ready(self, *names: str) -> None:
        """Wait until they take work."""
        for name in names:
            await asyncio.to_thread(self._children[name].wait_ready, partial(self._is_ready, name), PATIENCE_S)

    def _is_ready(self, name: str) -> bool:
        answer = talk(self.ports[name], b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return answer.startswith(b"HTTP/1.1 200")

    async def crash(self, name: str) -> None:
        """``kill -9`` for the process, and for nothing that it started."""
        child = self._children.pop(name)
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.to_thread(child.end, signal.SIGKILL, _STOP_S)

    async def died(self, name: str) -> None:
        """Wait until it has ended by itself; fails when it lives on."""
        child = self._children[name]
        await until(lambda: not child.running)
        await asyncio.to_thread(self._children.pop(name).end, signal.SIGKILL, _STOP_S)

    def freeze(self, name: str) -> None:
        """SIGSTOP: its connections stay open, and nothing answers."""
        self._children[name].freeze()

    def thaw(self, name: str) -> None:
        """SIGCONT: go on as if nothing had been."""
        self._children[name].thaw()

    async def end(self, name: str) -> None:
        """SIGTERM, and wait."""
        await asyncio.to_thread(self._children.pop(name).end, signal.SIGTERM, _STOP_S)

    async def stop(self) -> None:
        """End all that runs, in order and together."""
        ending = [asyncio.to_thread(child.end, signal.SIGTERM, _STOP_S) for child in self._children.values()]
        self._children.clear()
        await asyncio.gather(*ending)


@asynccontextmanager
async def own_processes(folder: Path, **settings: str) -> AsyncIterator[Processes]:
    """No process yet; those that are started share a ``DATA_DIR`` under the folder, and end with it."""
    processes = Processes(folder, SETTINGS | {"DATA_DIR": str(folder / "data")} | settings)
    try:
        yield processes
    finally:
        await processes.stop()
