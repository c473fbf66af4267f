"""Where prices come from: what the product API may do to us, and what becomes of it."""

import asyncio
import gzip
import inspect
import json
import logging
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from purveyor.kit.errors import ConfigError
from purveyor.roles.orders.contract import ProductsUnavailable, UnknownProduct
from purveyor.roles.orders.model import Product
from purveyor.roles.orders.products.bundled import BundledProducts
from purveyor.roles.orders.products.client import ProductApi
from servers.product_api import (
    Answer,
    ProductApiServer,
    bare,
    cut,
    cut_short,
    drip,
    flood,
    gzipped,
    hang,
    product,
    redirect,
    slowly,
    status,
    text,
    wrapped,
)
from waiting import PATIENCE_S, until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def api() -> AsyncIterator[ProductApiServer]:
    async with ProductApiServer() as server:
        yield server


@pytest.fixture
async def products(api: ProductApiServer, clock: Clock) -> AsyncIterator[ProductApi]:
    client = ProductApi(api.url, deadline_s=PATIENCE_S, clock=clock)
    yield client
    await client.aclose()


@pytest.fixture
async def hasty(api: ProductApiServer, clock: Clock) -> AsyncIterator[ProductApi]:
    """A client with a deadline short enough for tests of what never ends."""
    client = ProductApi(api.url, deadline_s=0.3, clock=clock)
    yield client
    await client.aclose()


@pytest.fixture
async def brisk(api: ProductApiServer, clock: Clock) -> AsyncIterator[ProductApi]:
    """A client that fails sooner than most, and still lets a good answer take its time."""
    client = ProductApi(api.url, deadline_s=1.0, clock=clock)
    yield client
    await client.aclose()


# What an answer means


@pytest.mark.parametrize("shape", [wrapped, bare])
@pytest.mark.parametrize(
    ("price", "minor"),
    [
        ("19.99", 1999),
        ("100", 10000),
        ("0.1", 10),
        ("1e2", 10000),
        ("1.10000", 110),
        ("90071992547409.91", 2**53 - 1),
    ],
)
async def test_price_is_exact(
    api: ProductApiServer, products: ProductApi, shape: type, price: str, minor: int
) -> None:
    api.default = shape(price)
    assert (await products.fetch([7]))[7].price == minor


async def test_reads_the_whole_product(api: ProductApiServer, products: ProductApi) -> None:
    api.default = wrapped("5", title="Lamp", image="/1.png", description="Bright.", model="L", color="red")
    assert (await products.fetch([1]))[1] == Product(
        id=1,
        title="Lamp",
        price=500,
        image="/1.png",
        description="Bright.",
        brand="Acme",
        model="L",
        color="red",
        category="audio",
        discount=5,
    )


async def test_side_members_of_any_type_do_no_harm(api: ProductApiServer, products: ProductApi) -> None:
    api.default = bare(brand=None, model=4711, color=["red"], discount="lots", description={"a": 1}, more=[1, 2])
    view = (await products.fetch([1]))[1]
    assert (view.brand, view.model, view.color, view.discount, view.description) == ("", "4711", "", 0, "")


async def test_texts_come_out_fit_for_a_database_and_a_mail(api: ProductApiServer, products: ProductApi) -> None:
    api.default = bare(title=" A\x00B\r\nBcc: x ", description="y" * 100_000)
    view = (await products.fetch([1]))[1]
    assert view.title == "A B Bcc: x"
    assert len(view.description) == 2000


async def test_no_text_turns_the_direction_of_what_stands_beside_it(
    api: ProductApiServer, products: ProductApi
) -> None:
    api.default = bare(
        title="Cup\u202e 99\u2066\ufeff\u200b, red\u2028\u2029big",
        brand="\u200f\u200d",
        color="\u06c1\u200c\u00fc",
    )
    view = (await products.fetch([1]))[1]
    assert (view.title, view.brand, view.color) == ("Cup 99, red big", "", "\u06c1\u200c\u00fc")


