"""A connection to RabbitMQ that heals by itself, with a deadline of our own round every wait."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, NamedTuple, cast

from aio_pika import Channel, Message, RobustChannel, RobustConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq import Channel as WireChannel
from aiormq import exceptions as amqp
from aiormq import spec
from aiormq.abc import ChannelFrame, FrameType
from faststream.rabbit import Channel as BrokerChannel
from faststream.rabbit import RabbitBroker, RabbitExchange
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from yarl import URL

from purveyor.kit.errors import StartupError, Unavailable
from purveyor.transports.rabbitmq import properties

log = logging.getLogger(__name__)

CONFIRM_S = 5.0
ANSWER_S = 20.0
"""Seconds for several replies in a row, which take time on a busy server."""
_CONNECT_S = 4.0
_CHANNEL_S = 5.0
_LET_GO_S = 1.0
_RECONNECT_S = 2.0
_HEARTBEAT_S = 5  # aiormq gives a silent server up after three times one second more: 18 s
_OPEN = "Connection.OpenOk"
"""In what the client says when the server closes in place of opening a virtual host; its reason is not told."""
_ANSWERS = (
    amqp.ChannelNotFoundEntity,
    amqp.ChannelPreconditionFailed,
    amqp.ChannelAccessRefused,
    amqp.DeliveryError,
)


Routed = tuple[Callable[[], Message], str]
"""A function that builds the message, and the routing key."""


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
        properties.install()  # before the first frame is read
        parsed = URL(url)
        self.place = f"RabbitMQ at {parsed.host}:{parsed.port or (5671 if parsed.scheme == 'amqps' else 5672)}"
        self._vhost = parsed.path[1:] or "/"
        defaults = {"heartbeat": str(_HEARTBEAT_S), "name": f"purveyor {purpose}"}
        self.broker = RabbitBroker(
            str(parsed.update_query(defaults | dict(parsed.query))),
            timeout=_CONNECT_S,
            reconnect_interval=random.uniform(0.3, 0.8),  # noqa: S311 - keeps processes from coming back as one
            default_channel=BrokerChannel(publisher_confirms=True, on_return_raises=True),
            graceful_timeout=None,  # whoever consumes waits for the handlers in hand
            apply_types=False,
            logger=None,
        )
        # FastStream passes these on, and has no other way to the connection before it is made.
        self.broker._connection_kwargs["connection_class"] = self._new_connection  # noqa: SLF001
        self._connection: RobustConnection | None = None
        self._connecting = asyncio.Lock()
        self._written: asyncio.Future[object] | None = None

    @asynccontextmanager
    async def until(self, deadline: float) -> AsyncIterator[None]:
        """Raise ``Unavailable`` when the server does not answer by then (event loop time) or goes away."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as late:
            raise self._late() from late
        except asyncio.CancelledError as lost:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Unavailable(f"{self.place} closed the connection.") from lost
        except _ANSWERS:
            raise
        except (amqp.ProbableAuthenticationError, amqp.ConnectionNotAllowed) as error:
            raise StartupError(f"{self.place} refused the connection: {error}. Correct RABBITMQ_URL.") from error
        except CONNECTION_EXCEPTIONS as error:
            if isinstance(error, amqp.InvalidFrameError) and _OPEN in str(error):
                trouble = f"the virtual host {self._vhost!r} does not exist or is not open to this user"
                raise StartupError(f"{self.place}: {trouble}. Correct RABBITMQ_URL.") from error
            raise Unavailable(f"{self.place}: {str(error).rstrip('.')}.") from error

    def _late(self) -> Unavailable:
        return Unavailable(f"{self.place} did not respond in time.")

    async def close(self) -> None:
        """Let go of the connection within 2 s, whatever the server does."""
        await self.let_go(self.broker.stop())
        await self._let_go_of_connection()

    async def let_go(self, ending: Awaitable[object]) -> None:
        """Await the end of something for 1 s at most; a failure is worth a line and nothing more."""
        try:
            async with self.until(soon(_LET_GO_S)):
                await ending
        except (Unavailable, ExceptionGroup) as failure:  # a group where subscribers could not be stopped
            log.info("not ended in order", extra={"reason": str(failure)})

    def _new_connection(self, *arguments: Any, **options: Any) -> RobustConnection:
        self._connection = RobustConnection(*arguments, **options)
        return self._connection

    async def _let_go_of_connection(self) -> None:
        """Close the connection that was made last.

        Until its ``close`` is called, a task of its own connects again and again. ``RabbitBroker`` does not call
        it when the first attempt fails or is cancelled, nor when ``stop`` comes no further than the channel.
        """
        if (connection := self._connection) is None:
            return
        self._connection = None
        for _ in range(2):  # when the first call is given up, the second has nothing left to wait for
            if not connection.is_closed:
                await self.let_go(connection.close())

    async def _connected(self) -> RobustConnection:
        async with self._connecting:
            try:
                return await self.broker.connect()
            except BaseException:
                await self._let_go_of_connection()
                raise

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A channel for one use; what is unacked at its end goes back to its queue. Raises ``Unavailable``."""
        async with self.until(soon(_CHANNEL_S)):
            connection = await self._connected()
            await connection.ready()
            # Not a robust channel: that would be opened again behind our back when the connection comes back.
            channel = Channel(connection, publisher_confirms=False)
            await channel.initialize()
        try:
            yield channel
        finally:
            await self.let_go(channel.close())

    async def send(self, message: Message, routing_key: str, exchange: RabbitExchange, deadline: float) -> None:
        """Publish one message and wait for its confirm. Raises the outcomes of ``send_all``."""
        (error,) = await self.send_all([(lambda: message, routing_key)], exchange, deadline)
        if error is not None:
            raise error

    async def send_all(
        self, messages: Sequence[Routed], exchange: RabbitExchange, deadline: float
    ) -> Sequence[Exception | None]:
        """Publish messages with their routing keys in one write, and wait for the confirms.

        The outcomes are ``Unroutable``, ``Refused`` (nack), the error of a message that cannot be written, or
        ``Unavailable``, after which a message may have arrived. A lost connection is waited for 2 s at most, and
        then ``Unavailable`` is raised.
        """
        async with self.until(min(deadline, soon(_RECONNECT_S))):
            declared = await self.broker.declare_exchange(exchange)
            channel = cast("RobustChannel", declared.channel)
            await channel.ready()
        async with self.until(deadline):
            wire = cast("WireChannel", await channel.get_underlay_channel())
            frames = [_Frames.of(wire, declared.name, *routed) for routed in messages]
            confirms = iter(await self._write(wire, [one for one in frames if isinstance(one, _Frames)]))
        return [
            await self._outcome(next(confirms), one.routing_key, deadline) if isinstance(one, _Frames) else one
            for one in frames
        ]

    async def _write(self, wire: WireChannel, messages: Sequence["_Frames"]) -> Sequence["asyncio.Future[object]"]:
        """Write a batch as ``WireChannel.basic_publish`` writes one message, and return the confirms.

        Not by ``broker.publish``: that holds the channel's lock until the message is written, so a hundred
        messages took two hundred rounds of the event loop. With 16 ms of other work in each, most ran into
        ``CONFIRM_S``. What a blocked connection has not written yet is waited for, so that it does not pile up.
        """
        if not messages:
            return []
        while self._written is not None and not self._written.done():
            await asyncio.wait((self._written,))
        async with wire.lock:
            while wire.write_queue.full():
                await wire.write_queue.join()
            # Nothing below awaits, so a cancellation cannot leave a number that was given and not sent.
            confirms = [_confirm(wire, message.message_id) for message in messages]
            self._written = wire.create_future()
            payload = b"".join(message.payload for message in messages)
            wire.write_queue.put_nowait(ChannelFrame(payload, should_close=False, drain_future=self._written))
        return confirms

    async def _outcome(
        self, confirm: "asyncio.Future[object]", routing_key: str, deadline: float
    ) -> Exception | None:
        if confirm.done() and not confirm.cancelled() and confirm.exception() is None:
            return None
        if not confirm.done() and soon(0) >= deadline:  # a wait would take a round of the event loop for each
            confirm.cancel()
            return self._late()
        try:
            async with self.until(deadline):
                await confirm
        except (amqp.PublishError, amqp.ChannelNotFoundEntity) as error:
            return _caused(Unroutable(f"No queue is bound for {routing_key}."), error)
        except amqp.DeliveryError as error:
            return _caused(Refused(f"{self.place} refused the message."), error)
        except Exception as error:
            return error
        return None

    async def version(self) -> str:
        """Ask for a sign of life, which is the server's version. Raises ``Unavailable`` within 3 s."""
        async with self.until(soon(_RECONNECT_S)), self.channel() as channel:
            return str((await channel.get_underlay_channel()).connection.server_properties.get("version"))


