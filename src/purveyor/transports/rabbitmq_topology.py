"""RabbitMQ as Purveyor uses it: the connection, what is declared on the server, how an event looks there."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Literal, cast
from uuid import NAMESPACE_URL, UUID, uuid5

from aio_pika import Channel, DeliveryMode, Message, RobustChannel
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq import exceptions as amqp
from faststream.rabbit import Channel as BrokerChannel
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange
from yarl import URL

from purveyor.kit.clock import now
from purveyor.kit.errors import StartupError, Unavailable
from purveyor.kit.ids import parse_id
from purveyor.kit.message import Envelope
from purveyor.kit.transport import DeadLetter, Queue

log = logging.getLogger(__name__)
QueueType = Literal["classic", "quorum"]

EVENTS = RabbitExchange("purveyor.events", type=ExchangeType.TOPIC, durable=True, robust=False)
DEFAULT = RabbitExchange("")
"""The exchange without a name (AMQP 0-9-1 section 3.1.3.1): the routing key is the name of the queue."""
ATTEMPT, REASON, DIED_AT = "x-attempt", "x-reason", "x-died-at"
_STEPS = {"5s": 5_000, "30s": 30_000, "5m": 300_000}
"""The retry queues' suffixes and how long a message waits there, in milliseconds."""
_NO_ID = UUID(int=0)
_SHOWN_BYTES = 64 * 1024
_REASON_CHARACTERS = 1000
_CONNECT_S = 4.0
_CHANNEL_S = 5.0
_LET_GO_S = 1.0
_RECONNECT_S = 2.0
_HEARTBEAT_S = 10
_ANSWERS = (
    amqp.ChannelNotFoundEntity,
    amqp.ChannelPreconditionFailed,
    amqp.ChannelAccessRefused,
    amqp.DeliveryError,
)


class Refused(Exception):
    """The server did not take a message, and says so."""


class Unroutable(Refused):
    """No queue is bound for a message."""


class Link:
    """A connection that is made when it is needed, heals by itself, and has our deadline round every wait.

    The client libraries' timeouts do not bound a frozen server or a memory alarm, and a connection that is
    lost can show as ``CancelledError`` in calls that nobody cancelled: here all of it becomes ``Unavailable``.
    """

    def __init__(self, url: str, purpose: str) -> None:
        parsed = URL(url)
        self.place = f"RabbitMQ at {parsed.host}:{parsed.port or (5671 if parsed.scheme == 'amqps' else 5672)}"
        defaults = {"heartbeat": str(_HEARTBEAT_S), "name": f"purveyor {purpose}"}
        self._broker = RabbitBroker(
            str(parsed.update_query(defaults | dict(parsed.query))),
            timeout=_CONNECT_S,
            reconnect_interval=random.uniform(0.3, 0.8),  # noqa: S311 - keeps processes from coming back as one
            default_channel=BrokerChannel(publisher_confirms=True, on_return_raises=True),
            apply_types=False,
            logger=None,
        )
        self._connecting = asyncio.Lock()

    @asynccontextmanager
    async def until(self, deadline: float) -> AsyncIterator[None]:
        """Raise ``Unavailable`` when the server does not answer by then (event loop time) or goes away."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as late:
            raise Unavailable(f"{self.place} does not answer in time.") from late
        except asyncio.CancelledError as lost:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Unavailable(f"{self.place} closed the connection.") from lost
        except _ANSWERS:
            raise
        except (amqp.ProbableAuthenticationError, amqp.ConnectionNotAllowed) as error:
            raise StartupError(f"{self.place} refuses us, correct RABBITMQ_URL: {error}") from error
        except CONNECTION_EXCEPTIONS as error:
            raise Unavailable(f"{self.place}: {error}") from error

    async def close(self) -> None:
        """Let go of the connection."""
        await self.let_go(self._broker.stop())

    async def let_go(self, ending: Awaitable[object]) -> None:
        """Await the end of something for 1 s at most; a failure is worth a line and nothing more."""
        try:
            async with self.until(soon(_LET_GO_S)):
                await ending
        except Unavailable as away:
            log.info("not ended in order", extra={"reason": away.detail})

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A channel for one use; what is unacked at its end goes back to its queue. Raises ``Unavailable``."""
        async with self.until(soon(_CHANNEL_S)):
            async with self._connecting:
                connection = await self._broker.connect()
            await connection.ready()
            # Not a robust channel: that would be opened again behind our back when the connection comes back.
            channel = Channel(connection, publisher_confirms=False)
            await channel.initialize()
        try:
            yield channel
        finally:
            await self.let_go(channel.close())

    async def send(self, message: Message, routing_key: str, exchange: RabbitExchange, deadline: float) -> None:
        """Publish one message and wait for its confirm; after ``Unavailable`` it may have arrived or not.

        Raises ``Unroutable``, ``Refused`` (nack), ``Unavailable``; a lost connection is waited for 2 s at most.
        """
        try:
            async with self.until(min(deadline, soon(_RECONNECT_S))):
                declared = await self._broker.declare_exchange(exchange)
                await cast("RobustChannel", declared.channel).ready()
            async with self.until(deadline):
                await self._broker.publish(message, exchange=exchange, routing_key=routing_key)
        except (amqp.PublishError, amqp.ChannelNotFoundEntity) as error:
            raise Unroutable(f"No queue is bound for {routing_key}.") from error
        except amqp.DeliveryError as error:
            raise Refused(f"{self.place} refused the message.") from error

    async def check(self) -> str:
        """Ask for a sign of life; where the server is and its version. Raises ``Unavailable`` within 3 s."""
        async with self.until(soon(_RECONNECT_S)), self.channel() as channel:
            server = (await channel.get_underlay_channel()).connection.server_properties
            return f"{self.place}, version {server.get('version')!s}"


