"""Where the images of ``compose.yaml`` come from: given, pulled, or stand-ins made of Debian packages."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from containers.engine import CHECKOUT, Engine, Failed, say
from purveyor_drill.servers import newer

STANDINS = Path(__file__).with_name("standins")
SUITE = "trixie"
VARIABLES = {
    "postgres": "POSTGRES_IMAGE",
    "redis": "REDIS_IMAGE",
    "rabbitmq": "RABBITMQ_IMAGE",
    "mongodb": "MONGODB_IMAGE",
    "gateway": "NGINX_IMAGE",
    "mail": "SMTP_IMAGE",
}
"""By the service that runs the image."""
_ENGINE_PACKAGES = ("docker.io", "docker-cli", "docker-compose", "docker-buildx", "iptables")
_SERVER_PACKAGES = ("postgresql", "redis-server", "rabbitmq-server", "python3-aiosmtpd", "curl")
_DEBIAN_FIRST_S = 900.0
_PULL_S = 300.0
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Debian:
    """Root file systems made by debootstrap in a folder; made once, so that a kept folder saves the time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def base(self) -> Path:
        """Python with venv, in place of the official Python image."""
        return self._make("python", ["ca-certificates", "python-is-python3", "python3", "python3-venv"])

    @property
    def engine(self) -> Path:
        """The Docker engine with its plugins, and every server that a stand-in runs."""
        base = self.base
        root = self._folder / "engine"
        if not (done := self._folder / "engine.done").exists():
            say("installing the engine and the servers into a root file system (2 to 4 minutes)")
            shutil.rmtree(root, ignore_errors=True)
            _run("cp", "--archive", str(base), str(root))
            _install(root, [*_ENGINE_PACKAGES, *_SERVER_PACKAGES])
            done.touch()
        return root

    def _make(self, name: str, packages: Sequence[str]) -> Path:
        root = self._folder / name
        if not (done := self._folder / f"{name}.done").exists():
            say(f"making a Debian {SUITE} root file system (1 to 2 minutes)")
            shutil.rmtree(root, ignore_errors=True)
            _run(*self._debootstrap(), "--variant=minbase", f"--include={','.join(packages)}", SUITE, str(root))
            if _CERTIFICATES.exists():  # where a proxy of this machine's network signs for the package index
                shutil.copyfile(_CERTIFICATES, root / _CERTIFICATES.relative_to("/"))
            done.touch()
        return root

    def _debootstrap(self) -> list[str]:
        """The machine's, or one unpacked here: it is only shell scripts."""
        if found := shutil.which("debootstrap"):
            return [found]
        tool = self._folder / "debootstrap"
        tool.mkdir(exist_ok=True)
        _run("apt-get", "--quiet", "download", "debootstrap", cwd=tool)
        _run("dpkg", "--extract", str(next(tool.glob("*.deb"))), str(tool))
        return ["env", f"DEBOOTSTRAP_DIR={tool}/usr/share/debootstrap", str(tool / "usr/sbin/debootstrap")]


def _install(root: Path, packages: Sequence[str]) -> None:
    """Debian packages, without starting their services."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    apt = ["chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", "-qq"]
    _run(*apt, "update")
    _run(*apt, "install", "--yes", "--no-install-recommends", *packages)
    _run(*apt, "clean")


def _run(*command: str, cwd: Path | None = None) -> None:
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}
    done = subprocess.run(
        ["unshare", "--mount", *command],  # debootstrap mounts; nothing of it may stay
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DEBIAN_FIRST_S,
        check=False,
    )
    if done.returncode:
        raise Failed(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )


def _newer_nginx() -> Path:
    """The folder of an nginx that finds a name's new address; Debian's own is too old."""
    _run(str(CHECKOUT / "scripts/newer-programs"), "nginx")
    return newer.home("nginx")


def _locked(package: str) -> str:
    """The version that the tests' own lock file names."""
    lock = (CHECKOUT / "requirements-dev.lock").read_text()
    found = re.search(rf"^{package}==(\S+)", lock, re.MULTILINE)
    if found is None:
        raise Failed(f"requirements-dev.lock does not name {package}")
    return found[1]


