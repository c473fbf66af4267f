"""Where prices come from: what the product API may do to us, and what becomes of it."""

import asyncio
import gzip
import inspect
import json
import logging
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime

import pytest

from purveyor.kit.cache import Dated
from purveyor.kit.clock import now
from purveyor.kit.errors import ConfigError
from purveyor.roles.orders.contract import ProductId, ProductsUnavailable
from purveyor.roles.orders.model import Product, Unsellable
from purveyor.roles.orders.products.bundled import BundledProducts
from purveyor.roles.orders.products.client import ProductApi, _retry_after_s
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
    reply,
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
    client = ProductApi(api.url, "EUR", deadline_s=PATIENCE_S, clock=clock)
    yield client
    await client.aclose()


@pytest.fixture
async def hasty(api: ProductApiServer, clock: Clock) -> AsyncIterator[ProductApi]:
    """A client with a deadline short enough for tests of what never ends."""
    client = ProductApi(api.url, "EUR", deadline_s=0.3, clock=clock)
    yield client
    await client.aclose()


@pytest.fixture
async def brisk(api: ProductApiServer, clock: Clock) -> AsyncIterator[ProductApi]:
    """A client that fails sooner than most, and still lets a good answer take its time."""
    client = ProductApi(api.url, "EUR", deadline_s=1.0, clock=clock)
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
        ('"19.99"', 1999),
        ('" 19.90 "', 1990),
        ('"100"', 10000),
        ("0", 0),
        ('"0.00"', 0),
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
    "null": text("null"),
    "410": status(410),
    "the same id as a text": text('{"id": "2", "title": "A", "price": 1}'),
}


@pytest.mark.parametrize("answer", UNKNOWN.values(), ids=UNKNOWN)
async def test_unknown_products_are_absent(api: ProductApiServer, products: ProductApi, answer: Answer) -> None:
    api.answers[2] = [answer]
    assert list(await products.fetch([1, 2, 3])) == [1, 3]


UNSELLABLE = {
    "absent product": text('{"status": "SUCCESS", "message": "m"}'),
    "number": text("42"),
    "list": text("[]"),
    "message only": text('{"message": "Internal error"}'),
    "wrong id": text(product(2)),
    "id true": text('{"id": true, "title": "A", "price": 1}'),
    "id with a fraction": text('{"id": 1.5, "title": "A", "price": 1}'),
    "no price": text('{"id": 1, "title": "A"}'),
    "no title": text('{"id": 1, "price": 1}'),
    "blank title": bare(title=" \n "),
    "title as number": bare(title=5),
    "price null": bare("null"),
    "price true": bare("true"),
    "price blank": bare('""'),
    "price as list": bare("[1]"),
    "price as object": bare('{"amount": 1}'),
    "price in words": bare('"free"'),
    "price with a comma": bare('"19,99"'),
    "price with a sign": bare('"$19.99"'),
    "price in other digits": bare('"\u0661"'),
    "NaN": bare("NaN"),
    "NaN as text": bare('"NaN"'),
    "Infinity": bare("Infinity"),
    "minus Infinity": bare("-Infinity"),
    "negative": bare("-1"),
    "negative text": bare('"-1.00"'),
    "minus one minor unit": bare("-0.01"),
    "three decimals": bare("1.005"),
    "three decimals as text": bare('"1.005"'),
    "one digit too far": bare("1.00000000000000000000000000000000001"),
    "1e400": bare("1e400"),
    "1e-400": bare("1e-400"),
    "exponent without end": bare("1e99999999999999999999"),
    "above 2^53": bare("90071992547409.93"),
    "4000 digits": bare("9" * 4000),
    "200000 digits": bare("9" * 200_000),
    "another currency": bare(currency="USD"),
    "another currency code": wrapped(currency_code="usd"),
    "400": status(400),
    "422": status(422),
    "one byte too long": text(product(1).ljust(256 * 1024 + 1)),
}


