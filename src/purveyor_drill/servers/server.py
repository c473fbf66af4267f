"""The base of every private server: start, stop, halt, restart, kill, freeze, thaw."""

import os
import shutil
import signal
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from purveyor_drill.servers import reaper
from purveyor_drill.servers.process import Child, StartFailed, free_port


class NotOurs(Exception):
    """The server is given by the environment, so it must not be killed, frozen or scripted."""


class Server(ABC):
    """A private server; from ``start`` to ``stop`` its port, its data and its URL stay the same.

    All methods block, and raise ``StartFailed`` if it does not come up. With a URL in the environment
    variable ``variable``, ``start`` and ``stop`` do nothing and the others raise ``NotOurs``.
    """

    name: ClassVar[str]
    variable: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_within_s: ClassVar[float] = 10.0
    ready_within_s: ClassVar[float] = 30.0

    def __init__(self) -> None:
        self._given = os.environ.get(self.variable)
        self._folder: Path | None = None
        self._child: Child | None = None
        self._helpers: list[Child] = []  # alive from start to stop, through every restart
        self.port = 0

    def __getstate__(self) -> dict[str, object]:
        """Leave out the child processes, so that a copy in another process cannot stop the server."""
        return self.__dict__ | {"_child": None, "_helpers": []}

    @classmethod
    def available(cls) -> str | None:
        """Reason why it cannot be started here, or ``None``."""
        return None if os.environ.get(cls.variable) else cls._missing()

    @property
    def ours(self) -> bool:
        """True if it is a private server."""
        return self._given is None

    @property
    def url(self) -> str:
        """The URL for clients, including credentials."""
        return self._own_url() if self._given is None else self._given

    @property
    def pid(self) -> int:
        """The id of its first process."""
        return self._running().pid

    @property
    def folder(self) -> Path:
        """The folder of its files, including logs."""
        self._require_ours()
        if self._folder is None:
            raise StartFailed(f"{self.name} is not started")
        return self._folder

    def start(self) -> None:
        """Start on a new port with no data, and wait until it answers."""
        if not self.ours:
            return
        if self._folder is not None:
            raise StartFailed(f"{self.name} is started already")
        reason = self.available()
        if reason is not None:
            raise StartFailed(reason)
        try:
            self._prepare()
            self._run()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it, and remove its data. Safe to repeat, and after ``kill``."""
        if self._folder is None:
            return
        self.halt()
        while self._helpers:
            self._helpers.pop().end(signal.SIGTERM, self.stop_within_s)
        shutil.rmtree(self._folder)
        self._folder = None

    def halt(self) -> None:
        """Stop it as an operator would, and keep its data for ``restart``."""
        self._require_ours()
        if self._child is not None:
            self._child.end(self.stop_signal, self.stop_within_s)
            self._child = None

    def restart(self) -> None:
        """Start it again on the same port and data, whether it was halted, killed or is running."""
        self.halt()
        self._run()

    def kill(self) -> None:
        """``kill -9`` for all of its processes at the same moment."""
        self._running().kill()
        self._child = None

    def freeze(self) -> None:
        """SIGSTOP: the kernel still accepts connections, but nothing answers."""
        self._running().freeze()

    def thaw(self) -> None:
        self._running().thaw()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> Child:
        self._require_ours()
        if self._child is None:
            raise StartFailed(f"{self.name} is not running")
        return self._child

    def _require_ours(self) -> None:
        if not self.ours:
            raise NotOurs(f"{self.name} is given by {self.variable}")

    def _run(self) -> None:
        self._child = self._spawn(self._command())
        self._child.wait_ready(self._ready, self.ready_within_s)

    def _spawn(self, argv: Sequence[str]) -> Child:
        return Child(argv, env=self._environment(), folder=self.folder, account=self._account())

    def _account(self) -> tuple[int, int] | None:
        """The user and group ids that it runs as; ``None`` for our own."""
        return None

    def _environment(self) -> dict[str, str]:
        """Only what a server needs: no setting of the developer may change a test."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    @classmethod
    @abstractmethod
    def _missing(cls) -> str | None:
        """The missing program, or ``None``."""

    @abstractmethod
    def _own_url(self) -> str: ...

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abstractmethod
    def _ready(self) -> bool:
        """Return whether it answers in its own protocol."""

    def _prepare(self) -> None:
        """Prepare the first run; subclasses add their files."""
        # Not pytest's tmp_path: that is private to us, and a server may run as another account.
        self._folder = Path(tempfile.mkdtemp(prefix=f"purveyor-{self.name}-")).resolve()
        self._folder.chmod(0o755)
        reaper.remove_at_end(self._folder)
        self.port = free_port()
