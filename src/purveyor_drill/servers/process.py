"""A server's process: a free port, a start with a deadline, a log, and every way to end it."""

import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from purveyor_drill.servers import process_tree, reaper

_POLL_S = 0.02
_handed_out: set[int] = set()


class StartFailed(Exception):
    """A server cannot be started, or was not ready in time; the end of its log says why."""


def free_port() -> int:
    """Find an unused loopback port; never the same one twice.

    Below the ephemeral ports (Linux from 32768, IANA from 49152): one of those can become the local end of a
    client's connection while its server is down, and then the restart fails.
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
    """Connect, send ``hello``, and return the first bytes of the answer; empty if there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(hello)
            return connection.recv(64)
    except OSError:
        return b""


class Child:
    """A child process in a session of its own, which logs to a file in its folder."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        account: tuple[int, int] | None = None,
    ) -> None:
        """``account``: the user and group ids to run as, without any other group."""
        user, group = account or (None, None)
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
                user=user,
                group=group,
                extra_groups=None if account is None else [],
            )
        self.pid = self._process.pid
        reaper.watch(self.pid)

    @property
    def running(self) -> bool:
        """True if it is alive."""
        return self._process.poll() is None

    def wait_ready(self, ready: Callable[[], bool], within_s: float) -> None:
        """Return as soon as ``ready()``. Raises ``StartFailed`` if it ends before that, or is late."""
        deadline = time.monotonic() + within_s
        while not ready():
            code = self._process.poll()
            if code is not None:
                raise StartFailed(f"ended with {code} before it was ready:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"not ready after {within_s} s:\n{self.log_tail()}")
            time.sleep(_POLL_S)

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def end(self, number: signal.Signals, within_s: float) -> None:
        """Send it a signal, thawed if need be; ``kill`` it if it is alive after ``within_s`` seconds."""
        if self._process.poll() is None:
            process_tree.thaw(self.pid)
        family = process_tree.members(self.pid)
        self._process.send_signal(number)
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            process_tree.kill(self.pid)
        if not process_tree.wait_gone(family, within_s=2.0):
            process_tree.slay(family)
        self._reap()

    def kill(self) -> None:
        """``kill -9``, including its descendants."""
        process_tree.kill(self.pid)
        self._reap()

    def freeze(self) -> None:
        """SIGSTOP, including its descendants: connections stay open, and nothing answers."""
        process_tree.freeze(self.pid)

    def thaw(self) -> None:
        """SIGCONT."""
        process_tree.thaw(self.pid)

    def _reap(self) -> None:
        self._process.wait()
        reaper.forget(self.pid)