@pytest.mark.parametrize("answer", UNSELLABLE.values(), ids=UNSELLABLE)
async def test_product_without_a_usable_price_is_unsellable(
    api: ProductApiServer, products: ProductApi, answer: Answer
) -> None:
    api.answers = {1: [answer]}
    found = await products.fetch([1, 2])
    assert isinstance(found[1], Unsellable)
    assert found[1].why
    assert isinstance(found[2], Product), "the other products of the order are not concerned"
    assert api.calls[1] == 1, "asking again would not help"


UNTRUSTED = {
    "401": status(401),
    "403": status(403),
    "204": text("", 204),
    "redirect": redirect("https://elsewhere.test/"),
    "empty": text(""),
    "HTML": text("<html>maintenance</html>", headers="Content-Type: text/html\r\n"),
    "not UTF-8": text(b'{"id": 1, "price": 1, "title": "\xff"}'),
    "nested 100000 deep": text("[" * 100_000),
    "gzip cut short": text(gzip.compress(product(1).encode())[:-30], headers="Content-Encoding: gzip\r\n"),
    "not gzip": text(b"plain", headers="Content-Encoding: gzip\r\n"),
    "unknown encoding": text(b"\x00", headers="Content-Encoding: br\r\n"),
}


@pytest.mark.parametrize("answer", UNTRUSTED.values(), ids=UNTRUSTED)
async def test_answer_without_product_data_is_an_outage(
    api: ProductApiServer, products: ProductApi, answer: Answer
) -> None:
    api.default = answer
    with pytest.raises(ProductsUnavailable) as refused:
        await products.fetch([1])
    assert api.calls == {1: 1}, "asking again would not help"
    assert refused.value.headers["Retry-After"] == "1"


@pytest.mark.parametrize("bad", [429, 500, 503])
async def test_retry_after_of_the_far_side_is_passed_on(
    api: ProductApiServer, products: ProductApi, clock: Clock, bad: int
) -> None:
    api.default = text("busy", bad, "Retry-After: 17\r\n")
    with pytest.raises(ProductsUnavailable) as refused:
        await products.fetch([1])
    assert refused.value.headers["Retry-After"] == "17"
    assert api.calls == {1: 1}, "the far side asked not to"


