"""Self-healing connection to NATS with a deadline on every wait."""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from faststream.nats import NatsBroker, PubAck
from nats import errors as client_errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from purveyor.kit.errors import StartupError, Unavailable

log = logging.getLogger(__name__)

CONFIRM_S = 5.0
ANSWER_S = 10.0
_CONNECT_S = 4.0
_RECONNECT_S = 2.0
_LET_GO_S = 1.0
_MONITOR_S = 1.0
_PING_S = 5
_POLL_S = 0.05
_MONITOR_PORT = 8222
_DISABLED = (10039, 10076)
"""JetStream is disabled in this account, or on this server."""
_AWAY = (
    client_errors.ConnectionClosedError,
    client_errors.ConnectionDrainingError,
    client_errors.ConnectionReconnectingError,
    client_errors.NoRespondersError,
    client_errors.NoServersError,
    client_errors.OutboundBufferLimitError,
    client_errors.StaleConnectionError,
    OSError,
)


class Refused(Exception):
    """The server rejected a message."""


class NoStream(Refused):
    """No stream has this subject."""


class Link:
    """Connection that opens on demand, reconnects by itself, and turns silence into ``Unavailable``."""

    def __init__(self, url: str) -> None:
        self._servers = servers_of(url)
        self._hosts = [urlsplit(server).netloc.rpartition("@")[2] for server in self._servers]
        self.place = f"NATS at {', '.join(self._hosts)}"
        self._turned_away = f"{self.place} refused the user or password. Correct NATS_URL."
        self._trouble: Exception | None = None
        self._lost_for_good = self._closing = False
        self._connecting = asyncio.Lock()
        self.broker = self._make_broker()

    def _make_broker(self) -> NatsBroker:
        return NatsBroker(
            self._servers,
            name="purveyor",
            connect_timeout=int(_RECONNECT_S),
            # Random, so that the processes do not reconnect at the same moment.
            reconnect_time_wait=random.uniform(0.3, 0.8),  # type: ignore[arg-type]  # noqa: S311 - asyncio.sleep takes it
            max_reconnect_attempts=-1,
            ping_interval=_PING_S,
            error_cb=self._note,
            disconnected_cb=self._lost,
            reconnected_cb=self._back,
            id_generator=str,  # an event without a request ID gets none
            graceful_timeout=None,  # consumers wait for their own handlers
            apply_types=False,
            logger=None,
        )

    async def _lost(self) -> None:
        if not self._closing:
            log.warning("connection lost", extra={"server": self.place})

    async def _back(self) -> None:
        log.warning("connected again", extra={"server": self.place})

    async def _note(self, trouble: Exception) -> None:
        self._trouble = trouble

    @asynccontextmanager
    async def until(self, deadline: float) -> AsyncIterator[None]:
        """Raise ``Unavailable`` if the server does not answer by ``deadline`` (event loop time) or disconnects.

        Raises ``StartupError`` if the server refuses the credentials or has no JetStream for the account.
        """
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as late:
            if _turns_away(self._trouble):
                raise StartupError(self._turned_away) from late
            why = f" ({self._trouble})" if self._trouble and str(self._trouble) else ""
            raise Unavailable(f"{self.place} did not respond in time{why}.") from late
        except asyncio.CancelledError as lost:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Unavailable(f"{self.place} closed the connection.") from lost
        except (client_errors.Error, OSError) as error:
            if (meant := self._meaning(error)) is None:
                raise
            raise meant from error

    def _meaning(self, error: Exception) -> Unavailable | StartupError | None:
        """Translate a client error, or return ``None`` for an error answer to a request."""
        if _turns_away(error):
            return StartupError(self._turned_away)
        if isinstance(error, _AWAY):
            return Unavailable(f"{self.place}: {str(error).rstrip('.')}.")
        if not isinstance(error, ServiceUnavailableError):
            return None
        if error.err_code in _DISABLED:
            cure = "Start nats-server with JetStream, and enable it for this account."
            return StartupError(f"{self.place}: {error.description}. {cure}")
        silent = f"{self.place}: JetStream does not answer (nats-server -js enables it)."
        return None if error.err_code else Unavailable(silent)

    async def close(self) -> None:
        """Flush pending messages, such as acks, and close the connection."""
        self._closing = True
        await self.let_go(self.broker.stop())

    async def let_go(self, ending: Awaitable[object]) -> None:
        """Wait up to 1 s for a clean end. Failures are only logged."""
        try:
            async with self.until(soon(_LET_GO_S)):
                await ending
        except (Unavailable, StartupError) as away:
            log.info("not ended in order", extra={"reason": str(away)})

    async def client(self) -> Client:
        """Return the connected client. Raises ``Unavailable`` after 2 s, or 4 s for the first connection."""
        async with self.until(soon(_CONNECT_S)), self._connecting:
            if self._lost_for_good:
                await self._replace()
            client = await self.broker.connect()
        try:
            async with self.until(soon(_RECONNECT_S)):
                while not client.is_connected:  # noqa: ASYNC110 - the client has no event for it
                    await asyncio.sleep(_POLL_S)
        except (Unavailable, StartupError):
            self._lost_for_good = not client.is_reconnecting
            raise
        self._trouble = None
        return client

    async def _replace(self) -> None:
        """Replace the broker: after refused credentials its client never connects again.

        FastStream stops reconnecting (``UNRECOVERABLE_CONNECT_ERRORS``), even while a password is being
        changed or the server has too many connections.
        """
        given_up = await self.broker.connect()
        self.broker = self._make_broker()
        self._lost_for_good, self._trouble = False, None
        await self.let_go(given_up.close())

    async def jetstream(self) -> JetStreamContext:
        """JetStream context of the connected client. Raises ``Unavailable`` and ``StartupError``."""
        return (await self.client()).jetstream(timeout=ANSWER_S)

    async def publish(
        self, body: bytes, subject: str, stream: str, headers: Mapping[str, str], deadline: float
    ) -> PubAck:
        """Publish one message and wait for the stream's confirm.

        Raises ``Refused``, ``NoStream``, and ``Unavailable``, after which the message may have arrived.
        """
        try:
            await self.client()  # a disconnected client would buffer the message and send it after the deadline
            async with self.until(deadline):
                left_s = max(_POLL_S, deadline - soon(0))
                return await self.broker.publish(
                    body, subject, headers=dict(headers), stream=stream, timeout=left_s
                )
        except NoStreamResponseError as error:
            raise NoStream(f"No stream takes {subject}.") from error
        except (APIError, client_errors.Error) as error:
            reason = (error.description if isinstance(error, APIError) else "") or str(error)
            raise Refused(f"{self.place} refused the message: {reason}.") from error

    async def sync_interval(self, monitor_url: str) -> str:
        """Read the sync interval from the server's monitoring: ``always`` or a number of seconds.

        Empty if the monitoring does not answer.
        """
        try:
            config = await asyncio.to_thread(_jetstream_config, self.monitor(monitor_url))
        except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
            log.info("monitoring of NATS not read", extra={"reason": repr(error)})
            return ""
        return "always" if config.get("sync_always") else f"{int(config.get('sync_interval', 0)) // 10**9} s"

    def monitor(self, url: str) -> str:
        """Host and port of the monitoring: those of ``url``, else port 8222 of the first server."""
        return urlsplit(url).netloc or f"{self._hosts[0].rpartition(':')[0] or self._hosts[0]}:{_MONITOR_PORT}"


def _turns_away(trouble: Exception | None) -> bool:
    """Return whether the server refused the credentials. While connecting, only the text shows it."""
    return "authorization" in str(trouble).lower() or "authentication" in str(trouble).lower()


def _jetstream_config(place: str) -> dict[str, Any]:
    connection = HTTPConnection(place, timeout=_MONITOR_S)
    try:
        connection.request("GET", "/varz")
        config: dict[str, Any] = json.load(connection.getresponse())["jetstream"]["config"]
        return config
    finally:
        connection.close()


def servers_of(url: str) -> list[str]:
    """Split the comma-separated URLs of a cluster. All but the first may be just host and port."""
    first, *others = url.split(",")
    scheme, _, rest = first.partition("://")
    credentials, at, _ = rest.rpartition("@")
    return [first, *(other if "://" in other else f"{scheme}://{credentials}{at}{other}" for other in others)]


def soon(seconds: float) -> float:
    """A deadline in event loop time."""
    return asyncio.get_running_loop().time() + seconds
