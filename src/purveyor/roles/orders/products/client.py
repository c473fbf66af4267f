"""Client of an external product API."""

import asyncio
import email.utils
import logging
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC
from functools import partial
from typing import ClassVar, TypeVar
from urllib.parse import quote, urlencode

import httpx
import msgspec

from purveyor.kit.cache import Cache, Dated, Lifetime, SharedCache, SharedLoader
from purveyor.kit.clock import now
from purveyor.kit.errors import RESET, ConfigError
from purveyor.kit.http.client import HttpClient
from purveyor.kit.retry import RetrySchedule, retry
from purveyor.roles.orders.contract import ProductId, ProductsUnavailable, shown
from purveyor.roles.orders.model import Product, ProductSlice, Unsellable
from purveyor.roles.orders.products.answers import (
    Listed,
    Unusable,
    decode,
    read_product,
    read_products,
)
from purveyor.roles.orders.products.breaker import Breaker, BreakerOpen

T = TypeVar("T")
_log = logging.getLogger(__name__)
_MAX_BYTES = 256 * 1024
"""The largest product."""
_MAX_LIST_BYTES = 256 * _MAX_BYTES
"""Protects the memory of the process. A list may be as long as it likes."""
_MAX_RETRY_AFTER_S = 3600
_CHECKED = 100
_NO_ANSWER = "The product API cannot be asked for prices now. Try again in a moment."
_CUT_OFF = (httpx.TransportError, *RESET)

Found = Product | Unsellable | None


class Answer(msgspec.Struct, frozen=True):
    """A response of the product API. ``problem`` says why it contains no product data; empty for 200 and 404."""

    url: str
    status: int
    content_type: str
    location: str
    retry_after_s: int
    body: bytes
    problem: str = ""

    @property
    def missing(self) -> bool:
        """True if the API says that there is nothing at this address."""
        return self.status in {404, 410}

    def __str__(self) -> str:
        facts = [f"{self.url} answered {self.status}", self.content_type or "no content type"]
        if self.location:
            facts.append(f"redirects to {self.location}")
        if self.body:
            facts.append(f"begins with {self.body[:80].decode('utf-8', 'replace')!r}")
        return ", ".join(facts)


class Refused(Exception):
    """The API did not return product data."""

    def __init__(self, why: str, answer: Answer) -> None:
        advice = "" if answer.status >= httpx.codes.INTERNAL_SERVER_ERROR else " Check PRODUCTS_API."
        super().__init__(f"{why} ({answer}).{advice}")
        self.answer = answer


class Broken(Refused):
    """The API itself is at fault: a status of 500 or above, or a body that is not JSON."""


