"""A private Kafka: one broker in KRaft mode."""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from purveyor_drill.servers.certificate import make_certificate
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
        settings = self._settings(free_port())
        self._configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _settings(self, controller: int) -> dict[str, object]:
        return {
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
            "broker.session.timeout.ms": 1500,
            "broker.heartbeat.interval.ms": 250,
        }

    @property
    def _configuration(self) -> Path:
        return self.folder / "server.properties"

    def _command(self) -> Sequence[str]:
        return ["java", *_JVM, "-cp", f"{_home()}/lib/*", "kafka.Kafka", str(self._configuration)]

    def _ready(self) -> bool:
        return len(talk(self.port, _VERSIONS_REQUEST)) > 0


class GuardedKafkaServer(KafkaServer):
    """Kafka that encrypts, and lets in one user, who has the same password with each mechanism.

    The user of the two SCRAM mechanisms is in the storage that ``scripts/kafka`` formats.
    """

    variable: ClassVar[str] = "TEST_GUARDED_KAFKA_OUTLET"
    creates_topics: ClassVar[bool] = True

    @property
    def secure_url(self) -> str:
        """The setting ``KAFKA_OUTLET`` for this server."""
        return f"kafka+ssl://purveyor:tests@localhost:{self._secure_port}"

    @property
    def certificate(self) -> Path:
        """The self-signed certificate (PEM) of ``localhost`` and 127.0.0.1, for clients to trust."""
        return self.folder / "certificate.pem"

    def _settings(self, controller: int) -> dict[str, object]:
        self._secure_port = free_port()
        key = self.folder / "key.pem"
        make_certificate(self.certificate, key, self._environment())
        store = self.folder / "keystore.pem"
        store.write_text(key.read_text() + self.certificate.read_text())
        settings = super()._settings(controller)
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
        return settings | {
            "listeners": f"{settings['listeners']},SASL_SSL://127.0.0.1:{self._secure_port}",
            "advertised.listeners": (
                f"{settings['advertised.listeners']},SASL_SSL://localhost:{self._secure_port}"
            ),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": store,
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{plain} required user_purveyor="tests";',
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": f"{scram} required;",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{scram} required;",
        }


def _home() -> Path:
    return Path(os.environ.get("TEST_KAFKA_HOME") or _HOME)
