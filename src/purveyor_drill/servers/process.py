"""A server's process: its free port, its birth with a deadline, its log, and every way for it to end."""

import pwd
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from purveyor_drill.servers import process_tree as tree
from purveyor_drill.servers import reaper

_POLL_S = 0.02
_handed_out: set[int] = set()


class StartFailed(Exception):
    """A server cannot be had, or was not ready in time; the end of its log says why."""


def free_port() -> int:
    """Find a loopback port that nobody uses; never the same one twice.

    Below the ephemeral ports (Linux from 32768, IANA from 49152): one of those can become the local end of
    some client's connection while its server is down, and then the restart on it fails.
    """
    while True:
        port = random.randint(10_240, 32_767)
        if port not in _handed_out and _is_free(port):
            _handed_out.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def talk(port: int, hello: bytes) -> bytes:
    """Connect, say something, and return the first bytes of the answer; empty when there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(hello)
            return connection.recv(64)
    except OSError:
        return b""


class Identity(TypedDict):
    """The arguments of ``subprocess`` that say as whom to run."""

    user: str | None
    group: int | None
    extra_groups: list[int] | None


def run_as(user: str | None) -> Identity:
    """The account's own user and group and no other; ``None`` changes nothing."""
    if user is None:
        return Identity(user=None, group=None, extra_groups=None)
    return Identity(user=user, group=pwd.getpwnam(user).pw_gid, extra_groups=[])


class Child:
    """A child process in a session of its own; what it writes goes to a log file in its folder."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], folder: Path, user: str | None = None
    ) -> None:
        self._log = folder / f"{Path(argv[0]).name}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=folder,
                start_new_session=True,
                **run_as(user),
            )
        self.pid = self._process.pid
        reaper.watch(self.pid)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_ready(self, ready: Callable[[], bool], within_s: float) -> None:
        """Return as soon as ``ready()``; raises ``StartFailed`` when it ends before that, or is late."""
        deadline = time.monotonic() + within_s
        while not ready():
            code = self._process.poll()
            if code is not None:
                raise StartFailed(f"ended with {code} before it was ready:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"not ready after {within_s} s:\n{self.log_tail()}")
            time.sleep(_POLL_S)

    def log_tail(self, lines: int = 30) -> str:
        """The end of what it has written."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def end(self, number: signal.Signals, within_s: float) -> None:
        """Ask it to end, thawed if need be; ``kill`` it when it lives after ``within_s`` seconds."""
        if self._process.poll() is None:
            tree.thaw(self.pid)
        family = tree.members(self.pid)
        self._process.send_signal(number)
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            tree.kill(self.pid)
        if not tree.wait_gone(family, within_s=2.0):
            tree.slay(family)
        self._reap()

    def kill(self) -> None:
        """``kill -9``, with all that it started."""
        tree.kill(self.pid)
        self._reap()

    def freeze(self) -> None:
        """SIGSTOP, with all that it started: connections stay open, and nothing answers."""
        tree.freeze(self.pid)

    def thaw(self) -> None:
        """SIGCONT: go on as if nothing had been."""
        tree.thaw(self.pid)

    def _reap(self) -> None:
        self._process.wait()
        reaper.forget(self.pid)