@pytest.mark.parametrize(
    ("written", "seconds"), [("5", 5), ("99999999999", 3600), ("", 0), ("soon", 0), ("-1", 0)]
)
def test_retry_after_is_read_within_bounds(written: str, seconds: int) -> None:
    assert _retry_after_s(written) == seconds
    assert _retry_after_s("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert 3590 <= _retry_after_s(format_datetime(now() + timedelta(hours=1), usegmt=True)) <= 3600


async def test_byte_order_mark_is_skipped(api: ProductApiServer, products: ProductApi) -> None:
    api.default = text(b"\xef\xbb\xbf" + product(1).encode())
    assert (await products.fetch([1]))[1].price == 1999


@pytest.mark.parametrize(
    ("written", "wanted", "path"),
    [
        ("2.0", 2, "/2"),
        (str(2**53 - 1), 2**53 - 1, "/9007199254740991"),
        ('"SKU-1"', "SKU-1", "/SKU-1"),
        ('"a/b c?d#e%f"', "a/b c?d#e%f", "/a%2Fb%20c%3Fd%23e%25f"),
        ('"1"', "1", "/1"),
        ('"Ärmel 漢"', "Ärmel 漢", "/%C3%84rmel%20%E6%BC%A2"),
        ('"../admin"', "../admin", "/..%2Fadmin"),
    ],
)
async def test_product_ids_are_kept_as_they_came(
    api: ProductApiServer, products: ProductApi, written: str, wanted: ProductId, path: str
) -> None:
    api.by_path = text(f'{{"id": {written}, "title": "A", "price": 1}}')
    found = (await products.fetch([wanted]))[wanted]
    assert (found.id, type(found.id)) == (wanted, type(wanted))
    assert api.requests == [f"/api/products{path}"]


@pytest.mark.parametrize("wanted", [".", ".."])
async def test_id_that_is_a_step_in_a_path_is_never_asked_for(
    api: ProductApiServer, products: ProductApi, wanted: str
) -> None:
    assert await products.fetch([wanted]) == {}
    assert api.requests == []


async def test_number_and_text_are_different_products(api: ProductApiServer, products: ProductApi) -> None:
    api.answers = {1: [text('{"id": "1", "title": "A", "price": 1}')]}
    assert list(await products.fetch([1, "1", "01"])) == ["1"]


@pytest.mark.parametrize(("currency", "price", "minor"), [("KWD", "1.255", 1255), ("JPY", "1980", 1980)])
async def test_price_has_the_decimals_of_the_currency(
    api: ProductApiServer, currency: str, price: str, minor: int
) -> None:
    client = ProductApi(api.url, currency)
    api.answers = {1: [bare(price)], 2: [bare(price + ("5" if "." in price else ".5"))]}
    found = await client.fetch([1, 2])
    assert found[1].price == minor
    assert isinstance(found[2], Unsellable)
    await client.aclose()


async def test_largest_body_allowed_plain_and_gzipped(api: ProductApiServer, products: ProductApi) -> None:
    body = product(1).ljust(256 * 1024).encode()
    api.answers = {1: [text(body)], 2: [gzipped(body.replace(b'"id": 1', b'"id": 2'))]}
    assert len(await products.fetch([1, 2])) == 2


# What it costs


async def peak_while_refused(products: ProductApi) -> int:
    tracemalloc.start()
    try:
        assert isinstance((await products.fetch([1]))[1], Unsellable)
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
    assert isinstance((await products.fetch([1]))[1], Unsellable)
    assert api.sent < 20_000_000, "what the socket buffers take, and not 100 MB"


@pytest.mark.parametrize("answer", [hang, drip, slowly(0.2, status(503))])
async def test_one_deadline_for_everything(api: ProductApiServer, hasty: ProductApi, answer: Answer) -> None:
    api.default = answer
    async with asyncio.timeout(PATIENCE_S):  # what drips would take much longer
        with pytest.raises(ProductsUnavailable):
            await hasty.fetch(range(1, 101))
    assert max(api.calls.values(), default=0) <= 2, "there is no time for a third try"


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
        client = ProductApi(api.url, "EUR")
        assert await client.fetch([1])
        await client.aclose()


@pytest.mark.parametrize(
    "url",
    ["", "products", "ftp://host/x", "http://", "http://h:99999", "http://h/?key=secret", "http://h/#x"],
)
def test_refuses_a_base_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match="PRODUCTS_API") as refused:
        ProductApi(url, "EUR")
    assert "secret" not in str(refused.value)


async def test_trailing_slash_of_the_base_makes_no_difference(api: ProductApiServer) -> None:
    client = ProductApi(f"{api.url}/", "EUR")
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
        client = ProductApi(f"http://127.0.0.1:{bound.getsockname()[1]}", "EUR", clock=clock)
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


@pytest.mark.parametrize("answer", [text("<html>"), text("{}", headers="Content-Encoding: br\r\n")])
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
    api.answers[1] = [wrapped("1"), status(403)]
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
    api.answers[1] = [status(404), status(403), wrapped()]
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


async def ids(
    products: ProductApi, page: int, limit: int, category: str | None = None, *, has_more: bool = False
) -> list[ProductId]:
    found = await products.page(page, limit, category)
    assert found.has_more is has_more
    return [view.id for view in found.products]


def listing(*numbers: int, shape: str = '{"status": "SUCCESS", "products": [%s]}') -> Answer:
    return text(shape % ", ".join(product(number) for number in numbers))


@pytest.mark.parametrize("shape", ['{"status": "SUCCESS", "products": [%s]}', '{"products": [%s]}', "[%s]"])
async def test_list_in_every_shape(api: ProductApiServer, products: ProductApi, shape: str) -> None:
    api.listing = listing(1, 2, shape=shape)
    assert await ids(products, 2, 2) == [1, 2]
    assert api.queries[0] == {"page": ["2"], "limit": ["2"]}