UNKNOWN = {
    "404": status(404),
    "404 in HTML": text("<html>", 404),
    "status ERROR": text('{"status": "ERROR", "message": "no such product"}'),
    "null product": text('{"status": "SUCCESS", "message": "", "product": null}'),
}


@pytest.mark.parametrize("answer", UNKNOWN.values(), ids=UNKNOWN)
async def test_unknown_products_are_absent(api: ProductApiServer, products: ProductApi, answer: Answer) -> None:
    api.answers[2] = [answer]
    assert list(await products.fetch([1, 2, 3])) == [1, 3]


UNTRUSTED = {
    "absent product": text('{"status": "SUCCESS", "message": "m"}'),
    "null": text("null"),
    "nothing to pay": bare("0"),
    "nothing to pay, wrapped": wrapped("0.00"),
    "403": status(403),
    "204": text("", 204),
    "empty": text(""),
    "HTML": text("<html>maintenance</html>", headers="Content-Type: text/html\r\n"),
    "not UTF-8": text(b'{"id": 1, "price": 1, "title": "\xff"}'),
    "lone surrogate": text('{"id": 1, "price": 1, "title": "\\ud800 abc"}'),
    "nested 100000 deep": text("[" * 100_000),
    "number": text("42"),
    "list": text("[]"),
    "message only": text('{"message": "Internal error"}'),
    "wrong id": text(product(2)),
    "id as text": text('{"id": "1", "title": "A", "price": 1}'),
    "id true": text('{"id": true, "title": "A", "price": 1}'),
    "no price": text('{"id": 1, "title": "A"}'),
    "no title": text('{"id": 1, "price": 1}'),
    "blank title": bare(title=" \n "),
    "title as number": bare(title=5),
    "price null": bare("null"),
    "price true": bare("true"),
    "price as text": bare('"19.99"'),
    "price as list": bare("[1]"),
    "NaN": bare("NaN"),
    "NaN as text": bare('"NaN"'),
    "Infinity": bare("Infinity"),
    "negative": bare("-1"),
    "minus one minor unit": bare("-0.01"),
    "three decimals": bare("1.005"),
    "one digit too far": bare("1.00000000000000000000000000000000001"),
    "1e400": bare("1e400"),
    "1e-400": bare("1e-400"),
    "exponent without end": bare("1e99999999999999999999"),
    "above 2^53": bare("90071992547409.93"),
    "4000 digits": bare("9" * 4000),
    "200000 digits": bare("9" * 200_000),
    "gzip cut short": text(gzip.compress(product(1).encode())[:-30], headers="Content-Encoding: gzip\r\n"),
    "not gzip": text(b"plain", headers="Content-Encoding: gzip\r\n"),
    "unknown encoding": text(b"\x00", headers="Content-Encoding: br\r\n"),
    "one byte too long": text(product(1).ljust(256 * 1024 + 1)),
}


@pytest.mark.parametrize("answer", UNTRUSTED.values(), ids=UNTRUSTED)
async def test_never_guesses_a_price(api: ProductApiServer, products: ProductApi, answer: Answer) -> None:
    api.default = answer
    with pytest.raises(ProductsUnavailable) as refused:
        await products.fetch([1])
    assert api.calls == {1: 1}, "asking again would not help"
    assert refused.value.headers["Retry-After"] == "1"


async def test_largest_body_allowed_plain_and_gzipped(api: ProductApiServer, products: ProductApi) -> None:
    body = product(1).ljust(256 * 1024).encode()
    api.answers = {1: [text(body)], 2: [gzipped(body.replace(b'"id": 1', b'"id": 2'))]}
    assert len(await products.fetch([1, 2])) == 2


# What it costs


async def peak_while_refused(products: ProductApi) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ProductsUnavailable):
            await products.fetch([1])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_gzip_bomb_is_not_unpacked(api: ProductApiServer, products: ProductApi) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 64 * 1024, "one read takes all of it: a cap on what is read is not enough"
    api.default = text(bomb, headers="Content-Encoding: gzip\r\n")
    assert await peak_while_refused(products) < 4_000_000