class Images:
    """Chooses every image once, and knows which ones it made."""

    def __init__(self, engine: Engine, debian: Debian, *, can_make: bool) -> None:
        self._engine = engine
        self._debian = debian
        self._can_make = can_make
        self.made: list[str] = []

    def choose(self) -> dict[str, str]:
        """The variables of ``compose.yaml`` with the images to use. Raises ``Failed`` when there is none."""
        defaults = self._defaults()
        chosen = {name: os.environ[name] for name in defaults if os.environ.get(name)}
        registry = all(self._pull(image) for image in chosen.values())
        if not registry:
            raise Failed(f"an image that was given cannot be had: {', '.join(chosen.values())}")
        for name, image in defaults.items():
            if name not in chosen:
                registry = registry and self._pull(image)  # one refusal tells of all
                chosen[name] = image if registry else self._stand_in(name)
        return chosen

    def remove(self) -> None:
        """Forget what was made, unless the engine ends and takes it along."""
        if self.made and not self._engine.ours:
            self._engine.docker("image", "rm", "--force", *reversed(self.made))

    def _defaults(self) -> dict[str, str]:
        """What ``compose.yaml`` takes where nothing is set."""
        text = self._engine.docker(
            *("compose", "--env-file", "/dev/null", "--profile", "*", "config", "--format", "json"),
            env={"JWT_SECRET": "any"} | dict.fromkeys((*VARIABLES.values(), "PYTHON_IMAGE"), ""),
        )
        services: dict[str, Any] = json.loads(text)["services"]
        python = services["monolith"]["build"]["args"]["PYTHON_IMAGE"]
        return {"PYTHON_IMAGE": python, **{name: services[key]["image"] for key, name in VARIABLES.items()}}

    def _pull(self, image: str) -> bool:
        with suppress(Failed):
            self._engine.docker("image", "inspect", image)
            return True
        try:
            self._engine.docker("pull", "--quiet", image, within_s=_PULL_S)
        except Failed as failed:
            say(f"{image} cannot be pulled: {str(failed).splitlines()[-1]}")
            return False
        return True

    def _stand_in(self, variable: str) -> str:
        if not self._can_make:
            raise Failed(f"no image for {variable}; stand-ins need root, apt-get, unshare and nsenter")
        tag = f"purveyor-standin-{variable.removesuffix('_IMAGE').lower()}:test"
        if variable == "PYTHON_IMAGE":
            self._import(self._debian.base, tag)
            return tag
        servers = "purveyor-standin-servers:test"
        if servers not in self.made:
            say("making stand-ins of the servers' images")
            self._import(self._debian.engine, servers)
        target = variable.removesuffix("_IMAGE").lower()
        command = ["build", "--quiet", "--network=host", "--target", target, "--tag", tag]
        if target == "nginx":
            nginx = _newer_nginx()
            command += [f"--build-arg=NGINX={nginx}", f"--build-context=newer={nginx}"]
        if target == "mongodb":
            command += [f"--build-arg={name.upper()}={_locked(name)}" for name in ("pymongo", "secantusdb")]
        self._engine.docker(*command, f"--file={STANDINS}/Containerfile", str(STANDINS), within_s=300.0)
        self.made.append(tag)
        return tag

    def _import(self, root: Path, tag: str) -> None:
        left_out = ["./proc/*", "./sys/*", "./dev/*", "./engine", "./run/containerd", "./var/lib/apt/lists/*"]
        tar = ["tar", "--create", "--one-file-system", *(f"--exclude={path}" for path in left_out), "."]
        with subprocess.Popen(tar, cwd=root, stdout=subprocess.PIPE) as packing:
            assert packing.stdout is not None
            self._engine.docker("import", "-", tag, within_s=300.0, stdin=packing.stdout.fileno())
        self.made.append(tag)
