"""Metrics across the worker processes of one port.

A scrape reaches one worker, which asks the others over loopback. Counting then costs no more than in one process,
unlike with the files in which ``prometheus_client`` can share values.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec
from prometheus_client import Metric

from purveyor.kit.metrics import REGISTRY

_ANSWER_S = 1.0
_LONGEST = 64 * 1024 * 1024


class _Family(msgspec.Struct, frozen=True, array_like=True):
    name: str
    documentation: str
    type: str
    samples: list[tuple[str, dict[str, str], float]]


_DECODER = msgspec.msgpack.Decoder(list[_Family])


@dataclass(frozen=True)
class Siblings:
    """One worker's place among all. It is picklable, so that the parent can hand it to a worker."""

    place: int
    listener: socket.socket
    ports: Sequence[int]
    """The loopback port of each worker, by its place."""

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Answer the other workers."""
        async with await asyncio.start_server(_answer, sock=self.listener):
            yield

    async def metrics(self) -> list[Metric]:
        """The metrics of all workers with the label ``worker``, without those that do not answer within 1 s."""
        others = [self._ask(port) if place != self.place else _own() for place, port in enumerate(self.ports)]
        return list(_merged(await asyncio.gather(*others)))

    @staticmethod
    async def _ask(port: int) -> Sequence[_Family]:
        with suppress(OSError, TimeoutError, msgspec.DecodeError):
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LONGEST)
                try:
                    return _DECODER.decode(await reader.read(-1))
                finally:
                    writer.close()
        return ()


def make_siblings(count: int) -> list[Siblings]:
    """Places for so many workers, with a loopback port each. The parent closes the listeners."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    return [Siblings(place, listener, ports) for place, listener in enumerate(listeners)]


async def _answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_ANSWER_S):
            writer.write(msgspec.msgpack.encode(await _own()))
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


async def _own() -> Sequence[_Family]:
    return [
        _Family(
            each.name, each.documentation, each.type, [(one.name, one.labels, one.value) for one in each.samples]
        )
        for each in REGISTRY.collect()
    ]


def _merged(workers: Iterable[Sequence[_Family]]) -> Iterator[Metric]:
    merged: dict[str, Metric] = {}
    for place, families in enumerate(workers):
        for family in families:
            metric = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for name, labels, value in family.samples:
                metric.add_sample(name, {**labels, "worker": str(place)}, value)
    yield from merged.values()
