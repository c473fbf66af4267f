"""Streams, consumers and message headers of Purveyor on NATS JetStream."""

from collections.abc import Mapping

from faststream.nats import ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, StreamInfo
from nats.js.errors import BadRequestError

from purveyor.kit.errors import StartupError
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import Queue
from purveyor.transports import headers

EVENTS = StreamConfig(
    name="purveyor",
    description="Events that wait for their consumers",
    subjects=["purveyor.events.>"],
    retention=RetentionPolicy.WORK_QUEUE,
    discard=DiscardPolicy.NEW,
    storage=StorageType.FILE,
    duplicate_window=120.0,
)
"""Keeps events until they are acknowledged, even if their consumer is deleted. When full, refuses new events."""
DEAD = StreamConfig(
    name="purveyor-dead",
    description="Events that could not be handled",
    subjects=["purveyor.dead.>"],
    retention=RetentionPolicy.LIMITS,
    discard=DiscardPolicy.NEW,
    storage=StorageType.FILE,
    duplicate_window=120.0,
    allow_direct=True,
)

EVENTS_STREAM, DEAD_STREAM = str(EVENTS.name), str(DEAD.name)
ACK_WAIT_S = 8.0
"""Seconds of silence from a consumer after which its events are delivered again."""
MESSAGE_ID = "Nats-Msg-Id"
"""The server ignores a second message with this id for ``duplicate_window`` seconds."""
_EVENT_ID, _CORRELATION_ID, _TIMESTAMP = "message_id", "correlation_id", "timestamp"
_OF_THE_SERVER = "nats-"
_NAME_TAKEN, _OVERLAP, _NOT_UNIQUE = 10058, 10065, 10100
_EXACT = ("retention", "discard", "storage")


def subject(queue: str) -> str:
    """Subject of a queue's events."""
    return f"purveyor.events.{queue}"


def dead_subject(queue: str) -> str:
    """Subject of a queue's dead letters."""
    return f"purveyor.dead.{queue}"


def consumer_name(queue: str) -> str:
    """Name of a queue's durable consumer, which must not contain a dot."""
    return queue.replace(".", "-")


def consumer_config(queue: str) -> ConsumerConfig:
    """Configuration of a queue's consumer. Pending acks are unlimited, because waiting retries count as such."""
    return ConsumerConfig(
        durable_name=consumer_name(queue),
        filter_subject=subject(queue),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_deliver=-1,
        max_ack_pending=-1,
    )


async def declare(jetstream: JetStreamContext) -> None:
    """Create missing streams. Limits and replicas are left to the operator.

    Raises ``StartupError`` for a stream that would lose events, and the client's errors.
    """
    for config in (EVENTS, DEAD):
        try:
            await jetstream.add_stream(config)
        except BadRequestError as error:
            if error.err_code == _OVERLAP:
                raise StartupError(
                    f"NATS: another stream has the subjects of {config.name}. Delete it."
                ) from error
            if error.err_code != _NAME_TAKEN:
                raise StartupError(f"NATS: stream {config.name}: {error.description}.") from error
            _require_safe(await jetstream.stream_info(str(config.name)), config)


def _require_safe(info: StreamInfo, config: StreamConfig) -> None:
    found = info.config
    odd = [f"{name}={getattr(found, name)}" for name in _EXACT if getattr(found, name) != getattr(config, name)]
    if missing := set(config.subjects or ()) - set(found.subjects or ()):
        odd.append(f"without the subject {', '.join(missing)}")
    if found.max_age:
        odd.append(f"max_age={found.max_age:g} s")
    if odd:
        other = f"exists with other properties ({', '.join(odd)})"
        raise StartupError(f"NATS: stream {config.name} {other}. Delete it when it is empty.")


async def declare_consumer(jetstream: JetStreamContext, queue: str) -> None:
    """Create the consumer of a queue if it is missing. Raises ``StartupError`` and the client's errors."""
    try:
        await jetstream.add_consumer(EVENTS_STREAM, consumer_config(queue))
    except BadRequestError as error:
        cure = f"Delete the other consumer of {subject(queue)}." if error.err_code == _NOT_UNIQUE else ""
        raise StartupError(
            f"NATS: consumer {consumer_name(queue)}: {error.description}. {cure}".rstrip()
        ) from error


def headers_of(sent: Envelope, message_id: str) -> dict[str, str]:
    """Headers of an event. NATS headers are text."""
    more = {name: str(value) for name, value in headers.headers_of(sent).items()}
    own = {
        MESSAGE_ID: message_id,
        _EVENT_ID: str(sent.id),
        "type": sent.type,
        _TIMESTAMP: sent.occurred_at.isoformat(),
        "content-type": "application/json",
        _CORRELATION_ID: sent.correlation_id,
    }
    return {name: value for name, value in {**more, **own}.items() if value}


def event_id_of(given: Mapping[str, str]) -> str | None:
    """Event id of a message. Other publishers may set only ``Nats-Msg-Id``."""
    return given.get(_EVENT_ID) or given.get(MESSAGE_ID)


def envelope_of(given: Mapping[str, str], queue: Queue, body: bytes) -> Envelope:
    """Envelope of a message. Messages of other publishers may have no headers."""
    return headers.envelope_of(
        given,
        queue,
        body,
        message_id=event_id_of(given),
        occurred_at=headers.moment_of(given, _TIMESTAMP),
        correlation_id=given.get(_CORRELATION_ID),
    )


def again(given: Mapping[str, str], message_id: str, notes: Mapping[str, object]) -> dict[str, str]:
    """Headers for republishing a message, with ``notes``, a new message id and none of the server's headers."""
    kept = {
        name: value
        for name, value in given.items()
        if name not in headers.NOTES and not name.lower().startswith(_OF_THE_SERVER)
    }
    own = {MESSAGE_ID: message_id, _EVENT_ID: event_id_of(given) or str(headers.NO_ID)}
    return kept | {name: str(value) for name, value in notes.items()} | own
