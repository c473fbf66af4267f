"""Requests to other HTTP services, by a client whose connections outlive that somebody gives up on an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self, TypeVar

import anyio
import httpx

T = TypeVar("T")

_GRACE_S = 0.25


class HttpClient:
    """Sends at most ``at_once`` requests at a time; follows no redirect and reads no proxy of the environment.

    Each exchange is a task of its own that only its own timeouts end. For httpcore 1.0 does not bear being
    cancelled from outside while a connection has been made and carries nothing yet, nor for a second time while it
    handles the first: the connection stays in its pool, of use to nobody, until the pool is full of them. That is
    also why the limit is not the pool's: who waits for that one is cancelled by httpcore itself.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        at_once: int,
        connect_s: float = 1.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            transport=transport,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=at_once),
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # one user's cookie is not another's
            trust_env=False,
        )
        self._connect_s = connect_s
        self._places = asyncio.Semaphore(at_once)
        self._under_way: set[asyncio.Task[Any]] = set()

    @property
    def base_url(self) -> httpx.URL:
        """The base of relative request URLs."""
        return self._client.base_url

    def request(self, method: str, url: str, **parts: Any) -> httpx.Request:
        """A request that can be sent once; ``parts`` as of ``httpx.AsyncClient.build_request``."""
        return self._client.build_request(method, url, **parts)

    async def exchange(
        self, request: httpx.Request, read: Callable[[httpx.Response], Awaitable[T]], *, within_s: float
    ) -> T:
        """Send a request and return what ``read`` makes of the response, whose body it may stream.

        Raises ``TimeoutError`` after ``within_s`` seconds in all, whatever the other side does; else what httpx
        and ``read`` raise.
        """
        exchange = asyncio.create_task(self._exchange(request, read, within_s))
        self._under_way.add(exchange)
        exchange.add_done_callback(self._ended)
        await asyncio.wait({exchange}, timeout=within_s)  # leaves it alone, also when we are cancelled
        if not exchange.done() or exchange.cancelled():
            raise TimeoutError("no answer in time")
        return exchange.result()

    async def aclose(self) -> None:
        """Give up the exchanges under way, and close the connections."""
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _exchange(
        self, request: httpx.Request, read: Callable[[httpx.Response], Awaitable[T]], within_s: float
    ) -> T:
        loop = asyncio.get_running_loop()
        ends = loop.time() + within_s
        async with self._places:
            left_s = ends - loop.time()
            if left_s <= 0:
                raise TimeoutError("not sent in time")
            timeout = httpx.Timeout(left_s, connect=min(left_s, self._connect_s), pool=None)
            request.extensions["timeout"] = timeout.as_dict()
            with _cut_some_time_after(ends):
                response = await self._client.send(request, stream=True)
                try:
                    return await read(response)
                finally:
                    await response.aclose()
            raise TimeoutError("no answer in time")

    def _ended(self, exchange: asyncio.Task[Any]) -> None:
        self._under_way.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # seen: asyncio need not complain where whoever asked has gone


@contextmanager
def _cut_some_time_after(ends: float) -> Iterator[None]:
    """End what httpx's own timeouts, which are for one read, cannot: an answer that drips.

    By a scope of anyio's, which httpcore shields its cleaning up from. The grace begins when we see that the time
    is up, not when it was: after a stall httpx's own timeouts come first, and no connection is still being made.
    """
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:
        timers: list[asyncio.TimerHandle] = []

        def grant() -> None:
            timers.append(loop.call_later(_GRACE_S, scope.cancel))

        timers.append(loop.call_at(ends, grant))
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()
