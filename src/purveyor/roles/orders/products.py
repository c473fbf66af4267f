"""Where orders get products and prices from: the port, and the product API."""

import asyncio
import logging
import random
import re
import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import ClassVar, Protocol, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from purveyor.kit.breaker import Breaker, BreakerOpen
from purveyor.kit.cache import Cache, Lifetime
from purveyor.kit.errors import RESET, ConfigError
from purveyor.kit.money import from_major
from purveyor.kit.shared import Dated, SharedCache, SharedLoader
from purveyor.roles.orders.contract import ProductsUnavailable

T = TypeVar("T")
_log = logging.getLogger(__name__)
_decoder: msgspec.json.Decoder[object] = msgspec.json.Decoder(float_hook=Decimal)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_MAX_BYTES = 256 * 1024
_BROKEN = (httpx.TransportError, *RESET)
_TEXTS = {"image": 2000, "description": 2000, "brand": 100, "model": 100, "color": 100, "category": 100}
"""The optional texts of a product, and how many characters of each are kept."""


class ProductView(msgspec.Struct, frozen=True, kw_only=True):
    """A product as the orders role sees it. The texts are plain: one line, no control characters.

    ``image`` is never fetched; ``discount`` (percent) is for display, the price has it taken off already.
    """

    id: int
    title: str
    price: int
    """In minor units, exact."""
    image: str = ""
    description: str = ""
    brand: str = ""
    model: str = ""
    color: str = ""
    category: str = ""
    discount: int = 0


class Products(Protocol):
    """Where products and their prices come from."""

    async def fetch(self, ids: Collection[int]) -> Mapping[int, ProductView]:
        """The products with these ids, in one call for a whole order; unknown ids are absent.

        Raises ``ProductsUnavailable`` when no trustworthy answer can be had for one of them.
        """
        ...

    async def page(self, page: int, limit: int, category: str | None) -> Sequence[ProductView]:
        """One page of the catalogue, counted from 1; empty past its end. Raises ``ProductsUnavailable``."""
        ...

    async def check(self) -> str:
        """Say where the products come from, in a few words. Raises ``ProductsUnavailable``."""
        ...


class _Unusable(Exception):
    """The API answered, but with nothing that can be trusted. ``status`` is 0 when the body was at fault."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class _ServerError(_Unusable):
    """A status from 500 on: a failure for the breaker, as a timeout is."""


class ProductApi:
    """The product API at a base URL, understood in the fakestoreapi.in shape and in the bare one.

    A call has ``deadline_s`` seconds in all, retries included. Answers are fresh for a minute, and serve for
    up to ten while the API fails; a product, in all processes that have ``shared`` in common. There is one
    call at a time per product, and one breaker over all calls. The base URL alone decides who is asked: no
    redirects, no proxies of the environment.
    """

    _RETRY_PAUSES_S: ClassVar = (0.05, 0.2)
    _RETRY_STATUS: ClassVar = frozenset({429, 502, 503, 504})

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
        self._client = httpx.AsyncClient(
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "purveyor"},
            timeout=httpx.Timeout(deadline_s, connect=deadline_s / 2),
            limits=httpx.Limits(max_connections=20),
            follow_redirects=False,
            trust_env=False,
        )
        failures = (TimeoutError, *_BROKEN, _ServerError)
        self._breaker = Breaker("the product API", failures=failures, clock=clock)
        loader = SharedLoader(
            self._load,
            shared,
            prefix="purveyor:product",
            decoder=msgspec.msgpack.Decoder(Dated[ProductView | None]),
            lifetime=_lifetime,
            stale_on=ProductsUnavailable,
        )
        self._products: Cache[int, Dated[ProductView | None]] = Cache(
            loader.load, lifetime=loader.lifetime, stale_on=ProductsUnavailable, max_entries=5_000, clock=clock
        )
        self._listings: Cache[str, Sequence[ProductView]] = Cache(
            self._list, lifetime=_lifetime, stale_on=ProductsUnavailable, max_entries=200, clock=clock
        )

    async def fetch(self, ids: Collection[int]) -> Mapping[int, ProductView]:
        """See ``Products``. Does not suspend when every id is in the cache and fresh."""
        found = await self._products.get_many(ids)
        return {wanted: dated.value for wanted, dated in found.items() if dated.value is not None}

    async def page(self, page: int, limit: int, category: str | None) -> Sequence[ProductView]:
        """See ``Products``. The API has no pages within a category: it is loaded whole and cut here."""
        if category is None:
            return (await self._listings.get(f"?page={page:d}&limit={limit:d}"))[:limit]
        whole = await self._listings.get(f"/category?{urlencode({'type': category})}")
        return whole[(page - 1) * limit : page * limit]

    async def check(self) -> str:
        """See ``Products``. Asks the API itself, past the cache."""
        if not await self._list("?page=1&limit=1"):
            raise ProductsUnavailable("The product API answers, but has no products: is its base URL right?")
        return f"{httpx.URL(self._base).host} answers"

    async def aclose(self) -> None:
        """Give up the calls under way, and close the connections."""
        await self._products.aclose()
        await self._listings.aclose()
        await self._client.aclose()

    async def _load(self, wanted: int) -> ProductView | None:
        return await self._ask(f"/{wanted:d}", partial(_product, wanted=wanted))

    async def _list(self, path: str) -> Sequence[ProductView]:
        return await self._ask(path, _products)

    async def _ask(self, path: str, read: Callable[[object], T]) -> T:
        try:
            with self._breaker.call():
                async with asyncio.timeout(self._deadline_s):
                    body = await self._get_with_retries(self._base + path)
            return read(_decode(body))
        except BreakerOpen as error:
            raise ProductsUnavailable(retry_after_s=error.retry_after_s) from error
        except (TimeoutError, *_BROKEN, zlib.error, _Unusable) as error:
            _log.warning("product API, GET %s: %s: %s", path, type(error).__name__, error)
            raise ProductsUnavailable from error

    async def _get_with_retries(self, url: str) -> bytes:
        for pause_s in self._RETRY_PAUSES_S:
            try:
                return await self._get(url)
            except (*_BROKEN, _Unusable) as error:
                if isinstance(error, _Unusable) and error.status not in self._RETRY_STATUS:
                    raise
            await asyncio.sleep(pause_s * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
        return await self._get(url)

    async def _get(self, url: str) -> bytes:
        async with self._client.stream("GET", url) as response:
            status = response.status_code
            if status == httpx.codes.OK:
                return await _body(response)
            if status == httpx.codes.NOT_FOUND:
                return b"null"
            raise (_ServerError if response.is_server_error else _Unusable)(f"answered {status}", status)


def _lifetime(answer: ProductView | Sequence[ProductView] | None) -> Lifetime:
    return Lifetime(fresh_s=30, stale_s=30) if answer is None else Lifetime(fresh_s=60, stale_s=600)


async def _body(response: httpx.Response) -> bytes:
    """The decoded body. Unpacked here and not by httpx, which would unpack a bomb before we could count."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise _Unusable(f"the content encoding is {encoding[:40]!r}")
    gunzip = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += gunzip.decompress(chunk, _MAX_BYTES + 1 - len(body)) if gunzip else chunk
        if max(len(body), response.num_bytes_downloaded) > _MAX_BYTES:
            raise _Unusable(f"the body is larger than {_MAX_BYTES} bytes")
    return bytes(body)


