"""Declaration of the Kafka outlet: every event is published to Kafka, too."""

import re
from typing import TYPE_CHECKING, Annotated

import msgspec

from purveyor.kit.errors import ConfigError
from purveyor.settings import Help
from purveyor.transports import OutletTransport

if TYPE_CHECKING:
    from purveyor.kit.events.outlet import OutletServer  # it imports the database driver

OFF = "off"
_SERVER = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", re.ASCII)


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the outlet to Kafka."""

    kafka_outlet: Annotated[
        str,
        Help(description="bootstrap servers of a Kafka that every event is published to as well; off: stop that"),
    ] = ""

    def __post_init__(self) -> None:
        if self.is_off:
            return
        for server in self.servers:
            if not _SERVER.fullmatch(server):
                raise ConfigError(
                    f"KAFKA_OUTLET: expected host:port, several separated by commas, not {server!r}."
                )

    @property
    def is_off(self) -> bool:
        return self.kafka_outlet.strip().lower() == OFF

    @property
    def servers(self) -> tuple[str, ...]:
        """The bootstrap servers; empty without an outlet."""
        return () if self.is_off else tuple(self.kafka_outlet.replace(",", " ").split())


def open_outlet(settings: KafkaSettings) -> "OutletServer":
    """Make the connection, which opens at its first use. Raises ``ConfigError`` without the extra."""
    try:
        from purveyor.transports.kafka.producer import KafkaProducer
    except ImportError as error:
        raise ConfigError("KAFKA_OUTLET: needs the package aiokafka. Install purveyor[kafka].") from error
    return KafkaProducer(settings.servers)


OUTLET = OutletTransport(
    name="kafka",
    setting="KAFKA_OUTLET",
    settings=KafkaSettings,
    is_set=lambda settings: bool(settings.servers),
    is_off=lambda settings: settings.is_off,
    open=open_outlet,
)
