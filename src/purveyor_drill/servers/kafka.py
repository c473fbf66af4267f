"""A private Kafka: one broker in KRaft mode."""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from purveyor_drill.servers.process import free_port, talk
from purveyor_drill.servers.server import Server

PARTITIONS = 4
_HOME = Path(sys.prefix) / "kafka"
# API version request (key 18, version 0), correlation 1, no client id: answered once the broker takes clients.
_VERSIONS_REQUEST = bytes.fromhex("0000000a 0012 0000 00000001 ffff")
_JVM = "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"


class KafkaServer(Server):
    """Kafka from ``scripts/kafka``, with the Java of the PATH."""

    name: ClassVar[str] = "kafka"
    variable: ClassVar[str] = "TEST_KAFKA_OUTLET"
    creates_topics: ClassVar[bool] = False
    stop_signal: ClassVar[signal.Signals] = signal.SIGKILL  # an orderly end takes seconds
    ready_within_s: ClassVar[float] = 60.0

    @classmethod
    def _missing(cls) -> str | None:
        if not shutil.which("java"):
            return "java is not on the PATH; scripts/kafka gets it"
        return None if (_home() / "formatted").is_dir() else "it is not in .venv/kafka; scripts/kafka gets it"

    def _own_url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        super()._prepare()
        # An empty storage that was formatted before, which takes a Java process of its own.
        shutil.copytree(_home() / "formatted", self.folder / "data")
        controller = free_port()
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.folder / "data",
            "num.partitions": PARTITIONS,
            "auto.create.topics.enable": str(self.creates_topics).lower(),
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            # After a kill, the controller waits that long before it lets the broker in again.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
        }
        self._configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.properties"

    def _command(self) -> Sequence[str]:
        return ["java", *_JVM, "-cp", f"{_home()}/lib/*", "kafka.Kafka", str(self._configuration)]

    def _ready(self) -> bool:
        return len(talk(self.port, _VERSIONS_REQUEST)) > 0


def _home() -> Path:
    return Path(os.environ.get("TEST_KAFKA_HOME") or _HOME)
