"""A private RabbitMQ: own Erlang port mapper and cookie, small limits, a virtual host per group of tests."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from purveyor_drill.servers.newer import home
from purveyor_drill.servers.process import StartFailed, free_port, talk
from purveyor_drill.servers.server import Server

_USER = _PASSWORD = "tests"
_ONLY_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"


class RabbitServer(Server):
    """One Erlang node, run as our own account, even as root.

    Never started by the wrapper on the PATH, which changes to the account ``rabbitmq`` and uses the machine's own
    cookie and folders.
    """

    name: ClassVar[str] = "rabbitmq"
    variable: ClassVar[str] = "TEST_RABBITMQ_URL"
    stop_within_s: ClassVar[float] = 30.0
    ready_within_s: ClassVar[float] = 90.0

    @classmethod
    def _missing(cls) -> str | None:
        if cls._scripts() is None:
            return "rabbitmq-server is not installed (its scripts were not found)"
        return None if shutil.which("epmd", path=cls._path()) else "epmd (Erlang) is not on the PATH"

    @classmethod
    def _scripts(cls) -> Path | None:
        """The folder of RabbitMQ's own scripts: Debian's, the generic package's, or the one on the PATH."""
        on_path = shutil.which("rabbitmq-server")
        candidates = [Path("/usr/lib/rabbitmq/bin"), Path("/opt/rabbitmq/sbin")]
        if on_path:
            candidates.append(Path(on_path).resolve().parent)
        return next((folder for folder in candidates if (folder / "rabbitmq-env").exists()), None)

    @classmethod
    def _path(cls) -> str:
        """The search path on which Erlang is found."""
        return os.environ["PATH"]

    def _script(self, name: str) -> str:
        scripts = self._scripts()
        if scripts is None:
            raise StartFailed(f"{self.name} is not installed")
        return str(scripts / name)

    def _own_url(self) -> str:
        return f"amqp://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}/"

    def create_vhost(self, name: str, *, default_queue_type: str = "") -> str:
        """Make one virtual host as ``create_vhosts`` does, and return its URL."""
        (url,) = self.create_vhosts([name], default_queue_type=default_queue_type)
        return url

    def create_vhosts(self, names: Sequence[str], *, default_queue_type: str = "") -> Sequence[str]:
        """Make virtual hosts (names without ``/``) and return their URLs.

        ``default_queue_type`` is what a queue becomes that is declared without a type. A given server has no
        ``rabbitmqctl`` for us: there each is the given URL, its own virtual host.
        """
        if not self.ours:
            return [self.url] * len(names)
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        if default_queue_type:  # in definitions it counts from 3.11 on
            for name in names:
                self.rabbitmqctl("add_vhost", name, "--default-queue-type", default_queue_type)
        definitions = {
            "vhosts": [] if default_queue_type else [{"name": name} for name in names],
            "permissions": [{"user": _USER, "vhost": name, **everything} for name in names],
        }
        file = self.folder / f"{names[0]}.json"
        file.write_text(json.dumps(definitions))
        self.rabbitmqctl("import_definitions", str(file))  # one call: each starts an Erlang machine
        return [f"{self._own_url().rpartition('/')[0]}/{name}" for name in names]

    def rabbitmqctl(self, *arguments: str, within_s: float = 120.0) -> str:
        """Run the operator's tool against this node (1 to 2 s); raises ``CalledProcessError``."""
        done = subprocess.run(
            [self._script("rabbitmqctl"), "-q", *arguments],
            env=self._environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within_s,
            check=True,
        )
        return done.stdout

    def _prepare(self) -> None:
        super()._prepare()
        self._epmd_port, self._distribution_port = free_port(), free_port()
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"default_user = {_USER}\n"
            f"default_pass = {_PASSWORD}\n"
            "log.console = false\n"
            "num_acceptors.tcp = 2\n"
            "vm_memory_high_watermark.absolute = 512MiB\n"
            "disk_free_limit.absolute = 32MB\n"
            "raft.wal_max_size_bytes = 16777216\n"
        )
        # As our child in the foreground: else the node starts one that outlives it.
        epmd = shutil.which("epmd", path=self._path()) or "epmd"
        self._helpers.append(self._spawn([epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"]))

    def _command(self) -> Sequence[str]:
        return [self._script("rabbitmq-server")]

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        quiet = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"  # schedulers that do not spin while idle
        return super()._environment() | {
            "PATH": self._path(),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tests{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_LOGS": f"{folder}/log/node.log",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{quiet} {_ONLY_LOOPBACK}",
            "RABBITMQ_CTL_ERL_ARGS": _ONLY_LOOPBACK,
        }

    def _ready(self) -> bool:
        # AMQP 0-9-1 section 4.2.2: the protocol header is answered with a method frame (type 1), Start.
        return talk(self.port, b"AMQP\x00\x00\x09\x01").startswith(b"\x01\x00\x00")


class RabbitServer4(RabbitServer):
    """RabbitMQ 4 from a folder: the one that ``TEST_RABBITMQ4_HOME`` names, or scripts/newer-programs made.

    The folder is laid out as Debian's packages are, with an Erlang of its own.
    """

    name: ClassVar[str] = "rabbitmq4"
    variable: ClassVar[str] = "TEST_RABBITMQ4_URL"

    @classmethod
    def _missing(cls) -> str | None:
        return None if cls._scripts() else f"no RabbitMQ 4 in {cls._home()} (scripts/newer-programs gets one)"

    @classmethod
    def _home(cls) -> Path:
        return Path(os.environ.get("TEST_RABBITMQ4_HOME") or home("rabbitmq4"))

    @classmethod
    def _scripts(cls) -> Path | None:
        scripts = cls._home() / "usr/lib/rabbitmq/bin"
        return scripts if (scripts / "rabbitmq-env").exists() else None

    @classmethod
    def _path(cls) -> str:
        return f"{cls._home()}/usr/bin:{os.environ['PATH']}"
