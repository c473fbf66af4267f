"""RabbitMQ as Purveyor uses it: what is declared on the server, and how an event looks there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractMessage
from aiormq import exceptions as amqp
from faststream.rabbit import ExchangeType, RabbitExchange

from purveyor.kit import tracing
from purveyor.kit.clock import now
from purveyor.kit.errors import StartupError
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import DeadLetter, Queue
from purveyor.kit.ids import new_id, parse_id
from purveyor.transports.rabbitmq.properties import carried

QueueType = Literal["classic", "quorum"]

EVENTS = RabbitExchange("purveyor.events", type=ExchangeType.TOPIC, durable=True, robust=False)
DEFAULT = RabbitExchange("")
"""The exchange without a name (AMQP 0-9-1 section 3.1.3.1): the routing key is the name of the queue."""
ATTEMPT, REASON, DIED_AT, DEAD_ID = "x-attempt", "x-reason", "x-died-at", "x-dead-id"
_ORDER_ID, _SUBJECT = "order_id", "subject"
"""The header that has the envelope's subject: the first one where that is an order."""
_ABOUT_ORDERS = ("order.", "mail.settled")
_STEPS = {"5s": 5_000, "30s": 30_000, "5m": 300_000}
"""The retry queues' suffixes and how long a message waits there, in milliseconds."""
_NO_ID = UUID(int=0)
_SHOWN_BYTES = 64 * 1024
_REASON_CHARACTERS = 1000


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
        cure = "Delete it when it is empty, or set RABBITMQ_QUEUE_TYPE to its type."
        if "x-queue-type" not in str(error):
            cure = "Delete it when it is empty. Use a server policy instead of queue arguments."
        raise StartupError(f"RabbitMQ: {what} exists with other properties ({error}). {cure}") from error
    except amqp.ChannelAccessRefused as error:
        raise StartupError(
            f"RabbitMQ: {what} may not be declared ({error}). Grant the user the configure permission."
        ) from error


def message_of(sent: Envelope) -> Message:
    """An event as the persistent message that travels; what is empty is left out."""
    headers: dict[str, str | int] = {
        _ORDER_ID if sent.type.startswith(_ABOUT_ORDERS) else _SUBJECT: sent.subject,
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
        subject=_subject(message.headers),
        sequence=sequence if isinstance(sequence, int) else 0,
        correlation_id=message.correlation_id or "",
        currency=_text(message.headers, "currency"),
        language=_text(message.headers, "language"),
        traceparent=traceparent_of(message),
    )


def id_of(message: AbstractMessage) -> UUID:
    """The event id: zero without a ``message_id``, derived from one that is no UUID (RFC 9562 section 5.5)."""
    if not message.message_id:
        return _NO_ID
    return parse_id(message.message_id) or uuid5(NAMESPACE_URL, message.message_id)


def traceparent_of(message: AbstractMessage) -> str:
    """The trace that it belongs to; empty without one, and for what is none."""
    return tracing.parse(_text(message.headers, "traceparent"))


def dead_id_of(message: AbstractMessage) -> str:
    """What a dead letter is known by: its event id, and without one an id that it got when it died."""
    return _text(message.headers, DEAD_ID) or str(id_of(message))


def attempts_of(message: AbstractMessage) -> int:
    """How many times it has failed so far."""
    attempts = message.headers.get(ATTEMPT)
    return attempts if isinstance(attempts, int) and attempts > 0 else 0


def failed(message: AbstractMessage, error: Exception, *, dead: bool) -> Message:
    """The message for its next queue, with its count of attempts and why the last one failed."""
    reason = f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS].encode("utf-8", "replace").decode()
    died: dict[str, Any] = {DIED_AT: now()} if dead else {}
    if dead and id_of(message) == _NO_ID:
        died[DEAD_ID] = str(new_id())
    return fresh(message, {ATTEMPT: attempts_of(message) + 1, REASON: reason} | died)


def fresh(message: AbstractMessage, notes: Mapping[str, Any] | None = None) -> Message:
    """The message as it first arrived, without a trace of failed attempts; with these headers added."""
    traces = (ATTEMPT, REASON, DIED_AT, DEAD_ID, "x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
    kept = {name: value for name, value in message.headers.items() if not name.startswith(traces)}
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
        headers=carried(kept) | dict(notes or {}),
    )


def dead_letter_of(message: AbstractIncomingMessage, queue: Queue) -> DeadLetter:
    """A message from the dead letters, as an operator sees it."""
    died_at = message.headers.get(DIED_AT)
    return DeadLetter(
        queue=queue.name,
        event_id=dead_id_of(message),
        type=queue.event.type,
        subject=_subject(message.headers),
        attempts=attempts_of(message),
        reason=_text(message.headers, REASON),
        died_at=died_at if isinstance(died_at, datetime) else now(),
        body=message.body[:_SHOWN_BYTES].decode("utf-8", "replace"),
    )


def _subject(headers: Mapping[str, Any]) -> str:
    return _text(headers, _ORDER_ID) or _text(headers, _SUBJECT)


def _text(headers: Mapping[str, Any], name: str) -> str:
    value = headers.get(name)
    return value if isinstance(value, str) else ""
