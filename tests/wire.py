"""A host whose roles reach each other only over the wire format, and meet everything twice."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import httpx

from purveyor.host import Host
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import Asker, DeadLetter, EventHandler, EventTransport, Queue
from purveyor.kit.http.middleware import LoadShedding
from purveyor.kit.role import Port
from purveyor.process import application
from purveyor.transports.http import HttpAsker, http_client


class TwiceEvents:
    """An event transport that publishes every event twice, and delivers it twice at the same time."""

    def __init__(self, transport: EventTransport) -> None:
        self._transport = transport

    async def open(self, queues: Sequence[Queue]) -> None:
        await self._transport.open(queues)

    async def close(self) -> None:
        await self._transport.close()

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        await self._transport.publish(envelopes)
        return await self._transport.publish(envelopes)

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        async def twice(event: Any, envelope: Envelope) -> None:
            outcomes = [handler(event, envelope) for _ in range(2)]
            for error in await asyncio.gather(*outcomes, return_exceptions=True):
                if error is not None:
                    raise error

        await self._transport.consume(queue, twice)

    async def waiting(self, queues: Sequence[Queue]) -> Mapping[str, int]:
        return await self._transport.waiting(queues)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return await self._transport.dead_letters()

    async def replay(self, queue: str, event_id: str) -> bool:
        return await self._transport.replay(queue, event_id)

    async def drop(self, queue: str, event_id: str) -> bool:
        return await self._transport.drop(queue, event_id)

    async def check(self) -> str:
        return await self._transport.check()


class WireHost(Host):
    """Asks go through the HTTP codec, idempotent ones twice; events are doubled."""

    _edge: LoadShedding | None = None

    def asker(self, kind: type[Port], asking: str) -> Asker:
        client = http_client("http://wire", httpx.ASGITransport(self._serve))
        sign = partial(self.service_tokens.sign, asking=asking, asked=kind.role)
        return HttpAsker(client, timeout_s=self.settings.ask_timeout_s, role=kind.role, sign=sign, repeat=True)

    def event_transport(self) -> EventTransport:
        return TwiceEvents(super().event_transport())

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        self._edge = self._edge or application(self)
        await self._edge(scope, receive, send)
