"""Broken on purpose: a message is acknowledged before it is handled."""

import asyncio
import sys

from aio_pika.abc import AbstractIncomingMessage

from purveyor.cli import main
from purveyor.transports.rabbitmq.consumer import Consumer

_handle = Consumer._handle


async def _ack_first(self: Consumer, message: AbstractIncomingMessage, over: asyncio.Event) -> None:
    await message.ack()
    message.ack = message.nack = _nothing
    await _handle(self, message, over)


async def _nothing() -> None:
    """It is acknowledged already."""


Consumer._handle = _ack_first
sys.exit(main())
