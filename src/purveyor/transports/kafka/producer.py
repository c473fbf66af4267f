"""Publishes events to Kafka as CloudEvents in binary mode, idempotently and confirmed by all in-sync replicas."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from ssl import SSLError, create_default_context
from typing import Any, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.conn import create_conn
from aiokafka.errors import (
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from purveyor.kit.errors import Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.transports.kafka.cloudevents import headers_of, topic_of
from purveyor.transports.kafka.target import KafkaTarget

log = logging.getLogger(__name__)
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs each failure that it also raises, several times

_CONNECT_S = 5.0
_REQUEST_S = 5.0
_CAUSE_S = 2.0
_TOPIC_S = 2.0
_PUBLISH_S = 6.0
"""Deadline of a batch. PostgreSQL ends the transaction around it after 15 s."""
_END_S = 30.0
_CLOSE_S = 5.0
_BATCH_BYTES = 256 * 1024
_AWAY = (KafkaError, OSError, TimeoutError)
_REFUSALS = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)


class Refused(Exception):
    """Kafka is there and does not take the events of a topic."""


Sent: TypeAlias = "asyncio.Future[object] | Refused"
"""The confirmation to come, or why the event was not sent."""


def _access(target: KafkaTarget) -> Mapping[str, Any]:
    """The client's parameters for encryption and log-in. ``SSL_CERT_FILE`` names a private CA."""
    access: dict[str, Any] = {"security_protocol": target.protocol}
    if target.tls:
        access["ssl_context"] = create_default_context()
    if target.user:
        access |= {
            "sasl_mechanism": target.mechanism,
            "sasl_plain_username": target.user,
            "sasl_plain_password": target.password.reveal(),
        }
    return access


