"""Events through NATS JetStream: publish with confirms, consume with retries and dead letters, look and replay."""

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
    """The event transport over NATS JetStream: one stream of events, a subject and a durable consumer per queue.

    ``startup_wait_s`` is how long ``open`` waits for the server, in seconds; ``prefetch`` how many events of a
    queue are in hand at a time. ``monitor_url`` is where the server says whether it syncs every write.
    """

    def __init__(self, url: str, *, monitor_url: str = "", startup_wait_s: float, prefetch: int = 20) -> None:
        self._link = Link(url)
        self._monitor_url, self._startup_wait_s, self._prefetch = monitor_url, startup_wait_s, prefetch
        self._queues: dict[str, Queue] = {}
        self._consumers: dict[str, Consumer] = {}
        self._restoring, self._restored_at = asyncio.Lock(), -_RESTORE_EVERY_S
        self._sync_warned = False

    async def open(self, queues: Sequence[Queue]) -> None:
        """Raises ``StartupError`` when the server cannot be reached in ``startup_wait_s``, refuses us, or has a
        stream in another form. Once this returned, the transport heals by itself.
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
        """Returns within 10 s, whatever the server does.

        ``Unavailable`` at an event's place: not confirmed, and it may have arrived all the same. ``Refused``: it
        has not.
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
        """To every queue of the event's type. After a failure all of them are tried again, and know their id."""
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
            # The server knows the id of an event that was handled already. It may be replayed on purpose.
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
        """Declare again what somebody deleted while we ran; one at a time, and at most once a second."""
        async with self._restoring:
            if soon(-_RESTORE_EVERY_S) > self._restored_at:
                self._restored_at = soon(0)
                await self._declare()

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        """A handler that fails is called again later, 12 times at most; a call that ended with its process counts.

        While it raises ``Unavailable`` the event stays in hand, and that counts as no attempt. When cancelled: no
        new events, and at most 15 s for the handlers in hand.
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
        """The oldest 1000 of each queue; they stay where they are."""
        found: list[DeadLetter] = []
        for queue in self._queues.values():
            async for message in self._dead(queue):
                given = message.headers or {}
                sent = streams.envelope_of(given, queue, message.data or b"")
                found.append(headers.dead_letter_of(given, queue, sent, _dead_id_of(message)))
        return sorted(found, key=lambda letter: letter.died_at)[:_MAX_DEAD_LETTERS]

    async def replay(self, queue: str, event_id: str) -> bool:
        """Looks through the oldest 1000; the stream of events confirms it before it is taken out."""

        async def send(message: RawStreamMsg) -> None:
            given = streams.again(message.headers or {}, f"{queue}.dead.{message.seq}", {})
            await self._send(
                message.data or b"", streams.subject(queue), streams.EVENTS_STREAM, given, soon(CONFIRM_S)
            )

        return await self._take_out(queue, event_id, send)

    async def drop(self, queue: str, event_id: str) -> bool:
        """Looks through the oldest 1000."""

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
                    with suppress(NotFoundError):  # somebody else took it out meanwhile
                        async with self._link.until(soon(CONFIRM_S)):
                            jetstream = await self._link.jetstream()
                            await jetstream.delete_msg(streams.DEAD_STREAM, int(message.seq or 0))
                    return True
        return False

    async def _dead(self, queue: Queue) -> AsyncGenerator[RawStreamMsg, None]:
        """The dead letters of a queue, oldest first."""
        deadline, sequence = soon(_LOOK_S), 1
        with suppress(NotFoundError):  # no more of them
            for _ in range(_MAX_DEAD_LETTERS):
                async with self._link.until(deadline):
                    message = await (await self._link.jetstream()).get_msg(
                        streams.DEAD_STREAM,
                        seq=sequence,
                        subject=streams.dead_subject(queue.name),
                        next=True,
                        direct=True,  # the other form loses what is not ASCII in the headers
                    )
                sequence = int(message.seq or 0) + 1
                yield message

    async def check(self) -> str:
        """Raises ``Unavailable``; ``StartupError`` for a stream that is gone."""
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
        """Say what an acknowledged event is worth, unless the server syncs every write.

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