async def test_category_is_loaded_once_and_cut_here(api: ProductApiServer, products: ProductApi) -> None:
    api.listing = listing(1, 2, 3)
    evil = "a&page=9#/../x"
    assert await ids(products, 1, 2, evil, has_more=True) == [1, 2]
    assert await ids(products, 2, 2, evil) == [3]
    assert await ids(products, 3, 2, evil) == []
    assert api.queries == [{"type": [evil]}]
    assert api.requests[0].startswith("/api/products/category?type=")


@pytest.mark.parametrize("answer", [status(404), text('{"status": "ERROR"}'), text("[]")])
async def test_empty_list(api: ProductApiServer, products: ProductApi, answer: Answer) -> None:
    api.listing = answer
    assert await ids(products, 1, 20, "none") == []


async def test_list_leaves_out_what_cannot_be_trusted(api: ProductApiServer, products: ProductApi) -> None:
    api.listing = text(
        f"[{product(1)}, {product(2, '-1')}, null, {product(3, 'NaN')}, {product(4, '1e99999999999999')}]"
    )
    assert await ids(products, 1, 20) == [1]


async def test_list_may_be_much_longer_than_a_product(api: ProductApiServer, products: ProductApi) -> None:
    api.listing = text("[" + ", ".join(product(n, description="y" * 5_000) for n in range(1, 101)) + "]")
    assert len(await ids(products, 1, 100)) == 100


class Pages:
    """A product API with pages, of which some have products without a price."""

    def __init__(self, api: ProductApiServer, *pages: list[str]) -> None:
        self.pages = pages
        api.listing = self

    async def __call__(self, api: ProductApiServer, writer: asyncio.StreamWriter, _number: int) -> None:
        page = int(api.queries[-1]["page"][0])
        found = self.pages[page - 1] if page <= len(self.pages) else []
        reply(writer, f"[{', '.join(found)}]".encode())


async def test_page_with_an_unusable_product_has_more(api: ProductApiServer, products: ProductApi) -> None:
    Pages(api, [product(1), product(2, "null")], [product(3, "null"), product(4, "null")], [product(5)])
    assert await ids(products, 1, 2, has_more=True) == [1]
    assert await ids(products, 2, 2, has_more=True) == []
    assert await ids(products, 3, 2) == [5]
    assert await ids(products, 4, 2) == []


async def test_short_page_of_an_api_with_smaller_pages_has_more(
    api: ProductApiServer, products: ProductApi
) -> None:
    Pages(api, [product(1)], [product(2)])
    assert await ids(products, 1, 100, has_more=True) == [1]
    assert await ids(products, 2, 100) == [2]


async def test_more_than_two_thousand_products_are_reached(api: ProductApiServer, products: ProductApi) -> None:
    numbers = range(1, 2506)
    Pages(api, *([product(n) for n in numbers[first : first + 100]] for first in range(0, len(numbers), 100)))
    found: list[ProductId] = []
    page = 1
    while (listed := await products.page(page, 100, None)).has_more:
        found += [view.id for view in listed.products]
        page += 1
    assert [*found, *(view.id for view in listed.products)] == list(numbers)


async def test_full_last_page_has_no_more(api: ProductApiServer, products: ProductApi) -> None:
    Pages(api, [product(1), product(2)])
    assert await ids(products, 1, 2) == [1, 2]


async def test_list_without_pages_is_cut_here(api: ProductApiServer, products: ProductApi) -> None:
    api.listing = listing(1, 2, 3, 4, 5)
    assert await ids(products, 1, 2, has_more=True) == [1, 2]
    assert await ids(products, 3, 2) == [5]
    assert await ids(products, 1, 100) == [1, 2, 3, 4, 5], "the same answer to every page is one page"