class KafkaProducer:
    """An ``OutletServer``.

    After a failure the producer is replaced, because its sequence numbers may have a gap that the brokers refuse.
    The next one starts once the old one has delivered its events or is ended, so that none arrives late.
    """

    def __init__(self, target: KafkaTarget) -> None:
        self._servers = target.servers
        self._access = _access(target)
        self._producer: AIOKafkaProducer | None = None
        self._ending: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._is_away = False
        self._refused: set[str] = set()

    async def connect(self) -> None:
        async with self._connecting:
            if self._producer is not None:
                return
            try:
                async with asyncio.timeout(_CONNECT_S):
                    await self._ended()
                    self._producer = await self._started()
            except _AWAY as error:
                raise self._away(await self._cause(error)) from error

    async def _cause(self, error: Exception) -> Exception:
        """The first server's reason for refusing us, which the client only logs, or else ``error``."""
        try:
            async with asyncio.timeout(_CAUSE_S):
                host, _, port = self._servers[0].rpartition(":")
                connection = await create_conn(host.strip("[]"), int(port), **self._access)
                connection.close()
        except (SSLError, KafkaError) as cause:
            return cause
        except OSError:
            pass
        return error

    async def _ended(self) -> None:
        if self._ending is not None:
            await asyncio.shield(self._ending)
            self._ending = None

    async def _started(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=list(self._servers),
            client_id="purveyor",
            acks="all",
            enable_idempotence=True,
            max_batch_size=_BATCH_BYTES,
            request_timeout_ms=int(_REQUEST_S * 1000),
            **self._access,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def publish(self, source: str, events: Sequence[Envelope]) -> Sequence[Exception | None]:
        producer = self._producer
        if producer is None:
            return [Unavailable("Kafka is not connected.")] * len(events)
        sent: list[Sent] = []
        failure: Exception = TimeoutError("no answer in time")
        try:
            async with asyncio.timeout(_PUBLISH_S):
                refusals = await _refusals(producer, {event.type for event in events})
                for event in events:  # one after the other, for their order
                    sent.append(refusals[event.type] or await _send(producer, source, event))  # noqa: PERF401
                if pending := [each for each in sent if isinstance(each, asyncio.Future)]:
                    await asyncio.wait(pending)
        except _AWAY as error:
            failure = error
        outcomes = _in_order(events, [*map(_outcome, sent), *[failure] * (len(events) - len(sent))])
        if len(sent) < len(events) or any(isinstance(each, asyncio.Future) and _outcome(each) for each in sent):
            self._discard()
        if lost := next((error for error in outcomes if error and not isinstance(error, Refused)), None):
            away = self._away(lost)
            return [away if error and not isinstance(error, Refused) else error for error in outcomes]
        self._note(events, outcomes)
        return outcomes

    def _discard(self) -> None:
        if self._producer is not None:
            self._ending = asyncio.create_task(_end(self._producer))
            self._producer = None

    def _away(self, error: Exception) -> Unavailable:
        """Return the error to raise. The first of an outage is logged."""
        reason = _reason(error)
        away = Unavailable(f"Kafka at {', '.join(self._servers)} does not answer: {reason}.")
        if not self._is_away:
            self._is_away = True
            log.warning("Kafka does not answer, events wait for it", extra={"reason": reason})
        return away

    def _note(self, events: Sequence[Envelope], outcomes: Sequence[Exception | None]) -> None:
        """Log the end of an outage, and each topic once that is refused or taken again."""
        if self._is_away and None in outcomes:
            self._is_away = False
            log.info("Kafka answers again")
        refused = {event.type: str(error) for event, error in zip(events, outcomes, strict=True) if error}
        for name in refused.keys() - self._refused:
            extra = {"topic": topic_of(name), "reason": refused[name]}
            log.warning("Kafka refuses a topic, its events wait", extra=extra)
        taken = {event.type for event in events} - refused.keys()
        for name in taken & self._refused:
            log.info("Kafka takes a topic again", extra={"topic": topic_of(name)})
        self._refused = (self._refused | refused.keys()) - taken

    async def check(self) -> str:
        """Return the number of brokers. Raises ``Unavailable``."""
        await self.connect()
        producer = self._producer
        if producer is None or not await producer.client.force_metadata_update():
            raise Unavailable(f"Kafka at {', '.join(self._servers)} does not answer.")
        brokers = len(producer.client.cluster.brokers())
        return f"Kafka with {brokers} broker{'s' if brokers > 1 else ''}"

    async def close(self) -> None:
        self._discard()
        with suppress(*_AWAY):
            async with asyncio.timeout(_CLOSE_S):
                await self._ended()


async def _end(producer: AIOKafkaProducer) -> None:
    """Stop a producer. An idempotent one retries without end, so it is cut off after 30 s."""
    try:
        async with asyncio.timeout(_END_S):
            await producer.stop()
    except TimeoutError:
        await producer._sender.close()  # noqa: SLF001 - the public way waits for what can never be delivered
        await producer.client.close()


async def _refusals(producer: AIOKafkaProducer, types: Collection[str]) -> Mapping[str, Refused | None]:
    """Return by event type why its topic cannot be published to. Raises ``KafkaError`` if the server is down."""
    return dict(zip(types, await asyncio.gather(*(_refusal(producer, name) for name in types)), strict=True))


async def _refusal(producer: AIOKafkaProducer, type_: str) -> Refused | None:
    try:
        async with asyncio.timeout(_TOPIC_S):
            await producer.partitions_for(topic_of(type_))
    except TimeoutError as late:
        if not await producer.client.force_metadata_update():
            raise KafkaConnectionError("no broker answers") from late
        return Refused("there is no such topic, and Kafka does not create it")
    except _REFUSALS as error:
        return Refused(_reason(error))
    return None


async def _send(producer: AIOKafkaProducer, source: str, event: Envelope) -> Sent:
    try:
        future: asyncio.Future[object] = await producer.send(
            topic_of(event.type),
            event.body,
            key=event.subject.encode() or None,
            timestamp_ms=int(event.occurred_at.timestamp() * 1000),
            headers=headers_of(event, source),
        )
    except _REFUSALS as error:
        return Refused(_reason(error))
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # else asyncio logs a late one
    return future


def _outcome(sent: Sent) -> Exception | None:
    if isinstance(sent, Refused):
        return sent
    if not sent.done():
        return TimeoutError("not confirmed in time")
    error = sent.exception()
    if isinstance(error, _REFUSALS):
        return Refused(_reason(error))
    return error if error is None or isinstance(error, Exception) else RuntimeError(repr(error))


def _in_order(events: Sequence[Envelope], outcomes: Sequence[Exception | None]) -> Sequence[Exception | None]:
    """Count an event as not confirmed after one with its type and subject that is not: both are sent again."""
    failed: dict[tuple[str, str], Exception] = {}
    found: list[Exception | None] = []
    for event, outcome in zip(events, outcomes, strict=True):
        key = event.type, event.subject
        error = failed.get(key) or outcome
        if error is not None:
            failed[key] = error
        found.append(error)
    return found


def _reason(error: Exception) -> str:
    text = str(error)
    if "Unable to bootstrap" in text:  # followed by address families, in the form that Python has for them
        return "no broker accepts a connection"
    return text.removeprefix("KafkaConnectionError: ").rstrip(".") or type(error).__name__