def soon(seconds: float) -> float:
    """A deadline in event loop time."""
    return asyncio.get_running_loop().time() + seconds


def dead_queue(name: str) -> str:
    """Where a queue's dead letters are."""
    return f"{name}.dead"


def next_queue(name: str, attempts: int) -> str:
    """Where a message goes that failed so many times: a retry queue, and after the last one the dead letters."""
    suffixes = list(_STEPS)
    return f"{name}.retry.{suffixes[attempts - 1]}" if attempts <= len(suffixes) else dead_queue(name)


async def declare(channel: AbstractChannel, queues: Sequence[Queue], queue_type: QueueType) -> None:
    """Make sure that the exchange, the queues and their bindings exist.

    Raises ``StartupError`` that names what exists in another form or may not be declared; the server has
    then closed the channel (AMQP 0-9-1, reply codes 403 and 406).
    """
    with _named(f"exchange {EVENTS.name}"):
        exchange = await channel.declare_exchange(EVENTS.name, ExchangeType.TOPIC.value, durable=True)
    for queue in queues:
        for name, arguments in _forms(queue.name, queue_type).items():
            with _named(f"queue {name}"):
                declared = await channel.declare_queue(name, durable=True, arguments=arguments)
                if name == queue.name:
                    await declared.bind(exchange, queue.event.type)


def _forms(name: str, queue_type: QueueType) -> dict[str, dict[str, Any] | None]:
    """Each queue with its arguments. A retry queue's messages expire into the work queue, which has none."""
    common: dict[str, Any] = {}
    expiring: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name}
    if queue_type == "quorum":
        # No limit: RabbitMQ 4.0 drops a message after 20 deliveries by default; we count the attempts ourselves.
        common = {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}
        # An expired message leaves only when the work queue has confirmed it.
        expiring |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    expiring |= common
    retries = {f"{name}.retry.{suffix}": expiring | {"x-message-ttl": ms} for suffix, ms in _STEPS.items()}
    return {name: common or None, **retries, dead_queue(name): common or None}


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except amqp.ChannelPreconditionFailed as error:
        cure = "Delete it when it is empty, or set RABBITMQ_QUEUE_TYPE to the type that it has."
        raise StartupError(f"RabbitMQ: {what} exists in another form ({error}). {cure}") from error
    except amqp.ChannelAccessRefused as error:
        raise StartupError(f"RabbitMQ: {what} may not be declared ({error}). Grant the user configure.") from error


