"""A connection to RabbitMQ that heals by itself, with a deadline of our own round every wait."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import cast

from aio_pika import Channel, Message, RobustChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq import exceptions as amqp
from faststream.rabbit import Channel as BrokerChannel
from faststream.rabbit import RabbitBroker, RabbitExchange
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
        self._connecting = asyncio.Lock()

    @asynccontextmanager
    async def until(self, deadline: float) -> AsyncIterator[None]:
        """Raise ``Unavailable`` when the server does not answer by then (event loop time) or goes away."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as late:
            raise Unavailable(f"{self.place} did not respond in time.") from late
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

    async def close(self) -> None:
        """Let go of the connection."""
        await self.let_go(self.broker.stop())

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
                connection = await self.broker.connect()
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
                declared = await self.broker.declare_exchange(exchange)
                await cast("RobustChannel", declared.channel).ready()
            async with self.until(deadline):
                await self.broker.publish(message, exchange=exchange, routing_key=routing_key)
        except (amqp.PublishError, amqp.ChannelNotFoundEntity) as error:
            raise Unroutable(f"No queue is bound for {routing_key}.") from error
        except amqp.DeliveryError as error:
            raise Refused(f"{self.place} refused the message.") from error

    async def version(self) -> str:
        """Ask for a sign of life, which is the server's version. Raises ``Unavailable`` within 3 s."""
        async with self.until(soon(_RECONNECT_S)), self.channel() as channel:
            return str((await channel.get_underlay_channel()).connection.server_properties.get("version"))


def soon(seconds: float) -> float:
    """A deadline in event loop time."""
    return asyncio.get_running_loop().time() + seconds
