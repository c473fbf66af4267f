"""Declaration of the transport over NATS JetStream."""

from typing import Annotated

import msgspec

from purveyor.kit.errors import ConfigError
from purveyor.kit.events.transport import EventTransport
from purveyor.settings import Help, Url, require_scheme
from purveyor.transports import Transport, TransportEnv


class NatsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the transport over NATS."""

    nats_url: Annotated[Url, Help(description="NATS JetStream for events; empty: PostgreSQL")] = Url()
    nats_monitor_url: Annotated[
        Url, Help(description="monitoring URL of the NATS server; empty: port 8222 of its host")
    ] = Url()

    def __post_init__(self) -> None:
        require_scheme("NATS_MONITOR_URL", self.nats_monitor_url, "http")
        credentials, at, _ = self.nats_url.partition("://")[2].rpartition("@")
        if at and ":" not in credentials:  # NATS takes a name alone as a token, and a token would be logged
            raise ConfigError("NATS_URL: expected nats://user:password@host. A token is not supported.")


def open_events(env: TransportEnv, settings: NatsSettings) -> EventTransport:
    """Open the transport to this server."""
    from purveyor.transports.nats.events import NatsEvents

    return NatsEvents(settings.nats_url, monitor_url=settings.nats_monitor_url, startup_wait_s=env.startup_wait_s)


TRANSPORT = Transport(name="nats", settings=NatsSettings, schemes=("nats", "tls"), open=open_events)