def _base(base_url: str) -> str:
    with suppress(httpx.InvalidURL):
        url = httpx.URL(base_url.rstrip("/"))
        possible = url.scheme in {"http", "https"} and url.host and (url.port or 1) < 2**16
        if possible and not url.query and not url.fragment:
            return str(url)
    # The value is not shown: it may hold credentials.
    raise ConfigError("PRODUCTS_API: expected an http:// or https:// base URL without query or fragment")


def _decode(body: bytes) -> object:
    """JSON with exact decimals: no number is ever a float."""
    try:
        return _decoder.decode(body)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise _Unusable("the body is not JSON") from error


def _inside(answer: object, member: str) -> object:
    """What a wrapped answer holds, ``None`` when it says that there is nothing; a bare answer is itself."""
    if isinstance(answer, dict) and "id" not in answer and ("status" in answer or member in answer):
        return None if str(answer.get("status")).casefold() == "error" else answer.get(member)
    return answer


def _product(answer: object, wanted: int) -> ProductView | None:
    product = _inside(answer, "product")
    if product is None:
        return None
    view = _view(product)
    if view.id != wanted:
        raise _Unusable(f"asked for product {wanted}, got {view.id}")
    return view


def _products(answer: object) -> Sequence[ProductView]:
    """The products of a list. One that cannot be trusted is left out: it cannot be ordered either."""
    products = _inside(answer, "products")
    if products is None:
        return ()
    if not isinstance(products, list):
        raise _Unusable("there is no list of products")
    views: list[ProductView] = []
    for product in products:
        with suppress(_Unusable):
            views.append(_view(product))
    if products and not views:
        raise _Unusable("no product of the list can be trusted")
    return views


def _view(product: object) -> ProductView:
    if not isinstance(product, dict):
        raise _Unusable("a product is not an object")
    number, title = product.get("id"), product.get("title")
    if type(number) is not int or not isinstance(title, str) or not (title := _text(title, 300)):
        raise _Unusable("a product has no numeric id, or no title")
    discount = product.get("discount")
    return ProductView(
        id=number,
        title=title,
        price=_minor(number, product.get("price")),
        discount=discount if type(discount) is int and 0 <= discount <= 100 else 0,  # noqa: PLR2004
        **{name: _text(product.get(name), limit) for name, limit in _TEXTS.items()},
    )


def _minor(number: int, price: object) -> int:
    if isinstance(price, int | Decimal) and not isinstance(price, bool):
        with suppress(ValueError):
            return from_major(Decimal(price))
    raise _Unusable(f"product {number} has no price in whole minor units")


def _text(value: object, limit: int) -> str:
    """Text or a number as one line of at most ``limit`` characters: fit for a database, a mail and a page."""
    return _CONTROL.sub(" ", str(value)[:limit]).strip() if isinstance(value, str | int | Decimal) else ""