def message_of(sent: Envelope) -> Message:
    """An event as the persistent message that travels; what is empty is left out."""
    headers: dict[str, str | int] = {
        "order_id": sent.subject,
        "sequence": sent.sequence,
        "currency": sent.currency,
        "language": sent.language,
        "traceparent": sent.traceparent,
    }
    return Message(
        sent.body,
        message_id=str(sent.id),
        type=sent.type,
        timestamp=sent.occurred_at,
        content_type="application/json",
        correlation_id=sent.correlation_id or None,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers={name: value for name, value in headers.items() if value},
    )


def envelope_of(message: AbstractMessage, queue: Queue) -> Envelope:
    """The envelope of a message; a foreign one may lack every property."""
    sequence = message.headers.get("sequence")
    return Envelope(
        id=id_of(message),
        type=queue.event.type,
        body=message.body,
        occurred_at=message.timestamp or now(),
        subject=_text(message.headers, "order_id"),
        sequence=sequence if isinstance(sequence, int) else 0,
        correlation_id=message.correlation_id or "",
        currency=_text(message.headers, "currency"),
        language=_text(message.headers, "language"),
        traceparent=_text(message.headers, "traceparent"),
    )


def id_of(message: AbstractMessage) -> UUID:
    """The event id: zero without a ``message_id``, derived from one that is no UUID (RFC 9562 section 5.5)."""
    if not message.message_id:
        return _NO_ID
    return parse_id(message.message_id) or uuid5(NAMESPACE_URL, message.message_id)


def attempts_of(message: AbstractMessage) -> int:
    """How many times it has failed so far."""
    attempts = message.headers.get(ATTEMPT)
    return attempts if isinstance(attempts, int) and attempts > 0 else 0


def failed(message: AbstractMessage, error: Exception, *, dead: bool) -> Message:
    """The message for its next queue, with its count of attempts and why the last one failed."""
    reason = f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS].encode("utf-8", "replace").decode()
    died = {DIED_AT: now()} if dead else {}
    return fresh(message, {ATTEMPT: attempts_of(message) + 1, REASON: reason} | died)


def fresh(message: AbstractMessage, notes: Mapping[str, Any] | None = None) -> Message:
    """The message as it first arrived, without a trace of failed attempts; with these headers added."""
    traces = (ATTEMPT, REASON, DIED_AT, "x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
    kept = [name for name in message.headers if not name.startswith(traces)]
    return Message(
        message.body,
        # The client would make one up, and the event would no longer be known as one without an id.
        message_id=message.message_id or str(_NO_ID),
        type=message.type,
        timestamp=message.timestamp,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        correlation_id=message.correlation_id,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers={name: message.headers[name] for name in kept} | dict(notes or {}),
    )


def dead_letter_of(message: AbstractIncomingMessage, queue: Queue) -> DeadLetter:
    """A message from the dead letters, as an operator sees it."""
    died_at = message.headers.get(DIED_AT)
    return DeadLetter(
        queue=queue.name,
        event_id=str(id_of(message)),
        type=queue.event.type,
        subject=_text(message.headers, "order_id"),
        attempts=attempts_of(message),
        reason=_text(message.headers, REASON),
        died_at=died_at if isinstance(died_at, datetime) else now(),
        body=message.body[:_SHOWN_BYTES].decode("utf-8", "replace"),
    )


def _text(headers: Mapping[str, Any], name: str) -> str:
    value = headers.get(name)
    return value if isinstance(value, str) else ""
