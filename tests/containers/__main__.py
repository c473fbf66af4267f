"""Builds the image and brings both profiles up; the command line of ``scripts/test-containers``."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from containers import journey
from containers.engine import Engine, Failed, given_engine, private_engine, say
from containers.images import Debian, Images
from purveyor_drill.servers import reaper
from purveyor_drill.servers.process import free_port

_UNAVAILABLE = 69
_IMAGE = "purveyor:test-containers"
_ROLES = {"monolith": ("monolith",), "split": ("auth", "orders", "catalog", "email")}


class Shape:
    """One profile of ``compose.yaml`` as a project of its own, on ports that nobody uses."""

    def __init__(self, engine: Engine, profile: str, images: dict[str, str]) -> None:
        self._engine = engine
        self._profile = profile
        self._project = f"purveyor-test-{profile}"
        self.http_port, self.mail_port = free_port(), free_port()
        self._env = {
            **images,
            "PURVEYOR_IMAGE": _IMAGE,
            "JWT_SECRET": "only for this test, and longer than 32 bytes",
            "SERVICE_SECRET": "only for this test as well, and as long as it must be",
            "HTTP_PORT": str(self.http_port),
            "MAIL_PORT": str(self.mail_port),
        }

    def compose(self, *arguments: str, within_s: float = 420.0) -> str:
        """Run ``docker compose`` on this project."""
        project = ("compose", "--ansi", "never", "--env-file", "/dev/null", "--project-name", self._project)
        return self._engine.docker(
            *project, "--profile", self._profile, *arguments, env=self._env, within_s=within_s
        )

    @contextmanager
    def up(self) -> Iterator[None]:
        """Every container healthy; at the end all are gone, with their volumes and networks."""
        try:
            self.compose("up", "--detach", "--wait", "--wait-timeout", "400", "--no-build", "--pull", "never")
            yield
        except BaseException:
            with suppress(Failed):
                sys.stderr.write(self.compose("ps", "--all") + "\n")
                sys.stderr.write(self.compose("logs", "--no-color", "--tail", "30") + "\n")
            raise
        finally:
            self.compose("down", "--volumes", "--remove-orphans")

    def check(self) -> None:
        """Everything that is promised of this shape."""
        journey.order_and_mail(self.http_port, self.mail_port)
        journey.refuses_large_bodies(self.http_port)
        for role in _ROLES[self._profile]:
            journey.is_locked_down(self._engine, self.compose("ps", "--quiet", role))
        if self._profile == "split":
            for role in ("auth", "catalog"):
                journey.is_kept_inside(self._engine, self.compose("ps", "--quiet", role))
            journey.finds_a_moved_role(
                self._engine, self.compose, self.http_port, f"{self._project}_front", _IMAGE
            )


def _reason_to_skip() -> str:
    """Why this machine can have no engine, or nothing."""
    if sys.platform != "linux":
        return "no Docker engine answers, and a private one needs Linux"
    if os.geteuid() != 0:
        return "no Docker engine answers, and a private one needs root"
    missing = [tool for tool in ("apt-get", "dpkg", "unshare", "nsenter") if shutil.which(tool) is None]
    return f"no Docker engine answers, and a private one needs {', '.join(missing)}" if missing else ""


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="purveyor-containers-")).resolve()
    reaper.remove_at_end(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _engine(debian: Debian, folder: Path) -> Iterator[Engine]:
    if engine := given_engine():
        say("using the Docker engine of this machine")
        yield engine
        return
    root = debian.engine
    say("starting a private Docker engine")
    with private_engine(root, folder / "docker") as engine:
        yield engine


def _run(profiles: list[str], engine: Engine, images: Images) -> None:
    chosen = images.choose()
    started = time.monotonic()
    python = f"PYTHON_IMAGE={chosen['PYTHON_IMAGE']}"
    network = ["--network=host"] if engine.ours else []
    engine.docker(
        *("build", *network, "--file", "Containerfile", "--build-arg", python, "--tag", _IMAGE, "."),
        within_s=600.0,
    )
    images.made.append(_IMAGE)
    size = int(engine.docker("image", "inspect", "--format", "{{.Size}}", _IMAGE)) / 1e6
    say(f"built the image: {size:.0f} MB in {time.monotonic() - started:.0f} s")
    journey.holds_no_database(engine, _IMAGE)
    for profile in profiles:
        started = time.monotonic()
        shape = Shape(engine, profile, chosen)
        with shape.up():
            say(f"{profile}: every container is healthy after {time.monotonic() - started:.0f} s")
            shape.check()
        say(f"{profile}: ok")


def main() -> int:
    """Parse the arguments and run; the exit code."""
    parser = argparse.ArgumentParser(prog="test-containers", description=__doc__)
    parser.add_argument("profiles", nargs="*", help="monolith and split (default: both)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the root file systems here for the next run"
    )
    arguments = parser.parse_args()
    profiles = arguments.profiles or list(_ROLES)
    for profile in profiles:
        if profile not in _ROLES:
            parser.error(f"there is no profile {profile}; there are: {', '.join(_ROLES)}")
    if given_engine() is None and (reason := _reason_to_skip()):
        ci = os.environ.get("CI") == "true"
        say(f"{'CI=true, so this is an error' if ci else 'SKIPPED'}: {reason}")
        return _UNAVAILABLE if ci else 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _folder(arguments.keep) as folder:
            debian = Debian(folder)
            with _engine(debian, folder) as engine:
                images = Images(engine, debian, can_make=not _reason_to_skip())
                try:
                    _run(profiles, engine, images)
                finally:
                    images.remove()
    except Failed as failed:
        say(f"FAILED: {failed}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
