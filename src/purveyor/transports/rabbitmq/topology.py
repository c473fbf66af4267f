"""RabbitMQ as Purveyor uses it: what is declared on the server, and how an event looks there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractMessage
from aiormq import exceptions as amqp
from faststream.rabbit import ExchangeType, RabbitExchange

from purveyor.kit.errors import StartupError
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import DeadLetter, Queue
from purveyor.transports import headers
from purveyor.transports.rabbitmq.link import Link
from purveyor.transports.rabbitmq.properties import carried

QueueType = Literal["classic", "quorum"]

EVENTS = RabbitExchange("purveyor.events", type=ExchangeType.TOPIC, durable=True, robust=False)
DEFAULT = RabbitExchange("")
"""The exchange without a name (AMQP 0-9-1 section 3.1.3.1): the routing key is the name of the queue."""

_STEPS = {"5s": 5.0, "30s": 30.0, "5m": 300.0}
"""The retry queues' suffixes and how many seconds a message waits there."""
PAUSES_S = tuple(_STEPS.values())
DELIVERIES = "x-delivery-count"
"""Number of failed deliveries of a message. Only quorum queues count them."""

_TRACES = ("x-death", "x-first-death-", "x-last-death-", DELIVERIES, "x-acquired-count")
"""Headers that the server added to a message; only the beginnings of some."""


def dead_queue(name: str) -> str:
    """Return the name of a queue's dead-letter queue."""
    return f"{name}.dead"


def retry_queue(name: str, pause_s: float) -> str:
    """Return the name of the retry queue for a pause, one of ``PAUSES_S``."""
    return f"{name}.retry.{list(_STEPS)[PAUSES_S.index(pause_s)]}"


class Form(msgspec.Struct, frozen=True):
    """The type of a work queue, and the arguments of it, its retry queues and its dead-letter queue."""

    type: QueueType
    work: Mapping[str, Any]
    retry: Mapping[str, Any]
    dead: Mapping[str, Any]

    def limited(self, name: str) -> list[str]:
        """The queues with the server's own delivery limit: quorum queues that were declared without one."""
        arguments = {name: self.work, dead_queue(name): self.dead}
        unset = [queue for queue, given in arguments.items() if "x-delivery-limit" not in given]
        return unset if self.type == "quorum" else []


_QUORUM: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}
# A message that has waited leaves a quorum queue only when the work queue has confirmed it.
_CONFIRMING: dict[str, Any] = _QUORUM | {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
_CLASSIC: dict[str, Any] = {"x-queue-type": "classic"}
FORMS: dict[QueueType, Sequence[Form]] = {
    # Foreign services must be able to declare the work queue, so it has no argument, and the virtual host decides
    # its type. RabbitMQ 4 drops a message from a quorum queue after 20 deliveries: what only we use has no limit.
    "classic": (
        Form("classic", work={}, retry={}, dead={}),
        Form("quorum", work={}, retry=_CONFIRMING, dead=_QUORUM),
        Form("quorum", work={}, retry={}, dead={}),  # from a version that did not look at the type
        # Older than the virtual host's default type: the server refuses a declaration without a type.
        Form("classic", work=_CLASSIC, retry=_CLASSIC, dead=_CLASSIC),
    ),
    "quorum": (Form("quorum", work=_QUORUM, retry=_CONFIRMING, dead=_QUORUM),),
}


class _OtherForm(StartupError):
    """Something exists in another form than the one that was declared."""


async def declare(link: Link, queue: Queue, forms: Sequence[Form], deadline: float) -> Form:
    """Make sure that the exchange, a queue and those beside it exist, in the first form that the server accepts.

    Raises ``StartupError`` that names what exists in another form or may not be declared, and ``Unavailable``.
    """
    refusal: _OtherForm | None = None
    for form in forms:
        try:
            # The server closes the channel with a refusal (AMQP 0-9-1, reply codes 403 and 406).
            async with link.channel() as channel, link.until(deadline):
                if await _declare(channel, queue, form):
                    return form
        except _OtherForm as other:
            refusal = refusal or other
    raise refusal or StartupError(f"RabbitMQ: queue {queue.name} is neither a classic nor a quorum queue.")


async def _declare(channel: AbstractChannel, queue: Queue, form: Form) -> bool:
    """Declare all; ``False`` when the work queue is of another type, and then nothing beside it."""
    with _named(f"exchange {EVENTS.name}"):
        exchange = await channel.declare_exchange(EVENTS.name, ExchangeType.TOPIC.value, durable=True)
    with _named(f"queue {queue.name}"):
        declared = await channel.declare_queue(queue.name, durable=True, arguments=dict(form.work) or None)
        await declared.bind(exchange, queue.event.type)
    if not form.work:
        try:  # nothing but the refusal of another type tells the type
            await channel.declare_queue(queue.name, durable=True, arguments={"x-queue-type": form.type})
        except amqp.ChannelPreconditionFailed:
            return False
    expiring = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue.name}
    beside: dict[str, Mapping[str, Any]] = {
        retry_queue(queue.name, pause_s): {**expiring, **form.retry, "x-message-ttl": int(pause_s * 1000)}
        for pause_s in PAUSES_S
    }
    beside[dead_queue(queue.name)] = form.dead
    for name, arguments in beside.items():
        with _named(f"queue {name}"):
            await channel.declare_queue(name, durable=True, arguments=dict(arguments) or None)
    return True


