"""Declaration of the Kafka outlet: every event is published to Kafka, too."""

from typing import TYPE_CHECKING, Annotated

import msgspec

from purveyor.kit.errors import ConfigError
from purveyor.settings import Help, Url
from purveyor.transports import OutletTransport
from purveyor.transports.kafka.target import KafkaTarget

if TYPE_CHECKING:
    from purveyor.kit.events.outlet import OutletServer  # it imports the database driver

OFF = "off"


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the outlet to Kafka."""

    kafka_outlet: Annotated[
        Url,
        Help(
            description="bootstrap servers of a Kafka that every event is published to as well, host:port or "
            "kafka+ssl://user:password@host:port; off: stop that"
        ),
    ] = Url()

    def __post_init__(self) -> None:
        _ = self.target

    @property
    def is_off(self) -> bool:
        return self.kafka_outlet.strip().lower() == OFF

    @property
    def target(self) -> KafkaTarget:
        """The servers; none without an outlet."""
        return KafkaTarget() if self.is_off else KafkaTarget.parse(self.kafka_outlet.strip())


def open_outlet(settings: KafkaSettings) -> "OutletServer":
    """Make the connection, which opens at its first use. Raises ``ConfigError`` without the extra."""
    try:
        from purveyor.transports.kafka.producer import KafkaProducer
    except ImportError as error:
        raise ConfigError("KAFKA_OUTLET: needs the package aiokafka. Install purveyor[kafka].") from error
    return KafkaProducer(settings.target)


OUTLET = OutletTransport(
    name="kafka",
    setting="KAFKA_OUTLET",
    settings=KafkaSettings,
    is_set=lambda settings: bool(settings.target.servers),
    is_off=lambda settings: settings.is_off,
    open=open_outlet,
)