class ProductApi:
    """The product API at a base URL, in the shape of fakestoreapi.in or without its wrapper.

    A call has ``deadline_s`` seconds in all, retries included. Responses are fresh for a minute and used for up
    to ten while the API fails; products are shared by all processes that have ``shared`` in common. Products and
    lists have one price: a list stores its products in the cache of products, and shows what is in there. There is
    one call at a time per product, and one breaker for products, in which the products of one order count as one
    call. Lists have their own breaker, so that failing lists do not stop orders. Redirects and proxy settings are
    ignored.
    """

    _RETRY: ClassVar = RetrySchedule(first_s=0.075, longest_s=0.3, factor=4.0, jitter=2 / 3)
    _RETRY_STATUS: ClassVar = frozenset({429, 500, 502, 503, 504})
    _OF_ITEM: ClassVar = frozenset({400, 413, 414, 422})
    """Statuses with which an API rejects a single id. Other errors mean that the API is unavailable."""
    _AT_ONCE: ClassVar = 20

    def __init__(
        self,
        base_url: str,
        currency: str,
        *,
        deadline_s: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedCache | None = None,
    ) -> None:
        self._base = _base(base_url)
        self._currency = currency
        self._deadline_s = deadline_s
        self._clock = clock
        self._client = HttpClient(
            at_once=self._AT_ONCE,
            connect_s=deadline_s / 2,
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "purveyor"},
        )
        failures = (TimeoutError, *_CUT_OFF, Broken)
        self._breaker = Breaker("the product API", failures=failures, clock=clock)
        self._list_breaker = Breaker("the product API's lists", failures=failures, clock=clock)
        self._trouble = ""
        self._away: set[Breaker] = set()
        self._busy_until = clock()
        self._loader: SharedLoader[ProductId, Found] = SharedLoader(
            self._load,
            shared,
            prefix=f"purveyor:product:{currency}",
            decoder=msgspec.msgpack.Decoder(Dated[Found]),
            lifetime=_lifetime,
            stale_on=ProductsUnavailable,
        )
        self._products: Cache[ProductId, Dated[Found]] = Cache(
            self._loader.load,
            lifetime=self._loader.lifetime,
            stale_on=ProductsUnavailable,
            max_entries=20_000,
            clock=clock,
        )
        self._listings: Cache[str, Dated[Listed]] = Cache(
            self._list,
            lifetime=lambda _: Lifetime(fresh_s=60, stale_s=600),
            stale_on=ProductsUnavailable,
            max_entries=200,
            clock=clock,
        )

    async def fetch(self, ids: Collection[ProductId]) -> Mapping[ProductId, Product | Unsellable]:
        """Fetch products; does not suspend when all are fresh in the cache."""
        with self._breaker.as_one():
            found = await self._products.get_many(ids)
        return {wanted: dated.value for wanted, dated in found.items() if dated.value is not None}

    async def page(self, page: int, limit: int, category: str | None) -> ProductSlice:
        if category is not None:  # the API has no pages within a category
            listing = await self._listings.get(f"/category?{urlencode({'type': category})}")
            return await self._cut(listing, page, limit)
        listing = await self._listings.get(_page(page, limit))
        if listing.value.length > limit:  # the API ignores the paging and returns everything
            return await self._cut(listing, page, limit)
        products = await self._current(listing, 0, limit)
        return ProductSlice(products, await self._goes_on(listing.value, page, limit))

    async def check(self) -> str:
        """Ask the API itself, not the cache. The error says which address answered what."""
        try:
            listed = await self._ask(_page(1, _CHECKED), self._read_checked, self._list_breaker)
        except ProductsUnavailable as error:
            raise ProductsUnavailable(self._trouble or error.detail) from error
        about = _unsellable(listed)
        if not any(isinstance(product, Product) for product in listed.products):
            raise ProductsUnavailable(f"{self._where('')} has nothing to sell: {about}.")
        return f"{httpx.URL(self._base).host} answers{'; ' + about if about else ''}"

    async def aclose(self) -> None:
        """Cancel running calls and close the connections."""
        await self._products.aclose()
        await self._listings.aclose()
        await self._client.aclose()

    # Lists

    async def _cut(self, listing: Dated[Listed], page: int, limit: int) -> ProductSlice:
        """A page of a list that is in one piece."""
        products = await self._current(listing, (page - 1) * limit, page * limit)
        return ProductSlice(products, len(listing.value.products) > page * limit)

    async def _current(self, listing: Dated[Listed], first: int, last: int) -> Sequence[Product]:
        """Products of a list at the prices of the cache, into which the list goes if it is newer."""
        current: list[Product] = []
        newer: dict[ProductId, Dated[Found]] = {}
        for product in listing.value.products[first:last]:
            known = self._products.peek(product.id)
            if known is None or known.loaded_at < listing.loaded_at:
                known = newer[product.id] = Dated(product, listing.loaded_at)
                self._products.put(product.id, known)
            if isinstance(known.value, Product):
                current.append(known.value)
        await asyncio.gather(*(self._loader.share(number, dated) for number, dated in newer.items()))
        return current

    async def _goes_on(self, listed: Listed, page: int, limit: int) -> bool:
        """Return whether the next page has entries: a short page need not be the last one."""
        if not listed.length:
            return False
        try:
            following = (await self._listings.get(_page(page + 1, limit))).value
        except ProductsUnavailable:
            return listed.length == limit
        if not following.length:
            return False
        # An API that knows no pages returns the same products again.
        return [one.id for one in following.products] != [one.id for one in listed.products]

    # Calls

    async def _load(self, wanted: ProductId) -> Found:
        if wanted in {".", ".."}:
            return None  # as a path they would mean something else
        path = f"/{quote(str(wanted), safe='')}"
        return await self._ask(path, partial(self._read_product, wanted), self._breaker)

    async def _list(self, path: str) -> Dated[Listed]:
        asked_at = time.time()  # a product that is loaded meanwhile is newer
        listed = await self._ask(path, self._read_list, self._list_breaker)
        if about := _unsellable(listed):
            _log.warning("products are left out of %s: %s", self._where(path), about)
        return Dated(listed, asked_at)

    def _read_product(self, wanted: ProductId, answer: Answer) -> Found:
        if answer.missing:
            return None
        if answer.problem:
            return Unsellable(id=wanted, why=answer.problem)
        return read_product(_decoded(answer), wanted, self._currency)

    def _read_list(self, answer: Answer) -> Listed:
        if answer.missing:
            return Listed((), 0)
        if answer.problem:
            raise Refused(f"The product API returned no list: {answer.problem}", answer)
        try:
            return read_products(_decoded(answer), self._currency)
        except Unusable as error:
            raise Refused(f"The product API returned no list of products: {error}", answer) from error

    def _read_checked(self, answer: Answer) -> Listed:
        listed = self._read_list(answer)
        if not listed.products:
            raise Refused("The product API returned no products", answer)
        return listed

    async def _ask(self, path: str, read: Callable[[Answer], T], breaker: Breaker) -> T:
        ends = asyncio.get_running_loop().time() + self._deadline_s
        try:
            async with breaker.call(wait_s=self._deadline_s):
                found = read(await self._get_with_retries(path, ends))
        except BreakerOpen as error:
            raise self._unavailable(error.retry_after_s) from error
        except Refused as error:
            self._note(str(error), breaker)
            raise self._unavailable(error.answer.retry_after_s) from error
        except (TimeoutError, *_CUT_OFF) as error:
            reason = str(error) or "no answer in time"
            self._note(
                f"The product API did not answer ({self._where(path)}, {type(error).__name__}: {reason}).", breaker
            )
            raise self._unavailable(0) from error
        if breaker in self._away:
            self._away.clear()
            _log.info("The product API answers again (%s).", self._where(path))
        return found

    def _note(self, trouble: str, breaker: Breaker) -> None:
        """Remember the trouble, and log the first of an outage."""
        self._trouble = trouble
        if not self._away:
            _log.warning("%s", trouble)
        self._away.add(breaker)

    def _unavailable(self, retry_after_s: int) -> ProductsUnavailable:
        """The error with the longest wait that is known, from the far side's ``Retry-After`` or the breaker."""
        self._busy_until = max(self._busy_until, self._clock() + retry_after_s)
        return ProductsUnavailable(_NO_ANSWER, retry_after_s=max(1, round(self._busy_until - self._clock())))

    async def _get_with_retries(self, path: str, ends: float) -> Answer:
        return await retry(
            partial(self._get, path, ends),
            self._RETRY,
            on=self._may_pass,
            attempts=3,
            within_s=ends - asyncio.get_running_loop().time(),
        )

    def _may_pass(self, error: Exception) -> bool:
        if isinstance(error, Refused):
            return error.answer.status in self._RETRY_STATUS and not error.answer.retry_after_s
        return isinstance(error, _CUT_OFF)

    async def _get(self, path: str, ends: float) -> Answer:
        left_s = ends - asyncio.get_running_loop().time()
        request = self._client.request("GET", self._base + path)
        limit = _MAX_LIST_BYTES if path.startswith(("?", "/category?")) else _MAX_BYTES
        return await self._client.exchange(request, partial(self._read, self._where(path), limit), within_s=left_s)

    def _where(self, path: str) -> str:
        """The address for logs, without credentials."""
        return str(httpx.URL(self._base + path).copy_with(userinfo=b""))

    async def _read(self, url: str, limit: int, response: httpx.Response) -> Answer:
        answer = Answer(
            url=url,
            status=response.status_code,
            content_type=response.headers.get("Content-Type", "")[:80],
            location=response.headers.get("Location", "")[:200],
            retry_after_s=_retry_after_s(response.headers.get("Retry-After", "")),
            body=b"",
        )
        try:
            answer = msgspec.structs.replace(answer, body=await _body(response, limit))
        except _TooLarge:
            if response.status_code == httpx.codes.OK:
                return msgspec.structs.replace(answer, problem=f"its data is larger than {limit // 1024} KiB")
        except zlib.error as error:
            raise Broken("The product API returned a body that is not gzip", answer) from error
        if answer.status == httpx.codes.OK or answer.missing:
            return answer
        if response.is_server_error:
            raise Broken("The product API failed", answer)
        if response.is_redirect:
            raise Refused("The product API redirects", answer)
        if answer.status in self._OF_ITEM:
            return msgspec.structs.replace(answer, problem=f"the product API answered {answer.status}")
        raise Refused("The product API refused", answer)