async def count_waiting(channel: AbstractChannel, name: str) -> int:
    """Count the messages in a queue and in its retry queues."""
    count = 0
    for each in (name, *(retry_queue(name, pause_s) for pause_s in PAUSES_S)):
        found = await channel.declare_queue(each, passive=True)
        count += found.declaration_result.message_count or 0
    return count


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except amqp.ChannelPreconditionFailed as error:
        cure = "Delete it when it is empty. Use a server policy instead of queue arguments."
        if "x-queue-type" in str(error) or "x-delivery-limit" in str(error):
            cure = "Delete it when it is empty, or set RABBITMQ_QUEUE_TYPE to its type."
        raise _OtherForm(f"RabbitMQ: {what} exists with other properties ({error}). {cure}") from error
    except amqp.ChannelAccessRefused as error:
        raise StartupError(
            f"RabbitMQ: {what} may not be declared ({error}). Grant the user the configure permission."
        ) from error


def message_of(sent: Envelope) -> Message:
    """An event as the persistent message that travels."""
    return Message(
        sent.body,
        message_id=str(sent.id),
        type=sent.type,
        timestamp=sent.occurred_at,
        content_type="application/json",
        correlation_id=sent.correlation_id or None,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers=headers.headers_of(sent),
    )


def envelope_of(message: AbstractMessage, queue: Queue) -> Envelope:
    """The envelope of a message; a foreign one may lack every property."""
    return headers.envelope_of(
        message.headers,
        queue,
        message.body,
        message_id=message.message_id,
        occurred_at=message.timestamp,
        correlation_id=message.correlation_id,
    )


def deliveries_of(message: AbstractMessage) -> int:
    """Return the number of failed deliveries, or 0 if the queue does not count them."""
    count = message.headers.get(DELIVERIES)
    return count if isinstance(count, int) else 0


def again(message: AbstractMessage, notes: Mapping[str, Any] | None = None) -> Message:
    """The message to be published again; the server's traces go, and our notes stay unless there are new ones."""
    traces = _TRACES if notes is None else (*_TRACES, *headers.NOTES)
    kept = {name: value for name, value in message.headers.items() if not name.startswith(traces)}
    return Message(
        message.body,
        # The client would make one up, and the event would no longer be known as one without an id.
        message_id=message.message_id or str(headers.NO_ID),
        type=message.type,
        timestamp=message.timestamp,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        correlation_id=message.correlation_id,
        delivery_mode=DeliveryMode.PERSISTENT,
        headers=carried(kept) | dict(notes or {}),
    )


def dead_id_of(message: AbstractMessage) -> str:
    """Return the id of a dead letter."""
    return headers.dead_id_of(message.headers, message.message_id)


def dead_letter_of(message: AbstractMessage, queue: Queue) -> DeadLetter:
    """A message from the dead letters, as an operator sees it."""
    return headers.dead_letter_of(message.headers, queue, envelope_of(message, queue), dead_id_of(message))
