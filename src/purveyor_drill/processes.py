"""Processes of the application, started by its command line as an operator would, and every way to end them."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from purveyor_drill.observations import Sample
from purveyor_drill.servers.process import Child, StartFailed, free_port, talk

_READY = b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
_READY_WITHIN_S = 45.0
_STOP_WITHIN_S = 30.0
_POLL_S = 0.05
_GIVE_UP_AFTER_S = 120.0
_AGAIN_S = 0.3
_PROC = Path("/proc")


class ProcessSpec(msgspec.Struct, frozen=True):
    """Specification of one process of a shape."""

    name: str
    command: str
    """``serve`` or ``worker``."""
    roles: str

    def runs(self, role: str) -> bool:
        return role in self.roles.split(",")


class Application:
    """One process, always on the same port through every restart."""

    def __init__(
        self, spec: ProcessSpec, program: Sequence[str], settings: Mapping[str, str], folder: Path, port: int = 0
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.port = port or free_port()
        self.frozen = False
        self.busy = asyncio.Lock()
        """Held while it is stopped or started."""
        self.folder = folder
        self._arguments = [*program, spec.command, "--roles", spec.roles]
        self._arguments += ["--port" if spec.command == "serve" else "--health-port", str(self.port)]
        self._settings = settings
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The id of the running process; 0 while there is none."""
        return self._child.pid if self._child else 0

    @property
    def alive(self) -> bool:
        """True if the process exists, frozen or not."""
        return self._child is not None and self._child.running

    @property
    def log(self) -> Path:
        """The output of all its lives."""
        return self.folder / f"{Path(self._arguments[0]).name}.log"

    async def start(self) -> None:
        """Start it and wait until it is ready; restart it if it ends before that, as a supervisor would.

        Raises ``StartFailed`` if it is not ready after 2 minutes.
        """
        give_up_at = time.monotonic() + _GIVE_UP_AFTER_S
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._child = await asyncio.to_thread(
                Child, self._arguments, env=self._environment(), folder=self.folder
            )
            self.frozen = False
            try:
                await self._wait_ready(self._child)
            except StartFailed:
                await self._end(self._child, signal.SIGKILL)
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _wait_ready(self, child: Child) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not (await asyncio.to_thread(talk, self.port, _READY)).startswith(b"HTTP/1.1 200"):
            if not child.running:
                raise StartFailed(f"{self.name} ended before it was ready:\n{child.log_tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"{self.name} was not ready after {_READY_WITHIN_S:g} s:\n{child.log_tail()}")
            await asyncio.sleep(_POLL_S)

    async def kill(self) -> None:
        """``kill -9`` for the process, but for nothing that it started."""
        if self._child is not None:
            self._signal(signal.SIGKILL)
            await self._end(self._child, signal.SIGKILL)

    async def terminate(self) -> bool:
        """SIGTERM, and wait; whether it ended within 30 s."""
        if self._child is None:
            return True
        began = time.monotonic()
        await self._end(self._child, signal.SIGTERM)
        return time.monotonic() - began < _STOP_WITHIN_S

    def freeze(self) -> None:
        """SIGSTOP for the process, but for nothing that it started."""
        self.frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.running:
            os.kill(self._child.pid, number)

    async def _end(self, child: Child, number: signal.Signals) -> None:
        self._child = None
        self.frozen = False
        await asyncio.to_thread(child.end, number, _STOP_WITHIN_S)

    def _environment(self) -> dict[str, str]:
        """Only the drill's settings, none of the operator's."""
        return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **self._settings}


def sample(name: str, pid: int, at: float) -> Sample | None:
    """The resources of a process now, which is ``at``; ``None`` if it has ended or there is no /proc."""
    about = _PROC / str(pid)
    try:
        descriptors = len(list((about / "fd").iterdir()))
        pages = int((about / "statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    memory = pages * os.sysconf("SC_PAGE_SIZE")
    return Sample(name, pid, at, descriptors, memory, _waited_s(about))


def _waited_s(about: Path) -> float | None:
    """Return how long the first thread has waited for a processor (Linux, scheduler/sched-stats.rst)."""
    try:
        return int((about / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # the kernel does not count it
        return None
