"""Client of an external product API."""

import asyncio
import logging
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from purveyor.kit.cache import Cache, Dated, Lifetime, SharedCache, SharedLoader
from purveyor.kit.errors import RESET, ConfigError
from purveyor.kit.http.client import HttpClient
from purveyor.kit.retry import RetrySchedule, retry
from purveyor.roles.orders.contract import ProductsUnavailable
from purveyor.roles.orders.model import Product
from purveyor.roles.orders.products.answers import (
    Broken,
    Unusable,
    decode,
    read_product,
    read_products,
)
from purveyor.roles.orders.products.breaker import Breaker, BreakerOpen

T = TypeVar("T")
_log = logging.getLogger(__name__)
_MAX_BYTES = 256 * 1024
_NO_ANSWER = "The product API did not answer. Try again in a moment."
_CUT_OFF = (httpx.TransportError, *RESET)


class ProductApi:
    """The product API at a base URL, in the shape of fakestoreapi.in or without its wrapper.

    A call has ``deadline_s`` seconds in all, retries included. Responses are fresh for a minute and used for up
    to ten while the API fails; products are shared by all processes that have ``shared`` in common. There is one
    call at a time per product, and one breaker for products, in which the products of one order count as one
    call. Lists have their own breaker, so that failing lists do not stop orders. Redirects and proxy settings are
    ignored.
    """

    _RETRY: ClassVar = RetrySchedule(first_s=0.075, longest_s=0.3, factor=4.0, jitter=2 / 3)
    _RETRY_STATUS: ClassVar = frozenset({429, 500, 502, 503, 504})
    _AT_ONCE: ClassVar = 20

    def __init__(
        self,
        base_url: str,
        *,
        deadline_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedCache | None = None,
    ) -> None:
        self._base = _base(base_url)
        self._deadline_s = deadline_s
        self._client = HttpClient(
            at_once=self._AT_ONCE,
            connect_s=deadline_s / 2,
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "purveyor"},
        )
        failures = (TimeoutError, *_CUT_OFF, Broken)
        self._breaker = Breaker("the product API", failures=failures, clock=clock)
        self._list_breaker = Breaker("the product API's lists", failures=failures, clock=clock)
        loader = SharedLoader(
            self._load,
            shared,
            prefix="purveyor:product",
            decoder=msgspec.msgpack.Decoder(Dated[Product | None]),
            lifetime=_lifetime,
            stale_on=ProductsUnavailable,
        )
        self._products: Cache[int, Dated[Product | None]] = Cache(
            loader.load, lifetime=loader.lifetime, stale_on=ProductsUnavailable, max_entries=5_000, clock=clock
        )
        self._listings: Cache[str, Sequence[Product]] = Cache(
            self._list, lifetime=_lifetime, stale_on=ProductsUnavailable, max_entries=200, clock=clock
        )

    async def fetch(self, ids: Collection[int]) -> Mapping[int, Product]:
        """Fetch products; does not suspend when all are fresh in the cache."""
        with self._breaker.as_one():
            found = await self._products.get_many(ids)
        return {wanted: dated.value for wanted, dated in found.items() if dated.value is not None}

    async def page(self, page: int, limit: int, category: str | None) -> Sequence[Product]:
        if category is None:
            return (await self._listings.get(f"?page={page:d}&limit={limit:d}"))[:limit]
        # The API has no pages within a category.
        whole = await self._listings.get(f"/category?{urlencode({'type': category})}")
        return whole[(page - 1) * limit : page * limit]

    async def check(self) -> str:
        """Ask the API itself, not the cache."""
        if not await self._list("?page=1&limit=1"):
            raise ProductsUnavailable("The product API returned no products. Check PRODUCTS_API.")
        return f"{httpx.URL(self._base).host} answers"

    async def aclose(self) -> None:
        """Cancel running calls and close the connections."""
        await self._products.aclose()
        await self._listings.aclose()
        await self._client.aclose()

    async def _load(self, wanted: int) -> Product | None:
        return await self._ask(f"/{wanted:d}", partial(read_product, wanted=wanted), self._breaker)

    async def _list(self, path: str) -> Sequence[Product]:
        return await self._ask(path, read_products, self._list_breaker)

    async def _ask(self, path: str, read: Callable[[object], T], breaker: Breaker) -> T:
        ends = asyncio.get_running_loop().time() + self._deadline_s
        try:
            async with breaker.call(wait_s=self._deadline_s):
                body = await self._get_with_retries(self._base + path, ends)
                return read(None if body is None else decode(body))
        except BreakerOpen as error:
            raise ProductsUnavailable(_NO_ANSWER, retry_after_s=error.retry_after_s) from error
        except (TimeoutError, *_CUT_OFF, Unusable) as error:
            _log.warning("product API, GET %s: %s: %s", path, type(error).__name__, error)
            raise ProductsUnavailable(_NO_ANSWER) from error

    async def _get_with_retries(self, url: str, ends: float) -> bytes | None:
        return await retry(
            partial(self._get, url, ends),
            self._RETRY,
            on=self._may_pass,
            attempts=3,
            within_s=ends - asyncio.get_running_loop().time(),
        )

    def _may_pass(self, error: Exception) -> bool:
        return isinstance(error, _CUT_OFF) or (isinstance(error, Unusable) and error.status in self._RETRY_STATUS)

    async def _get(self, url: str, ends: float) -> bytes | None:
        left_s = ends - asyncio.get_running_loop().time()
        return await self._client.exchange(self._client.request("GET", url), _read, within_s=left_s)


async def _read(response: httpx.Response) -> bytes | None:
    """The body of a response, ``None`` for 404."""
    status = response.status_code
    if status == httpx.codes.OK:
        return await _body(response)
    if status == httpx.codes.NOT_FOUND:
        return None
    raise (Broken if response.is_server_error else Unusable)(f"answered {status}", status)


def _lifetime(answer: Product | Sequence[Product] | None) -> Lifetime:
    return Lifetime(fresh_s=30, stale_s=30) if answer is None else Lifetime(fresh_s=60, stale_s=600)


async def _body(response: httpx.Response) -> bytes:
    """The decompressed body. Not left to httpx, which would decompress a bomb before we could count."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise Broken(f"the content encoding is {encoding[:40]!r}")
    gunzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += gunzip.decompress(chunk, _MAX_BYTES + 1 - len(body)) if gunzip else chunk
        except zlib.error as error:
            raise Broken("the body is not gzip") from error
        if max(len(body), response.num_bytes_downloaded) > _MAX_BYTES:
            raise Unusable(f"the body is larger than {_MAX_BYTES} bytes")
    return bytes(body)


def _base(base_url: str) -> str:
    with suppress(httpx.InvalidURL):
        url = httpx.URL(base_url.rstrip("/"))
        possible = url.scheme in {"http", "https"} and url.host and (url.port or 1) < 2**16
        if possible and not url.query and not url.fragment:
            return str(url)
    # Does not show the value: it may contain credentials.
    raise ConfigError("PRODUCTS_API: expected an http:// or https:// base URL without query or fragment")