EMPTY_BLOCKS = b"\x00\x00\x00\xff\xff" * 13_000
"""Stored blocks of length 0 (RFC 1951 section 3.2.4): any number of them unpacks to nothing."""


@pytest.mark.parametrize(
    "answer",
    [
        flood(b" " * 65_000),
        flood(EMPTY_BLOCKS, first=gzip.compress(b"")[:10], headers="Content-Encoding: gzip\r\n"),
    ],
    ids=["blanks", "gzip of nothing"],
)
async def test_huge_body_is_left_unread(api: ProductApiServer, products: ProductApi, answer: Answer) -> None:
    api.default = answer
    with pytest.raises(ProductsUnavailable):
        await products.fetch([1])
    assert api.sent < 20_000_000, "what the socket buffers take, and not 100 MB"


@pytest.mark.parametrize("answer", [hang, drip, slowly(0.2, status(503))])
async def test_one_deadline_for_everything(api: ProductApiServer, hasty: ProductApi, answer: Answer) -> None:
    api.default = answer
    async with asyncio.timeout(PATIENCE_S):  # what drips would take much longer
        with pytest.raises(ProductsUnavailable):
            await hasty.fetch(range(1, 101))
    assert max(api.calls.values()) <= 2, "there is no time for a third try"


def test_default_deadline_is_two_seconds() -> None:
    assert inspect.signature(ProductApi).parameters["deadline_s"].default == 2.0


# Who is asked


async def test_redirects_are_not_followed(api: ProductApiServer, products: ProductApi) -> None:
    async with ProductApiServer() as other:
        api.default = redirect(f"{other.url}/1")
        with pytest.raises(ProductsUnavailable):
            await products.fetch([1])
        assert other.requests == []
    assert api.requests == ["/api/products/1"]


async def test_proxies_of_the_environment_are_ignored(
    api: ProductApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{dead.getsockname()[1]}")
        client = ProductApi(api.url)
        assert await client.fetch([1])
        await client.aclose()


async def test_only_digits_get_into_the_path(api: ProductApiServer, products: ProductApi) -> None:
    for evil in ("../admin", "@host", "1?x=1", "1#", "1/../2"):
        with pytest.raises(ValueError, match="format code"):
            await products.fetch([evil])  # type: ignore[list-item]
    assert api.requests == []


@pytest.mark.parametrize(
    "url",
    ["", "products", "ftp://host/x", "http://", "http://h:99999", "http://h/?key=secret", "http://h/#x"],
)
def test_refuses_a_base_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="PRODUCTS_API") as refused:
        ProductApi(url)
    assert "secret" not in str(refused.value)


async def test_trailing_slash_of_the_base_makes_no_difference(api: ProductApiServer) -> None:
    client = ProductApi(f"{api.url}/")
    await client.fetch([1])
    await client.aclose()
    assert api.requests == ["/api/products/1"]


# Retries and the breaker


@pytest.mark.parametrize(
    "first", [status(429), status(500), status(502), status(503), status(504), cut, cut_short]
)
async def test_passing_trouble_is_tried_again_twice(
    api: ProductApiServer, products: ProductApi, first: Answer
) -> None:
    api.answers[1] = [first, first, wrapped()]
    assert await products.fetch([1])
    assert api.calls[1] == 3


async def test_slow_is_not_silent(api: ProductApiServer, products: ProductApi) -> None:
    api.default = slowly(1.3, wrapped())
    assert await products.fetch([1])
    assert api.calls[1] == 1


async def test_lists_that_fail_keep_nobody_from_ordering(api: ProductApiServer, products: ProductApi) -> None:
    api.listing = status(500)
    for page in range(1, 7):
        with pytest.raises(ProductsUnavailable):
            await products.page(page, 10, None)
    assert await products.fetch([1])


async def test_gives_up_after_two_retries(api: ProductApiServer, products: ProductApi) -> None:
    api.default = status(503)
    with pytest.raises(ProductsUnavailable):
        await products.fetch([1])
    assert api.calls[1] == 3