async def test_next_page_that_fails_counts_as_more_after_a_full_one(
    api: ProductApiServer, products: ProductApi
) -> None:
    class Failing(Pages):
        async def __call__(self, api: ProductApiServer, writer: asyncio.StreamWriter, number: int) -> None:
            await (status(403) if api.queries[-1]["page"] == ["2"] else super().__call__)(api, writer, number)

    Failing(api, [product(1), product(2)])
    assert await ids(products, 1, 2, has_more=True) == [1, 2]


# One price for lists, product pages and orders


async def price_of_one(products: ProductApi) -> int:
    return (await products.fetch([1]))[1].price


async def test_order_costs_what_the_list_showed(api: ProductApiServer, products: ProductApi, clock: Clock) -> None:
    api.listing, api.default = text(f"[{product(1, '10')}]"), bare("25")
    assert [view.price for view in (await products.page(1, 20, None)).products] == [1000]
    clock.now += 59
    assert await price_of_one(products) == 1000
    assert not api.calls
    clock.now += 1
    assert await price_of_one(products) == 2500


async def test_list_shows_what_an_order_costs(api: ProductApiServer, products: ProductApi, clock: Clock) -> None:
    api.listing, api.default = text(f"[{product(1, '10')}]"), bare("25")
    await products.page(1, 20, None)
    clock.now += 60
    api.listing = status(403)
    assert await price_of_one(products) == 2500
    assert [view.price for view in (await products.page(1, 20, None)).products] == [2500], "not the list's old one"


async def test_newer_list_changes_the_price_of_orders(api: ProductApiServer, products: ProductApi) -> None:
    api.listing, api.default = text(f"[{product(1, '25')}]"), bare("10")
    assert await price_of_one(products) == 1000
    for category in (None, "audio"):
        assert [view.price for view in (await products.page(1, 20, category)).products] == [2500]
        assert await price_of_one(products) == 2500


async def test_product_that_lost_its_price_leaves_the_list(api: ProductApiServer, products: ProductApi) -> None:
    api.listing, api.answers = text(f"[{product(1)}, {product(2)}]"), {1: [bare(), bare("null")]}
    assert await ids(products, 1, 20) == [1, 2]
    products._products._entries.clear()
    products._products.put(1, Dated(Unsellable(id=1, why="its price is missing"), time.time()))
    assert await ids(products, 1, 20) == [2]


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
    assert len(api.requests) == 2, "this page and whether there is another"
    clock.now += 540
    assert await ids(products, 1, 20) == [1]
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


ERROR = '{"status": "ERROR", "message": "scripted"}'
HTML = {"headers": "Content-Type: text/html\r\n"}
WRONG_ADDRESSES = {
    "HTML": (
        text("<html>maintenance</html>", **HTML),
        ["HTML instead of JSON", "answered 200", "<html>maintenance"],
    ),
    "HTML 404": (text("<h1>no</h1>", 404, **HTML), ["no products", "answered 404", "text/html", "<h1>no"]),
    "redirect": (redirect("https://shop.test/new"), ["redirects", "302", "redirects to https://shop.test/new"]),
    "text": (
        text("it works", headers="Content-Type: text/plain\r\n"),
        ["instead of JSON", "text/plain", "it works"],
    ),
    "empty": (text(""), ["instead of JSON", "answered 200"]),
    "JSON of something else": (text('{"hello": "world"}'), ["no list of products", '"hello": "world"']),
    "failing": (status(500), ["failed", "answered 500", "scripted"]),
    "locked": (status(401), ["refused", "answered 401"]),
}


@pytest.mark.parametrize(("answer", "said"), WRONG_ADDRESSES.values(), ids=WRONG_ADDRESSES)
async def test_check_says_which_address_answered_what(
    api: ProductApiServer, products: ProductApi, answer: Answer, said: list[str]
) -> None:
    api.listing = answer
    with pytest.raises(ProductsUnavailable) as refused:
        await products.check()
    for part in (*said, f"{api.url}?page=1&limit=100"):
        assert part in refused.value.detail


