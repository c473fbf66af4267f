"""Broken on purpose: an event counts as published before the broker has confirmed it."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence

from purveyor.cli import main
from purveyor.kit.events.message import Envelope
from purveyor.transports.rabbitmq.events import RabbitEvents

_publish = RabbitEvents.publish
_tasks: set[asyncio.Task[None]] = set()


async def _try(self: RabbitEvents, envelopes: Sequence[Envelope]) -> None:
    with contextlib.suppress(Exception):
        await _publish(self, envelopes)


async def _without_confirm(self: RabbitEvents, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
    task = asyncio.create_task(_try(self, envelopes))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return [None] * len(envelopes)


RabbitEvents.publish = _without_confirm
sys.exit(main())
