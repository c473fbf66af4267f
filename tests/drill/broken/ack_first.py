"""Broken on purpose: a message is acknowledged before it is handled."""

import sys

from aio_pika.abc import AbstractIncomingMessage

from purveyor.cli import main
from purveyor.transports.rabbitmq.deliveries import Deliveries

_handle = Deliveries.handle


async def _ack_first(self: Deliveries, message: AbstractIncomingMessage) -> None:
    await message.ack()
    message.ack = message.nack = _nothing
    await _handle(self, message)


async def _nothing() -> None:
    """It is acknowledged already."""


Deliveries.handle = _ack_first
sys.exit(main())