async def test_check_names_a_price_in_another_currency(api: ProductApiServer, products: ProductApi) -> None:
    api.listing = text(f"[{product(1)}, {product(2, currency='USD')}]")
    assert "1 of 2 products cannot be sold (product 2: its price is in USD" in await products.check()
    api.listing = text(f"[{product(2, currency='USD')}]")
    with pytest.raises(ProductsUnavailable, match="its price is in USD, and the shop sells in EUR"):
        await products.check()


async def test_credentials_of_the_address_are_not_shown(api: ProductApiServer) -> None:
    client = ProductApi(api.url.replace("://", "://ada:secret@"), "EUR")
    api.listing = text("<html>")
    with pytest.raises(ProductsUnavailable) as refused:
        await client.check()
    assert "secret" not in refused.value.detail
    await client.aclose()


async def test_log_says_once_that_the_api_went_away_and_once_that_it_is_back(
    api: ProductApiServer, products: ProductApi, caplog: pytest.LogCaptureFixture
) -> None:
    page = text("<html>" + "x" * 10_000)
    api.answers = {1: [status(500)], 2: [status(500)], 4: [page], 5: [page]}
    with caplog.at_level(logging.INFO, "purveyor.roles.orders"):
        for number in (1, 2):
            with pytest.raises(ProductsUnavailable) as refused:
                await products.fetch([number])
            assert "500" not in refused.value.detail, "what is behind us is not the client's business"
        await products.fetch([3])
        await products.fetch([6])
        for number in (4, 5):
            with pytest.raises(ProductsUnavailable):
                await products.fetch([number])
    assert [record.getMessage()[:200] for record in caplog.records] == [
        f"The product API failed ({api.url}/1 answered 500, application/json, begins with {ERROR!r}).",
        f"The product API answers again ({api.url}/3).",
        (
            "The product API returned HTML instead of JSON "
            f"({api.url}/4 answered 200, application/json, begins with '<html>{'x' * 80}"
        )[:200],
    ]


# The bundled catalogue


async def test_bundled_prices_have_the_decimals_of_the_currency() -> None:
    euros, yen = BundledProducts("EUR"), BundledProducts("JPY")
    for product_id, view in (await euros.fetch(range(1, 50))).items():
        assert abs((await yen.fetch([product_id]))[product_id].price * 100 - view.price) <= 50


async def test_bundled_catalogue() -> None:
    catalogue = BundledProducts("EUR")
    everything = (await catalogue.page(1, 1000, None)).products
    assert all(isinstance(view.price, int) and view.price > 0 for view in everything)
    ids = [view.id for view in everything]
    assert list(await catalogue.fetch([ids[1], 10**9, ids[0]])) == [ids[1], ids[0]]
    assert await catalogue.check() == f"bundled catalog, {len(ids)} products"


async def test_bundled_catalogue_in_pages() -> None:
    catalogue = BundledProducts("EUR")
    everything = (await catalogue.page(1, 1000, None)).products
    first, second = await catalogue.page(1, 7, None), await catalogue.page(2, 7, None)
    assert [*first.products, *second.products] == list(everything[:14])
    assert first.has_more
    assert not (await catalogue.page(1, len(everything), None)).has_more
    category = everything[0].category
    inside = [view for view in everything if view.category == category]
    assert (await catalogue.page(1, 1000, category)).products == inside
    assert (await catalogue.page(2, 1000, category)).products == []
    assert (await catalogue.page(1, 20, "none of these")).products == []


async def test_bundled_catalogue_served_in_the_api_shape_reads_the_same(
    api: ProductApiServer, products: ProductApi
) -> None:
    bundled = {view.id: view for view in (await BundledProducts("EUR").page(1, 1000, None)).products}
    number, view = next(item for item in bundled.items() if item[1].price % 100)
    members = {name: getattr(view, name) for name in view.__struct_fields__ if name not in {"id", "price"}}
    api.default = wrapped(json.dumps(view.price / 100), **members)
    assert await products.fetch([number]) == {number: view}
