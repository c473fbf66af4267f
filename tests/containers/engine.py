"""A Docker engine: the machine's own, or one that lives in a folder and in namespaces of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from purveyor_drill.servers import process_tree as tree
from purveyor_drill.servers import reaper

CHECKOUT = Path(__file__).parents[2]
_SCRIPT = Path(__file__).with_name("engine.sh")
_CGROUP = f"purveyor-test-{os.getpid()}"
_START_S = 60.0


class Failed(Exception):
    """A step did not do what it should; the text says which, and what was said."""


class Engine:
    """Runs ``docker`` against one engine. ``ours``: it ends with this process, with all that it holds."""

    def __init__(self, prefix: Sequence[str] = (), *, ours: bool = False) -> None:
        self._prefix = tuple(prefix)
        self.ours = ours

    def docker(
        self,
        *arguments: str,
        within_s: float = 60.0,
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
    ) -> str:
        """What the command writes to its output. Raises ``Failed``; ``env`` adds to our environment."""
        try:
            done = subprocess.run(
                [*self._prefix, "docker", *arguments],
                cwd=CHECKOUT,
                env={**os.environ, **(env or {})},
                stdin=stdin,
                capture_output=True,
                text=True,
                timeout=within_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"docker {arguments[0]} took more than {within_s:g} s") from error
        if done.returncode:
            raise Failed(f"docker {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout.strip()


def given_engine() -> Engine | None:
    """The machine's engine, where one answers and has Compose 2."""
    engine = Engine()
    if shutil.which("docker") is None:
        return None
    try:
        engine.docker("info", within_s=15.0)
        engine.docker("compose", "version", within_s=15.0)
    except Failed:
        return None
    return engine


@contextmanager
def private_engine(root: Path, folder: Path) -> Iterator[Engine]:
    """Run the ``dockerd`` of a Debian root file system; what it mounts and starts is gone at the end.

    It shares only the network with the machine (a build has to reach the package index), but changes neither
    its packet filter nor its forwarding. Needs root.
    """
    folder.mkdir()
    reaper.remove_at_end(folder)
    log = folder / "dockerd.log"
    with log.open("wb") as output:
        outer = subprocess.Popen(
            ["sh", _SCRIPT, root, folder, CHECKOUT, _CGROUP],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _wait_ready(outer, log)
    finally:
        _end(outer)
        shutil.rmtree(folder)


def _wait_ready(outer: subprocess.Popen[bytes], log: Path) -> Engine:
    deadline = time.monotonic() + _START_S
    watched = 0
    while outer.poll() is None and time.monotonic() < deadline:
        for unshare in _namespaces(outer):
            if unshare != watched:
                reaper.watch(watched := unshare)
            for daemon in _children(unshare):
                engine = Engine([*_enter(daemon), "DOCKER_HOST=unix:///engine/docker.sock"], ours=True)
                with contextlib.suppress(Failed):
                    engine.docker("info", within_s=10.0)
                    return engine
        time.sleep(0.2)
    raise Failed(f"the private engine did not start:\n{log.read_text()[-4000:]}")


def _enter(daemon: int) -> list[str]:
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    return ["nsenter", f"--target={daemon}", "--mount", "--pid", "--root", "env", f"--chdir={CHECKOUT}", path]


def _namespaces(outer: subprocess.Popen[bytes]) -> list[int]:
    """The process that holds them, when it is there; the script has other, passing children."""
    found = []
    for child in _children(outer.pid):
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{child}/comm").read_text() == "unshare\n":
                found.append(child)
    return found


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _end(outer: subprocess.Popen[bytes]) -> None:
    """Ask the daemon first, which ends its containers; then nothing survives the end of the namespaces."""
    engine = _namespaces(outer)
    for daemon in [pid for unshare in engine for pid in _children(unshare)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGTERM)
    try:
        outer.wait(30)
    except subprocess.TimeoutExpired:
        for unshare in engine:
            tree.kill(unshare)
        outer.wait()
    for unshare in engine:
        reaper.forget(unshare)


def say(text: str) -> None:
    """One line on stderr about what goes on."""
    sys.stderr.write(f"test-containers: {text}\n")
