"""A proxy in front of PostgreSQL that counts round trips, so that a test can hold a budget of them."""

from contextlib import AsyncExitStack
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from faults.proxy import Proxy
from faults.proxy.conversation import Opaque, Piece
from faults.proxy.postgres import FrontendMessages

_AWAITED: Final = frozenset("QSHF")
"""Query, Sync, Flush and FunctionCall: after each of these the client waits for the server's answer."""

_DEFAULT_PORT: Final = 5432


class RoundTrips:
    """``async with RoundTrips(dsn) as proxy``: clients of ``proxy.dsn`` are counted in ``proxy.count``.

    For TCP and for unix sockets (``?host=/folder``), without TLS. Connecting is not counted. asyncpg needs
    two round trips (Flush, then Sync) for a statement that it has not prepared yet, and one afterwards.
    """

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._stack = AsyncExitStack()
        self.dsn = ""
        self.count = 0

    def reset(self) -> None:
        """Count from zero again."""
        self.count = 0

    async def __aenter__(self) -> Self:
        query = dict(parse_qsl(self._target.query))
        port = int(query.pop("port", "") or self._target.port or _DEFAULT_PORT)
        host = query.pop("host", "") or self._target.hostname or "127.0.0.1"
        place = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else host
        proxy = await self._stack.enter_async_context(Proxy(place, port, speaks=lambda: _Counting(self)))
        options = urlencode(query | {"sslmode": "disable"}, safe="/")
        self.dsn = proxy.through(self._target._replace(query=options).geturl())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class _Counting(Opaque):
    """Follows one connection, and finds the ends of its round trips."""

    def __init__(self, counter: RoundTrips) -> None:
        self._counter = counter
        self._messages = FrontendMessages()

    def to_server(self, data: bytes) -> tuple[Piece]:
        """Count, and pass on what is whole."""
        messages = list(self._messages.feed(data))
        self._counter.count += sum(message.kind in _AWAITED for message in messages)
        return (Piece(b"".join(message.data for message in messages)),)