async def test_nobody_listening(clock: Clock) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        client = ProductApi(f"http://127.0.0.1:{bound.getsockname()[1]}", clock=clock)
        with pytest.raises(ProductsUnavailable):
            await client.fetch([1])
        with pytest.raises(ProductsUnavailable):
            await client.check()
        await client.aclose()


async def fail(products: ProductApi, ids: range) -> ProductsUnavailable:
    with pytest.raises(ProductsUnavailable) as refused:
        await products.fetch(ids)
    return refused.value


async def opened(products: ProductApi) -> None:
    """Five orders fail, one after the other."""
    for _ in range(5):
        await fail(products, range(1, 4))


@pytest.mark.parametrize("answer", [status(500), hang])
async def test_breaker_opens_and_a_single_probe_closes_it(
    api: ProductApiServer, brisk: ProductApi, clock: Clock, answer: Answer
) -> None:
    api.default = answer
    await opened(brisk)
    before = len(api.requests)
    assert (await fail(brisk, range(1, 21))).headers["Retry-After"] == "5"
    assert len(api.requests) == before, "an open breaker asks nobody"

    clock.now += 5
    await fail(brisk, range(1, 21))
    assert set(api.requests[before:]) == {"/api/products/1"}, "one probe, and it failed"

    clock.now += 5
    api.default = wrapped()
    brisk._deadline_s = PATIENCE_S
    assert len(await brisk.fetch(range(1, 21))) == 20, "all of them wait for the probe"


@pytest.mark.parametrize("answer", [text("<html>"), bare("NaN"), text("{}", headers="Content-Encoding: br\r\n")])
async def test_garbage_opens_the_breaker(api: ProductApiServer, products: ProductApi, answer: Answer) -> None:
    api.default = answer
    await opened(products)
    before = len(api.requests)
    await fail(products, range(9, 10))
    assert len(api.requests) == before


@pytest.mark.parametrize("answer", [status(500), hang, text("<html>")])
async def test_one_order_opens_the_breaker_for_nobody(
    api: ProductApiServer, brisk: ProductApi, answer: Answer
) -> None:
    api.answers = {number: [answer] for number in range(1, 31)}
    for _ in range(4):
        await fail(brisk, range(1, 31))
    assert await brisk.fetch([99])


async def test_orders_that_gave_up_leave_no_connection_behind(
    api: ProductApiServer, hasty: ProductApi, clock: Clock
) -> None:
    api.default = hang
    for _ in range(10):
        await fail(hasty, range(1, 61))
        clock.now += 5
    pool = hasty._client._client._transport._pool  # type: ignore[attr-defined]
    await until(lambda: not pool.connections)


@pytest.mark.parametrize("answer", [status(400), status(404), status(429), bare("-1"), text("null")])
async def test_breaker_stays_closed_while_the_api_answers(
    api: ProductApiServer, products: ProductApi, answer: Answer
) -> None:
    api.answers = {number: [answer] for number in range(1, 31)}
    for number in range(1, 31):
        with suppress(ProductsUnavailable):
            await products.fetch([number])
    assert await products.fetch([99])


# The cache


async def test_fresh_for_a_minute(api: ProductApiServer, products: ProductApi, clock: Clock) -> None:
    api.answers[1] = [wrapped("1"), wrapped("2")]
    assert (await products.fetch([1]))[1].price == 100
    clock.now += 59
    assert (await products.fetch([1]))[1].price == 100
    assert api.calls[1] == 1
    clock.now += 1
    assert (await products.fetch([1]))[1].price == 200


async def test_last_price_serves_ten_minutes_of_trouble(
    api: ProductApiServer, products: ProductApi, clock: Clock
) -> None:
    api.answers[1] = [wrapped("1"), status(400)]
    await products.fetch([1])
    clock.now += 599
    assert (await products.fetch([1]))[1].price == 100
    assert api.calls[1] == 2
    clock.now += 1
    with pytest.raises(ProductsUnavailable):
        await products.fetch([1])


