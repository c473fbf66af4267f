"""Events through RabbitMQ: publish with confirms, consume with retries and dead letters, look and replay."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial

from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from faststream.rabbit import RabbitExchange

from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import DeadLetter, EventHandler, Queue
from purveyor.kit.failpoints import failpoint
from purveyor.kit.retry import RetrySchedule, retry
from purveyor.transports import headers
from purveyor.transports.handling import Handling
from purveyor.transports.rabbitmq import topology
from purveyor.transports.rabbitmq.consumer import MOST_DELIVERIES, Consumer
from purveyor.transports.rabbitmq.link import ANSWER_S, CONFIRM_S, Link, Unroutable, soon

log = logging.getLogger(__name__)

_STARTUP = RetrySchedule(first_s=0.6, longest_s=0.6)
_RESTORE_EVERY_S = 1.0
_LOOK_S = 15.0
_MAX_DEAD_LETTERS = 1000


class RabbitEvents:
    """The event transport over RabbitMQ.

    ``queue_type="quorum"`` makes the queues replicated. A foreign service that asserts ``order.created`` as
    plain durable then gets PRECONDITION_FAILED, because a queue has one type: choose ``classic``, the
    default, where such services share a queue with us. ``startup_wait_s`` is how long ``open`` waits for the
    server, in seconds; ``prefetch`` how many events of a queue are in hand at a time.
    """

    def __init__(
        self, url: str, *, queue_type: topology.QueueType = "classic", startup_wait_s: float, prefetch: int = 20
    ) -> None:
        self._possible = topology.FORMS[queue_type]
        self._startup_wait_s, self._prefetch = startup_wait_s, prefetch
        self._queues: dict[str, Queue] = {}
        self._forms: dict[str, topology.Form] = {}
        self._consumers: dict[str, Consumer] = {}
        self._publishing = Link(url, "publish")
        # A memory alarm stops whatever comes over a connection that publishes: the acks need another one.
        self._consuming = Link(url, "consume")
        self._restoring, self._restored_at = asyncio.Lock(), -_RESTORE_EVERY_S

    async def open(self, queues: Sequence[Queue]) -> None:
        """Raises ``StartupError`` when the server cannot be reached in ``startup_wait_s``, refuses us, or has a
        queue in another form. Once this returned, the transport heals by itself.
        """
        self._queues = {queue.name: queue for queue in queues}
        declare = partial(self._declare, self._publishing, queues)
        try:
            await retry(declare, _STARTUP, on=Unavailable, within_s=self._startup_wait_s)
        except BaseException as error:
            await self.close()
            if isinstance(error, Unavailable):
                raise StartupError(f"{error.detail} Start the server or correct RABBITMQ_URL.") from error
            raise

    async def close(self) -> None:
        await asyncio.gather(self._consuming.close(), self._publishing.close())

    async def _declare(self, link: Link, queues: Sequence[Queue]) -> None:
        """Each queue over a channel of its own: it takes seven round trips, which a channel makes in turn.

        Not by ``broker.declare_queue``, which remembers queues for ever and never declares a deleted one again.
        """
        deadline = soon(ANSWER_S)

        async def one(queue: Queue) -> None:
            known = self._forms.get(queue.name)  # first, since each refusal costs a channel
            forms = sorted(self._possible, key=lambda form: form != known)
            self._forms[queue.name] = await topology.declare(link, queue, forms, deadline)

        outcomes = await asyncio.gather(*map(one, queues), return_exceptions=True)
        for failure in filter(None, outcomes):
            raise failure

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        """Returns within 6 s, whatever the server does.

        ``Unavailable`` at an event's place: not confirmed, and it may have arrived all the same. ``Unroutable``
        and ``Refused``: it has not.
        """
        deadline = soon(CONFIRM_S)
        outcomes = list(await self._publish(envelopes, deadline))
        if lost := [place for place, error in enumerate(outcomes) if isinstance(error, Unroutable)]:
            again = [envelopes[place] for place in lost]
            try:
                await self._restore(deadline)
                found = await self._publish(again, deadline)
            except Exception as error:
                found = [error] * len(again)
            for place, outcome in zip(lost, found, strict=True):
                outcomes[place] = outcome
        for _ in range(outcomes.count(None)):
            failpoint("publish.confirmed")
        return outcomes

    async def _publish(self, envelopes: Sequence[Envelope], deadline: float) -> Sequence[Exception | None]:
        messages = [(partial(topology.message_of, sent), sent.type) for sent in envelopes]
        try:
            return await self._publishing.send_all(messages, topology.EVENTS, deadline)
        except Exception as error:
            return [error] * len(envelopes)

    async def _send(self, message: Message, key: str, exchange: RabbitExchange, deadline: float) -> None:
        try:
            await self._publishing.send(message, key, exchange, deadline)
        except Unroutable:
            await self._restore(deadline)
            await self._publishing.send(message, key, exchange, deadline)

    async def _restore(self, deadline: float) -> None:
        """Declare again what somebody deleted while we ran; one at a time, and at most once a second."""
        async with self._publishing.until(deadline), self._restoring:
            if soon(-_RESTORE_EVERY_S) > self._restored_at:
                self._restored_at = soon(0)
                await self._declare(self._publishing, list(self._queues.values()))

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        """A handler that fails is called again after 5 s, 30 s and 5 min; then the event is a dead letter. While
        it raises ``Unavailable`` the event stays in hand, and that counts as no attempt. When cancelled: no
        new events, and at most 15 s for the handlers in hand.
        """
        # FastStream keeps subscribers, channels and queues for ever, so there is one consumer for each queue.
        if (consumer := self._consumers.get(queue.name)) is None:
            declare = partial(self._declare_existing, queue)
            consumer = self._consumers[queue.name] = Consumer(
                self._consuming, queue.name, declare=declare, send=self._send, prefetch=self._prefetch
            )
        await consumer.run(Handling(queue, handler, topology.PAUSES_S))

    async def _declare_existing(self, queue: Queue) -> None:
        """While we run, a queue in another form can still be consumed."""
        try:
            await self._declare(self._consuming, [queue])
        except StartupError as error:
            log.warning("queue changed while we ran", extra={"queue": queue.name, "reason": str(error)})

    async def waiting(self, queues: Sequence[Queue]) -> Mapping[str, int]:
        """RabbitMQ does not count the events that a consumer has in hand, at most ``prefetch`` per process."""
        deadline = soon(CONFIRM_S)
        async with self._consuming.channel() as channel, self._consuming.until(deadline):
            return {queue.name: await topology.count_waiting(channel, queue.name) for queue in queues}

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """The oldest 1000 of each queue; they stay where they are."""
        found = [
            topology.dead_letter_of(message, queue)
            for queue in self._queues.values()
            async for message in self._dead(queue)
        ]
        return sorted(found, key=lambda letter: letter.died_at)[:_MAX_DEAD_LETTERS]

    async def replay(self, queue: str, event_id: str) -> bool:
        """Looks through the oldest 1000; the queue confirms it before it is taken out."""

        async def send(message: AbstractIncomingMessage, deadline: float) -> None:
            await self._send(topology.again(message, headers.REPLAYED), queue, topology.DEFAULT, deadline)

        return await self._take_out(queue, event_id, send)

    async def drop(self, queue: str, event_id: str) -> bool:
        """Looks through the oldest 1000."""

        async def leave(_message: AbstractIncomingMessage, _deadline: float) -> None:
            return

        return await self._take_out(queue, event_id, leave)

    async def _take_out(
        self, queue: str, event_id: str, first: Callable[[AbstractIncomingMessage, float], Awaitable[None]]
    ) -> bool:
        if queue not in self._queues:
            return False
        async with aclosing(self._dead(self._queues[queue])) as messages:
            async for message in messages:
                if topology.dead_id_of(message) == event_id:
                    deadline = soon(CONFIRM_S)
                    await first(message, deadline)
                    async with self._publishing.until(deadline):
                        await message.ack()
                    return True
        return False

    async def _dead(self, queue: Queue) -> AsyncGenerator[AbstractIncomingMessage, None]:
        """The dead letters of a queue; all that are not acked go back when this is closed."""
        name, deadline = topology.dead_queue(queue.name), soon(_LOOK_S)
        async with self._publishing.channel() as channel:
            source = await channel.get_queue(name, ensure=False)
            with suppress(ChannelNotFoundEntity):  # somebody deleted the queue
                for _ in range(_MAX_DEAD_LETTERS):
                    async with self._publishing.until(deadline):
                        message = await source.get(fail=False)
                    if message is None:
                        return
                    if topology.deliveries_of(message) >= MOST_DELIVERIES:
                        # A look counts as a delivery, of which RabbitMQ 4 allows 20. A copy is counted anew.
                        await self._send(topology.again(message), name, topology.DEFAULT, soon(CONFIRM_S))
                        async with self._publishing.until(deadline):
                            await message.ack()
                        continue
                    yield message

    async def check(self) -> str:
        """Raises ``Unavailable``, also while an alarm of the server blocks publishers."""
        version = await self._publishing.version()
        types = {name: form.type for name, form in self._forms.items()}
        found = [f"{self._publishing.place}, version {version}"]
        found += [
            _counted(kind, [name for name, type_ in types.items() if type_ == kind]) for kind in topology.FORMS
        ]
        limited = [queue for name, form in self._forms.items() for queue in form.limited(name)]
        if limited and not version.startswith("3."):  # before 4.0 there is no limit unless somebody sets one
            found.append(_limit_warning(limited))
        return ", ".join(filter(None, found))


def _counted(kind: str, names: Sequence[str]) -> str:
    return f"{len(names)} {kind} queues" if names else ""


def _limit_warning(limited: Sequence[str]) -> str:
    names = limited[0] if len(limited) == 1 else f"{limited[0]} and {len(limited) - 1} more"
    return (
        f"warning: {names} may have the server's limit of 20 deliveries, which only a policy lifts "
        f"(delivery-limit: -1); until then events are sent afresh after {MOST_DELIVERIES}"
    )
