"""Declares the transport over RabbitMQ."""

from typing import Annotated, Literal

import msgspec

from purveyor.kit.events.transport import EventTransport
from purveyor.settings import Help, Url
from purveyor.transports import Transport, TransportEnv


class RabbitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the transport over RabbitMQ."""

    rabbitmq_url: Annotated[Url, Help(description="RabbitMQ for events; empty: PostgreSQL")] = Url()
    rabbitmq_queue_type: Annotated[
        Literal["classic", "quorum"],
        Help(description="type of the queues; other consumers and publishers expect classic"),
    ] = "classic"


def open_events(env: TransportEnv, settings: RabbitSettings) -> EventTransport:
    """The transport for this server."""
    from purveyor.transports.rabbitmq.events import RabbitEvents

    return RabbitEvents(
        settings.rabbitmq_url, queue_type=settings.rabbitmq_queue_type, startup_wait_s=env.startup_wait_s
    )


TRANSPORT = Transport(name="rabbitmq", settings=RabbitSettings, schemes=("amqp", "amqps"), open=open_events)
