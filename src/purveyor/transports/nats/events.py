"""Event transport over NATS JetStream: confirmed publishing, retries, dead letters and replay."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress

from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import DeadLetter, EventHandler, Queue
from purveyor.kit.failpoints import failpoint
from purveyor.kit.ids import new_id
from purveyor.kit.retry import RetrySchedule, retry
from purveyor.transports import headers
from purveyor.transports.handling import PAUSES_S, Handling
from purveyor.transports.nats import streams
from purveyor.transports.nats.consumer import Consumer
from purveyor.transports.nats.link import ANSWER_S, CONFIRM_S, Link, NoStream, soon

log = logging.getLogger(__name__)

_STARTUP = RetrySchedule(first_s=0.6, longest_s=0.6)
_RESTORE_EVERY_S = 1.0
_LOOK_S = 15.0
_MAX_DEAD_LETTERS = 1000


class NatsEvents:
    """Event transport with one stream of events, and a subject and a durable consumer for each queue.

    ``startup_wait_s``: seconds that ``open`` waits for the server. ``prefetch``: maximum number of events of a
    queue that are handled at the same time. ``monitor_url``: the server's monitoring.
    """

    def __init__(self, url: str, *, monitor_url: str = "", startup_wait_s: float, prefetch: int = 20) -> None:
        self._link = Link(url)
        self._monitor_url, self._startup_wait_s, self._prefetch = monitor_url, startup_wait_s, prefetch
        self._queues: dict[str, Queue] = {}
        self._consumers: dict[str, Consumer] = {}
        self._restoring, self._restored_at = asyncio.Lock(), -_RESTORE_EVERY_S
        self._sync_warned = False

    async def open(self, queues: Sequence[Queue]) -> None:
        """Declare the streams.

        Raises ``StartupError`` if the server cannot be reached in time, refuses the credentials, or has a stream
        with other properties. Later failures heal by themselves.
        """
        self._queues = {queue.name: queue for queue in queues}
        try:
            await retry(self._declare, _STARTUP, on=Unavailable, within_s=self._startup_wait_s)
        except BaseException as error:
            await self.close()
            if isinstance(error, Unavailable):
                raise StartupError(f"{error.detail} Start the server or correct NATS_URL.") from error
            raise

    async def close(self) -> None:
        await self._link.close()

    async def _declare(self) -> None:
        async with self._link.until(soon(ANSWER_S)):
            await streams.declare(await self._link.jetstream())

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        """Publish events. Returns within 10 s.

        The outcome of an event is ``Unavailable`` if it was not confirmed but may have arrived, and ``Refused`` if
        it has not arrived.
        """
        deadline = soon(CONFIRM_S)

        async def outcome(sent: Envelope) -> Exception | None:
            try:
                await self._publish(sent, deadline)
                failpoint("publish.confirmed")
            except Exception as error:
                return error
            return None

        return await asyncio.gather(*map(outcome, envelopes))

    async def _publish(self, sent: Envelope, deadline: float) -> None:
        """Publish to every queue of the event's type. A retry publishes to all; the server ignores duplicates."""
        names = [name for name, queue in self._queues.items() if queue.event.type == sent.type]
        if not names:
            raise NoStream(f"No queue takes {sent.type}.")
        for name in names:
            given = streams.headers_of(sent, f"{sent.id}.{name}")
            await self._send(sent.body, streams.subject(name), streams.EVENTS_STREAM, given, deadline)

    async def _send(self, body: bytes, subject: str, stream: str, given: dict[str, str], deadline: float) -> None:
        try:
            ack = await self._link.publish(body, subject, stream, given, deadline)
        except NoStream:
            await self._restore()
            ack = await self._link.publish(body, subject, stream, given, deadline)
        if ack.duplicate and not await self._waits(stream, ack.seq):
            # The event was handled before, so this is a replay, which needs an id that is new to the server.
            fresh = given | {streams.MESSAGE_ID: f"{given[streams.MESSAGE_ID]}.{new_id()}"}
            await self._link.publish(body, subject, stream, fresh, deadline)

    async def _waits(self, stream: str, sequence: int) -> bool:
        try:
            async with self._link.until(soon(CONFIRM_S)):
                await (await self._link.jetstream()).get_msg(stream, seq=sequence)
        except NotFoundError:
            return False
        return True

    async def _restore(self) -> None:
        """Declare deleted streams again, at most once a second."""
        async with self._restoring:
            if soon(-_RESTORE_EVERY_S) > self._restored_at:
                self._restored_at = soon(0)
                await self._declare()

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        """Consume until cancelled, then wait up to 15 s for the running handlers.

        A failing handler is called up to 12 times. A call that died with its process counts as an attempt;
        ``Unavailable`` does not, and the handler is called again until it can answer.
        """
        if not self._sync_warned:
            self._sync_warned = True
            if warning := await self._sync_warning():
                log.warning(warning)
        if (consumer := self._consumers.get(queue.name)) is None:
            consumer = self._consumers[queue.name] = Consumer(
                self._link, queue.name, declare=self._declare, send=self._send, prefetch=self._prefetch
            )
        await consumer.run(Handling(queue, handler, PAUSES_S))

    async def waiting(self, queues: Sequence[Queue]) -> Mapping[str, int]:
        async with self._link.until(soon(CONFIRM_S)):
            jetstream = await self._link.jetstream()
            info = await jetstream.stream_info(streams.EVENTS_STREAM, subjects_filter=streams.subject(">"))
        counts = info.state.subjects or {}
        return {queue.name: counts.get(streams.subject(queue.name), 0) for queue in queues}

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """List the oldest 1000 dead letters of each queue, without removing them."""
        found: list[DeadLetter] = []
        for queue in self._queues.values():
            async for message in self._dead(queue):
                given = message.headers or {}
                sent = streams.envelope_of(given, queue, message.data or b"")
                found.append(headers.dead_letter_of(given, queue, sent, _dead_id_of(message)))
        return sorted(found, key=lambda letter: letter.died_at)[:_MAX_DEAD_LETTERS]

    async def replay(self, queue: str, event_id: str) -> bool:
        """Publish a dead letter again, then remove it. Searches the oldest 1000."""

        async def send(message: RawStreamMsg) -> None:
            given = streams.again(message.headers or {}, f"{queue}.dead.{message.seq}", headers.REPLAYED)
            await self._send(
                message.data or b"", streams.subject(queue), streams.EVENTS_STREAM, given, soon(CONFIRM_S)
            )

        return await self._take_out(queue, event_id, send)

    async def drop(self, queue: str, event_id: str) -> bool:
        """Remove a dead letter. Searches the oldest 1000."""

        async def leave(_message: RawStreamMsg) -> None:
            return

        return await self._take_out(queue, event_id, leave)

    async def _take_out(self, queue: str, event_id: str, first: Callable[[RawStreamMsg], Awaitable[None]]) -> bool:
        if queue not in self._queues:
            return False
        async with aclosing(self._dead(self._queues[queue])) as messages:
            async for message in messages:
                if _dead_id_of(message) == event_id:
                    await first(message)
                    with suppress(NotFoundError):  # another process removed it
                        async with self._link.until(soon(CONFIRM_S)):
                            jetstream = await self._link.jetstream()
                            await jetstream.delete_msg(streams.DEAD_STREAM, int(message.seq or 0))
                    return True
        return False

    async def _dead(self, queue: Queue) -> AsyncGenerator[RawStreamMsg, None]:
        """Dead letters of a queue, oldest first."""
        deadline, sequence = soon(_LOOK_S), 1
        with suppress(NotFoundError):  # no more of them
            for _ in range(_MAX_DEAD_LETTERS):
                async with self._link.until(deadline):
                    message = await (await self._link.jetstream()).get_msg(
                        streams.DEAD_STREAM,
                        seq=sequence,
                        subject=streams.dead_subject(queue.name),
                        next=True,
                        direct=True,  # the other form drops non-ASCII characters of the headers
                    )
                sequence = int(message.seq or 0) + 1
                yield message

    async def check(self) -> str:
        """Describe the server. Raises ``Unavailable``, and ``StartupError`` if a stream is missing."""
        try:
            async with self._link.until(soon(_RESTORE_EVERY_S * 3)):
                client = await self._link.client()
                jetstream = client.jetstream()
                events = await jetstream.stream_info(streams.EVENTS_STREAM)
                dead = await jetstream.stream_info(streams.DEAD_STREAM)
                consumers = await jetstream.consumers_info(streams.EVENTS_STREAM)
        except NotFoundError as error:
            raise StartupError(
                f"{self._link.place} has lost a stream ({error.description}). The next event makes it again."
            ) from error
        version = client.connected_server_version
        found = [
            f"{self._link.place}, version {version.major}.{version.minor}.{version.patch}",
            f"stream {streams.EVENTS_STREAM} ({events.state.messages} waiting)",
            f"stream {streams.DEAD_STREAM} ({dead.state.messages})",
            f"consumers {' '.join(sorted(consumer.name for consumer in consumers)) or 'none'}",
            await self._sync_warning() or "every write is synced",
        ]
        return ", ".join(found)

    async def _sync_warning(self) -> str:
        """Describe the risk of a server that does not sync every write; empty if it does.

        JetStream acknowledges before it syncs (nats-io/nats-server#7564).
        """
        interval = await self._link.sync_interval(self._monitor_url)
        if interval == "always":
            return ""
        if not interval:
            place = self._link.monitor(self._monitor_url)
            return (
                f"warning: {place} does not tell if NATS syncs every write; without sync_interval: always a power "
                "failure loses confirmed events (NATS_MONITOR_URL names another place)"
            )
        return (
            f"warning: NATS syncs its files every {interval}, so a power failure loses confirmed events; set "
            "sync_interval: always in the server's jetstream block"
        )


def _dead_id_of(message: RawStreamMsg) -> str:
    given = message.headers or {}
    return headers.dead_id_of(given, streams.event_id_of(given))
