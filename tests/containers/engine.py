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

from servers import reaper, tree

CHECKOUT = Path(__file__).parents[2]
_NAMESPACES = Path(__file__).with_name("namespaces.sh")
_CGROUP = f"purveyor-test-{os.getpid()}"
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
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
    links = _links()
    log = folder / "dockerd.log"
    with log.open("wb") as output:
        outer = subprocess.Popen(
            [*_UNSHARE, "sh", _NAMESPACES, root, folder, CHECKOUT, _CGROUP],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    reaper.watch(outer.pid)
    try:
        yield _wait_ready(outer, log)
    finally:
        _end(outer)
        reaper.forget(outer.pid)
        _remove_links(_links() - links)
        _remove_cgroups()
        shutil.rmtree(folder)


def _wait_ready(outer: subprocess.Popen[bytes], log: Path) -> Engine:
    deadline = time.monotonic() + _START_S
    while outer.poll() is None and time.monotonic() < deadline:
        for daemon in _children(outer.pid):
            engine = Engine([*_enter(daemon), "DOCKER_HOST=unix:///engine/docker.sock"], ours=True)
            with contextlib.suppress(Failed):
                engine.docker("info", within_s=10.0)
                return engine
        time.sleep(0.2)
    raise Failed(f"the private engine did not start:\n{log.read_text()[-4000:]}")


def _enter(daemon: int) -> list[str]:
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    return ["nsenter", f"--target={daemon}", "--mount", "--pid", "--root", "env", f"--chdir={CHECKOUT}", path]


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _end(outer: subprocess.Popen[bytes]) -> None:
    """Ask the daemon first, so that it takes its bridges away; then nothing survives the namespace's end."""
    for daemon in _children(outer.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGTERM)
    try:
        outer.wait(30)
    except subprocess.TimeoutExpired:
        tree.kill(outer.pid)
        outer.wait()


def _links() -> set[str]:
    return {entry.name for entry in Path("/sys/class/net").iterdir()}


def _remove_links(names: set[str]) -> None:
    for name in sorted(names):
        if name.startswith("br-"):
            subprocess.run(["ip", "link", "delete", name], check=False)


def _remove_cgroups() -> None:
    """The kernel removes a control group only when it is asked to, the innermost first."""
    for group in sorted(Path("/sys/fs/cgroup").glob(f"**/{_CGROUP}*"), reverse=True):
        for inner in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            inner.rmdir()
        group.rmdir()


def say(text: str) -> None:
    """One line on stderr about what goes on."""
    sys.stderr.write(f"test-containers: {text}\n")