async def test_one_missing_price_refuses_the_whole_order(api: ProductApiServer, products: ProductApi) -> None:
    api.answers[2] = [status(500)]
    with pytest.raises(ProductsUnavailable):
        await products.fetch([1, 2])


async def test_unknown_is_remembered_for_half_a_minute_and_never_stale(
    api: ProductApiServer, products: ProductApi, clock: Clock
) -> None:
    api.answers[1] = [status(404), status(400), wrapped()]
    assert await products.fetch([1]) == {}
    clock.now += 29
    assert await products.fetch([1]) == {}
    assert api.calls[1] == 1
    clock.now += 1
    with pytest.raises(ProductsUnavailable):
        await products.fetch([1])
    assert await products.fetch([1])


async def test_product_that_was_taken_away_is_unknown(
    api: ProductApiServer, products: ProductApi, clock: Clock
) -> None:
    api.answers[1] = [wrapped(), status(404)]
    await products.fetch([1])
    clock.now += 60
    assert await products.fetch([1]) == {}


async def test_one_request_at_a_time_per_product(api: ProductApiServer, products: ProductApi) -> None:
    api.default = slowly(0.05, wrapped())
    answers = await asyncio.gather(*(products.fetch([1, 2, 2, 3]) for _ in range(50)))
    assert api.calls == {1: 1, 2: 1, 3: 1}
    assert all(list(answer) == [1, 2, 3] for answer in answers)