class _Frames(NamedTuple):
    """An encoded message."""

    routing_key: str
    message_id: str
    payload: bytes

    @classmethod
    def of(
        cls, wire: WireChannel, exchange: str, make: Callable[[], Message], routing_key: str
    ) -> "_Frames | Exception":
        """Encode a message, or return the error."""
        try:
            message = make()
            body, properties, size = message.body, message.properties, wire.max_content_size
            frames: list[FrameType] = [
                ContentHeader(properties=properties, body_size=len(body)),
                *(ContentBody(body[start : start + size]) for start in range(0, len(body), size)),
            ]
            payload = (
                _publish(wire.number, exchange, routing_key) + ChannelFrame.marshall(wire.number, frames).payload
            )
            return cls(routing_key, properties.message_id or "", payload)
        except Exception as error:
            return error


@lru_cache(maxsize=256)
def _publish(channel: int, exchange: str, routing_key: str) -> bytes:
    """The frame before the header and the body of a message."""
    frame = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
    return ChannelFrame.marshall(channel, [frame]).payload


def _confirm(wire: WireChannel, message_id: str) -> "asyncio.Future[object]":
    """Assign the next delivery tag and return its confirm."""
    wire.delivery_tag += 1
    tag = wire.delivery_tag
    confirm = wire.create_future()
    wire.confirmations[tag] = confirm
    wire.message_id_delivery_tag[message_id] = tag  # by which the client finds the confirm of a returned message

    def forget(_: object) -> None:
        if wire.message_id_delivery_tag.get(message_id) == tag:
            del wire.message_id_delivery_tag[message_id]

    confirm.add_done_callback(forget)
    return confirm


async def ack_all(wire: WireChannel, tags: Sequence[int]) -> None:
    """Ack deliveries in one write, as ``WireChannel.basic_ack`` does with one."""
    if wire.is_closed:
        raise amqp.ChannelInvalidStateError(f"{wire!r} closed")
    written = wire.create_future()
    frames = [spec.Basic.Ack(delivery_tag=tag) for tag in tags]
    await wire.write_queue.put(ChannelFrame.marshall(wire.number, frames, drain_future=written))
    await written


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def soon(seconds: float) -> float:
    """A deadline in event loop time."""
    return asyncio.get_running_loop().time() + seconds