class _TooLarge(Exception):
    """The body is longer than allowed."""


def _unsellable(listed: Listed) -> str:
    """Count the unsellable products of a list, with reasons for the first ones; empty if there are none."""
    found = [product for product in listed.products if isinstance(product, Unsellable)]
    about = "; ".join(f"product {shown(product.id)}: {product.why}" for product in found[:3])
    return f"{len(found)} of {len(listed.products)} products cannot be sold ({about})" if found else ""


def _page(page: int, limit: int) -> str:
    return f"?page={page:d}&limit={limit:d}"


def _decoded(answer: Answer) -> object:
    try:
        return decode(answer.body)
    except Unusable as error:
        looks = "HTML" if "html" in answer.content_type or answer.body.lstrip()[:1] == b"<" else "something else"
        raise Broken(f"The product API returned {looks} instead of JSON", answer) from error


def _lifetime(answer: Found) -> Lifetime:
    good = isinstance(answer, Product)
    return Lifetime(fresh_s=60, stale_s=600) if good else Lifetime(fresh_s=30, stale_s=30)


def _retry_after_s(text: str) -> int:
    """Seconds of a ``Retry-After`` header, which may also be a date (RFC 9110 section 10.2.3); 0 without one."""
    text = text.strip()
    if text.isdecimal() and text.isascii():
        return min(int(text[:10]), _MAX_RETRY_AFTER_S)
    with suppress(ValueError, OverflowError):
        at = email.utils.parsedate_to_datetime(text)
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now()).total_seconds()
        return max(0, min(round(seconds), _MAX_RETRY_AFTER_S))
    return 0


async def _body(response: httpx.Response, limit: int) -> bytes:
    """The decompressed body. Not left to httpx, which would decompress a bomb before we could count.

    Raises ``_TooLarge``, and ``zlib.error`` for a body in another encoding than gzip.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise zlib.error(f"the content encoding is {encoding[:40]!r}")
    gunzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += gunzip.decompress(chunk, limit + 1 - len(body)) if gunzip else chunk
        if max(len(body), response.num_bytes_downloaded) > limit:
            raise _TooLarge
    return bytes(body)


def _base(base_url: str) -> str:
    with suppress(httpx.InvalidURL):
        url = httpx.URL(base_url.rstrip("/"))
        possible = url.scheme in {"http", "https"} and url.host and (url.port or 1) < 2**16
        if possible and not url.query and not url.fragment:
            return str(url)
    # Does not show the value: it may contain credentials.
    raise ConfigError("PRODUCTS_API: expected an http:// or https:// base URL without query or fragment")