async def test_cancelled_order_does_not_take_the_others_along(api: ProductApiServer, products: ProductApi) -> None:
    api.default = slowly(0.05, wrapped())
    first, second = (asyncio.create_task(products.fetch([1])) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    assert (await second)[1].price == 1999
    assert first.cancelled()
    assert api.calls[1] == 1


async def test_hundred_lines_at_once(api: ProductApiServer, products: ProductApi) -> None:
    api.default = slowly(0.02, wrapped())
    assert len(await products.fetch(range(1, 101))) == 100
    assert sum(api.calls.values()) == 100


async def test_hit_answers_without_suspending(products: ProductApi) -> None:
    await products.fetch([1, 2])
    step = products.fetch([1, 2])
    with pytest.raises(StopIteration) as done:
        step.send(None)
    assert list(done.value.value) == [1, 2]


# Lists


def listing(*numbers: int, shape: str = '{"status": "SUCCESS", "products": [%s]}') -> Answer:
    return text(shape % ", ".join(product(number) for number in numbers))


@pytest.mark.parametrize("shape", ['{"status": "SUCCESS", "products": [%s]}', '{"products": [%s]}', "[%s]"])
async def test_list_in_every_shape(api: ProductApiServer, products: ProductApi, shape: str) -> None:
    api.listing = listing(1, 2, 3, shape=shape)
    assert [view.id for view in await products.page(2, 2, None)] == [1, 2]
    assert api.queries == [{"page": ["2"], "limit": ["2"]}]


async def test_category_is_loaded_once_and_cut_here(api: ProductApiServer, products: ProductApi) -> None:
    api.listing = listing(1, 2, 3)
    evil = "a&page=9#/../x"
    assert [view.id for view in await products.page(1, 2, evil)] == [1, 2]
    assert [view.id for view in await products.page(2, 2, evil)] == [3]
    assert list(await products.page(3, 2, evil)) == []
    assert api.queries == [{"type": [evil]}]
    assert api.requests[0].startswith("/api/products/category?type=")


@pytest.mark.parametrize("answer", [status(404), text('{"status": "ERROR"}'), text("[]")])
async def test_empty_list(api: ProductApiServer, products: ProductApi, answer: Answer) -> None:
    api.listing = answer
    assert list(await products.page(1, 20, "none")) == []


async def test_list_leaves_out_what_cannot_be_trusted(api: ProductApiServer, products: ProductApi) -> None:
    api.listing = text(f"[{product(1)}, {product(2, '-1')}, null]")
    assert [view.id for view in await products.page(1, 20, None)] == [1]


@pytest.mark.parametrize(
    "answer",
    [
        status(500),
        text("[null]"),
        text('{"products": {}}'),
        text("{}"),
        text("7"),
        text("null"),
        text('{"status": "SUCCESS"}'),
    ],
)
async def test_list_that_cannot_be_trusted(api: ProductApiServer, products: ProductApi, answer: Answer) -> None:
    api.listing = answer
    with pytest.raises(ProductsUnavailable):
        await products.page(1, 20, None)


async def test_list_is_kept_like_a_product(api: ProductApiServer, products: ProductApi, clock: Clock) -> None:
    api.listing = listing(1)
    await products.page(1, 20, None)
    api.listing = status(500)
    clock.now += 59
    await products.page(1, 20, None)
    assert len(api.requests) == 1
    clock.now += 540
    assert [view.id for view in await products.page(1, 20, None)] == [1]
    clock.now += 1
    with pytest.raises(ProductsUnavailable):
        await products.page(1, 20, None)


async def test_check_asks_every_time_and_notices_a_wrong_base(api: ProductApiServer, products: ProductApi) -> None:
    api.listing = listing(1)
    assert await products.check() == "127.0.0.1 answers"
    api.listing = status(404)
    with pytest.raises(ProductsUnavailable, match="Check PRODUCTS_API"):
        await products.check()


# For operators and clients


async def test_log_says_what_was_wrong_and_no_more(
    api: ProductApiServer, products: ProductApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.answers = {1: [status(500)], 2: [text("<html>" + "x" * 10_000)]}
    with caplog.at_level(logging.WARNING, "purveyor"):
        for number in (1, 2):
            with pytest.raises(ProductsUnavailable) as refused:
                await products.fetch([number])
            assert "500" not in refused.value.detail, "what is behind us is not the client's business"
    assert [record.getMessage() for record in caplog.records] == [
        "product API, GET /1: Broken: answered 500",
        "product API, GET /2: Broken: the body is not JSON",
    ]


def test_unknown_product_names_the_lines() -> None:
    problem = UnknownProduct.at({0: 17, 3: 99})
    assert (problem.status, problem.code) == (422, "unknown-product")
    assert problem.detail == "The catalog does not contain these products: 17, 99."
    assert [error.pointer for error in problem.errors] == ["/items/0/product_id", "/items/3/product_id"]


# The bundled catalogue


async def test_bundled_catalogue() -> None:
    catalogue = BundledProducts()
    everything = await catalogue.page(1, 1000, None)
    assert all(isinstance(view.price, int) and view.price > 0 for view in everything)
    ids = [view.id for view in everything]
    assert list(await catalogue.fetch([ids[1], 10**9, ids[0]])) == [ids[1], ids[0]]
    assert await catalogue.check() == f"bundled catalog, {len(ids)} products"


async def test_bundled_catalogue_in_pages() -> None:
    catalogue = BundledProducts()
    everything = list(await catalogue.page(1, 1000, None))
    assert [*await catalogue.page(1, 7, None), *await catalogue.page(2, 7, None)] == everything[:14]
    category = everything[0].category
    inside = [view for view in everything if view.category == category]
    assert list(await catalogue.page(1, 1000, category)) == inside
    assert list(await catalogue.page(2, 1000, category)) == []
    assert list(await catalogue.page(1, 20, "none of these")) == []


async def test_bundled_catalogue_served_in_the_api_shape_reads_the_same(
    api: ProductApiServer, products: ProductApi
) -> None:
    bundled = {view.id: view for view in await BundledProducts().page(1, 1000, None)}
    number, view = next(item for item in bundled.items() if item[1].price % 100)
    members = {name: getattr(view, name) for name in view.__struct_fields__ if name not in {"id", "price"}}
    api.default = wrapped(json.dumps(view.price / 100), **members)
    assert await products.fetch([number]) == {number: view}
