"""The outermost layer: whose request id and whose address is believed, and what every answer carries."""

import ipaddress
import logging
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purveyor.kit import log, tracing
from purveyor.kit.http.base_path import base_path
from purveyor.kit.http.cors import Cors
from purveyor.kit.http.middleware import RequestContext
from purveyor.kit.limits.networks import client_network
from purveyor.kit.metrics import REGISTRY

Header = tuple[bytes, bytes]


class App:
    """An application that remembers what it was told, and answers with the headers that it was given."""

    def __init__(self, headers: Sequence[Header] = (), *, error: Exception | None = None) -> None:
        self._headers = headers
        self._error = error
        self.client: tuple[str, int] | None = None
        self.path = ""
        self.link = ""
        self.request_id = ""
        self.traceparent = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.client = scope.get("client")
        self.path, self.link = scope["path"], f"{base_path.get()}/static/a.css"
        self.request_id = log.request_id.get()
        self.traceparent = tracing.traceparent.get()
        scope["path_template"] = "/things/{id}"
        if self._error is not None:
            raise self._error
        await send({"type": "http.response.start", "status": 200, "headers": list(self._headers)})
        await send({"type": "http.response.body", "body": b"ok"})


async def call(
    app: App,
    *headers: Header,
    client: tuple[str, int] | None = ("192.0.2.9", 4711),
    trusted: Sequence[str] = (),
    path: str = "/things/1",
    method: str = "GET",
    version: str = "1.0",
    **options: Any,
) -> list[Header]:
    """One request; the headers of the answer. ``options`` are those of ``RequestContext``."""
    answer: list[Header] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.extend(message["headers"])

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: Any = {"type": "http", "method": method, "path": path, "headers": list(headers), "client": client}
    scope["http_version"] = version
    wrapped: Any = RequestContext(app, trusted=[ipaddress.ip_network(network) for network in trusted], **options)
    await wrapped(scope, receive, send)
    return answer


async def request_id_for(value: bytes) -> str:
    app = App()
    answer = await call(app, (b"x-request-id", value))
    ((_, returned),) = [pair for pair in answer if pair[0] == b"x-request-id"]
    assert returned.decode() == app.request_id, "what is logged is what is returned"
    return app.request_id


@pytest.mark.parametrize(
    "value", [b"a", b"01234567-89ab-7def-8123-456789abcdef", b"Root=1-67/a.b:c+d=_@", b"x" * 128]
)
async def test_a_sane_request_id_is_kept(value: bytes) -> None:
    assert await request_id_for(value) == value.decode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"a b",
        b"x" * 129,
        b"a\r\nSet-Cookie: x=1",
        b"a\n",
        b"a\x00b",
        b"a;b",
        b"a,b",
        b'"a"',
        b"\xc3\xbc",
        b"\xff",
        b"\x1b[2J",
        b"<script>",
        b"{{7*7}}",
        b"%0d%0a",
        b"a\x85b",
    ],
)
async def test_any_other_request_id_is_replaced(value: bytes) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", await request_id_for(value))


async def test_a_request_without_an_id_gets_a_new_one_each() -> None:
    first, second = App(), App()
    await call(first)
    await call(second)

    assert re.fullmatch(r"[0-9a-f]{32}", first.request_id)
    assert first.request_id != second.request_id
    assert log.request_id.get() == "", "nothing is left for the next request"


async def test_the_first_of_several_request_ids_counts() -> None:
    app = App()
    await call(app, (b"x-request-id", b"first"), (b"x-request-id", b"second"))

    assert app.request_id == "first"


TRACE = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
NEW_TRACE = r"00-[0-9a-f]{32}-[0-9a-f]{16}-00"


async def traceparent_for(*values: str) -> str:
    app = App()
    await call(app, *((b"traceparent", value.encode("latin-1")) for value in values))
    return app.traceparent


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (f"00-{TRACE}-01", f"00-{TRACE}-01"),
        (f"00-{TRACE}-00", f"00-{TRACE}-00"),
        (f"cc-{TRACE}-01", f"00-{TRACE}-01"),
        (f"cc-{TRACE}-01-what-the-future-adds", f"00-{TRACE}-01"),
    ],
)
async def test_the_trace_of_a_request_is_kept(sent: str, kept: str) -> None:
    assert await traceparent_for(sent) == kept


@pytest.mark.parametrize(
    "value",
    [
        "",
        TRACE,
        f"ff-{TRACE}-01",
        f"00-{TRACE}-01-more",
        f"00-{TRACE}-01-",
        f"cc-{TRACE}-01.more",
        f"00-{TRACE}-1",
        f"00-{TRACE}-0x",
        f"00-{TRACE.upper()}-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        f"00-{TRACE}-01\n",
        "\xe9" * 55,
    ],
)
async def test_what_is_no_trace_is_replaced_by_a_new_one(value: str) -> None:
    made = await traceparent_for(value)
    assert re.fullmatch(NEW_TRACE, made)
    assert TRACE[:32] not in made


async def test_two_traces_are_none() -> None:
    assert TRACE[:32] not in await traceparent_for(f"00-{TRACE}-01", f"00-{TRACE}-01")


async def test_a_request_without_a_trace_begins_one() -> None:
    first, second = await traceparent_for(), await traceparent_for()

    assert re.fullmatch(NEW_TRACE, first)
    assert first != second
    assert tracing.traceparent.get() == "", "nothing is left for the next request"


async def test_head_ends_a_stream_with_its_first_part() -> None:
    sent: list[Any] = []
    parts = 0

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        nonlocal parts
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while parts < 3:
            parts += 1
            await send({"type": "http.response.body", "body": b"part", "more_body": True})

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": "HEAD", "path": "/things/1", "headers": [], "client": None}
    wrapped: Any = RequestContext(stream)
    await wrapped(scope, None, send)

    assert parts == 3, "what comes after it is dropped"
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert (sent[1]["body"], sent[1]["more_body"]) == (b"", False)


async def test_what_every_answer_carries() -> None:
    plain = await call(App())
    own = await call(App([(b"cache-control", b"max-age=60"), (b"etag", b'"1"')]))

    assert (b"x-content-type-options", b"nosniff") in plain
    assert (b"cache-control", b"no-store") in plain
    assert [value for name, value in own if name == b"cache-control"] == [b"max-age=60"]
    assert (b"etag", b'"1"') in own


async def client_for(
    *forwarded: str, peer: str = "10.0.0.1", trusted: Sequence[str] = ("10.0.0.0/8", "fd00::/8")
) -> str:
    app = App()
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    await call(app, *headers, client=(peer, 1), trusted=trusted)
    assert app.client is not None
    return app.client[0]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["203.0.113.7"], "203.0.113.7"),
        (["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
        (["1.1.1.1", "203.0.113.7"], "203.0.113.7"),
        (["1.1.1.1, 203.0.113.7, 10.0.0.2,10.0.0.3 "], "203.0.113.7"),
        (["10.9.9.9, 10.0.0.2"], "10.9.9.9"),
        (["10.9.9.9, 203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        (["2001:db8::1, fd00::2"], "2001:db8::1"),
        (["2001:DB8:0:0::1"], "2001:db8::1"),
        (["203.0.113.7, junk"], "10.0.0.1"),
        (["203.0.113.7, junk, 10.0.0.2"], "10.0.0.2"),
        (["unknown"], "10.0.0.1"),
        (["_hidden"], "10.0.0.1"),
        (["203.0.113.7, _SEVKISEK, 10.0.0.2"], "10.0.0.2"),
        (["203.0.113.7:1234"], "203.0.113.7"),
        (["203.0.113.7:1234, 10.0.0.2:80"], "203.0.113.7"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["[2001:db8::1]:47011"], "2001:db8::1"),
        (['"[2001:db8::1]:47011"'], "2001:db8::1"),
        (["[::ffff:203.0.113.7]:80"], "203.0.113.7"),
        (["\t203.0.113.7\t,\t10.0.0.2\t"], "203.0.113.7"),
        (["203.0.113.7", "", "10.0.0.2"], "203.0.113.7"),
        (["203.0.113.7:port"], "10.0.0.1"),
        (["203.0.113.7:123456"], "10.0.0.1"),
        (["[203.0.113.7"], "10.0.0.1"),
        (["for=203.0.113.7"], "10.0.0.1"),
        (["203.0.113.7\r\nX: y"], "10.0.0.1"),
        (["\xff"], "10.0.0.1"),
        (["127.1"], "10.0.0.1"),
        (["0x7f000001"], "10.0.0.1"),
        (["203.0.113.7,"], "203.0.113.7"),
        (["203.0.113.7,, 10.0.0.2"], "203.0.113.7"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
    ],
)
async def test_the_client_is_read_from_the_right_behind_trusted_proxies(forwarded: list[str], client: str) -> None:
    assert await client_for(*forwarded) == client


async def test_a_peer_that_is_no_proxy_cannot_say_who_it_is() -> None:
    assert await client_for("203.0.113.7", peer="192.0.2.9") == "192.0.2.9"
    assert await client_for("203.0.113.7", trusted=[]) == "10.0.0.1"
    assert await client_for("203.0.113.7", peer="fd00::1", trusted=["10.0.0.0/8"]) == "fd00::1"


async def test_a_proxy_that_comes_over_a_socket_for_both_families_is_known() -> None:
    assert await client_for("203.0.113.7", peer="::ffff:10.0.0.1") == "203.0.113.7"
    assert await client_for("203.0.113.7", peer="::ffff:192.0.2.9") == "::ffff:192.0.2.9"


@pytest.mark.parametrize("peer", [None, ("", 0), ("/run/app.sock", 0)])
async def test_a_peer_without_an_address_is_left_alone(peer: tuple[str, int] | None) -> None:
    app = App()
    await call(app, (b"x-forwarded-for", b"203.0.113.7"), client=peer, trusted=["0.0.0.0/0", "::/0"])

    assert app.client == peer


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_leaves_an_address_that_a_limit_can_count_by(value: str) -> None:
    from asyncio import Runner

    with Runner() as runner:
        client = runner.run(client_for(value))
    ipaddress.ip_address(client)
    assert client_network(client)


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("64:ff9b::203.0.113.7", "203.0.113.7"),
        ("64:ff9b:1::203.0.113.7", "64:ff9b:1::/64"),
        ("2002:cb00:7107::1", "203.0.113.7"),
        ("2002:cb00:7107:ffff::1", "203.0.113.7"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_a_limit_counts_by_the_ipv4_address_or_the_ipv6_network(host: str, counted: str) -> None:
    assert client_network(host) == counted


def count(method: str, route: str, status: int) -> float:
    labels = {"method": method, "route": route, "status": str(status)}
    return REGISTRY.get_sample_value("purveyor_http_requests_total", labels) or 0.0


async def test_requests_are_counted_by_route_and_not_by_what_a_client_makes_up() -> None:
    before = count("GET", "/things/{id}", 200), count("other", "/things/{id}", 200)
    await call(App(), path="/things/1")
    await call(App(), path="/things/2")
    await call(App(), method="BREW")

    assert count("GET", "/things/{id}", 200) == before[0] + 2
    assert count("other", "/things/{id}", 200) == before[1] + 1


async def test_the_access_log_has_the_request_id_the_status_and_no_query(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "purveyor.access"):
        await call(App(), (b"x-request-id", b"r-1"), path="/things/1")
        await call(App(), path="/health/live")
        await call(App(), path="/" + "x" * 5000)

    first, long = (vars(record) for record in caplog.records)
    assert (first["method"], first["path"], first["status"]) == ("GET", "/things/1", 200)
    assert first["ms"] >= 0
    assert len(long["path"]) == 200


async def test_an_application_that_dies_is_counted_as_500_and_leaves_no_request_id() -> None:
    before = count("GET", "/things/{id}", 500)
    with pytest.raises(ZeroDivisionError):
        await call(App(error=ZeroDivisionError()))

    assert count("GET", "/things/{id}", 500) == before + 1
    assert log.request_id.get() == ""


async def test_what_is_not_http_passes_untouched() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    wrapped: Any = RequestContext(app)
    await wrapped({"type": "lifespan"}, None, None)

    assert seen == [{"type": "lifespan"}]


@pytest.mark.parametrize(
    ("hosts", "version", "served"),
    [
        ([b"shop.test"], "1.1", True),
        ([b"shop.test:8000"], "1.1", True),
        ([b"[::1]:8000"], "1.1", True),
        ([b""], "1.1", True),
        ([], "1.0", True),
        ([], "1.1", False),
        ([b"a", b"b"], "1.1", False),
        ([b"a", b"a"], "1.0", False),
        ([b"a, b"], "1.1", False),
        ([b"user@a"], "1.1", False),
        ([b"a/b"], "1.1", False),
    ],
)
async def test_a_request_has_one_host(hosts: list[bytes], version: str, *, served: bool) -> None:
    app = App()
    answer = await call(app, *((b"host", host) for host in hosts), version=version)
    assert bool(app.path) == served
    assert ((b"content-type", b"application/problem+json") in answer) != served
    assert len([name for name, _ in answer if name == b"x-request-id"]) == 1


async def test_https_is_required_where_the_public_url_is_https() -> None:
    fields = dict(await call(App(), https=True))
    assert fields[b"strict-transport-security"] == b"max-age=31536000"
    assert b"strict-transport-security" not in dict(await call(App()))


async def test_data_may_load_nothing() -> None:
    policy = b"default-src 'none'; frame-ancestors 'none'"
    for media in (b"application/json", b"application/problem+json"):
        assert dict(await call(App([(b"content-type", media)])))[b"content-security-policy"] == policy
    assert b"content-security-policy" not in dict(await call(App([(b"content-type", b"text/css")])))
    own = App([(b"content-type", b"application/json"), (b"content-security-policy", b"sandbox")])
    assert [value for name, value in await call(own) if name == b"content-security-policy"] == [b"sandbox"]


@pytest.mark.parametrize(
    ("path", "inner"),
    [
        ("/store/api/orders", "/api/orders"),
        ("/api/orders", "/api/orders"),
        ("/store", "/"),
        ("/store/", "/"),
        ("/", "/"),
        ("/stores", "/stores"),
        ("/store/store/x", "/store/x"),
    ],
)
async def test_the_base_path_is_served_stripped_or_kept(path: str, inner: str) -> None:
    app = App([(b"location", b"/api/orders/1"), (b"link", b'</api/orders/?cursor=1>; rel="next"')])
    fields = dict(await call(app, path=path, base_path="/store"))
    assert app.path == inner
    assert app.link == "/store/static/a.css"
    assert fields[b"location"] == b"/store/api/orders/1"
    assert fields[b"link"] == b'</store/api/orders/?cursor=1>; rel="next"'
    assert base_path.get() == ""


@pytest.mark.parametrize("location", [b"https://other.test/x", b"//other.test/x"])
async def test_links_elsewhere_stay_as_they_are(location: bytes) -> None:
    assert dict(await call(App([(b"location", location)]), base_path="/store"))[b"location"] == location


FRONT = b"https://front.test"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (["https://front.test"], FRONT, FRONT),
        (["https://other.test", "https://front.test"], FRONT, FRONT),
        (["https://*.front.test"], b"https://a.front.test", b"https://a.front.test"),
        (["*"], FRONT, b"*"),
        (["https://front.test"], b"https://front.test.evil.test", None),
        (["https://front.test"], b"http://front.test", None),
        (["https://front.test"], b"null", None),
        (["https://front.test"], None, None),
    ],
)
async def test_only_named_origins_may_read_answers(
    origins: list[str], origin: bytes | None, allowed: bytes | None
) -> None:
    sent = [(b"origin", origin)] if origin is not None else []
    answer = await call(App(), *sent, cors=Cors(origins))
    fields = dict(answer)
    assert fields.get(b"access-control-allow-origin") == allowed
    assert b"access-control-allow-credentials" not in fields
    assert (fields.get(b"vary") == b"Origin") == (origins != ["*"]), "a cache must tell origins apart"
    exposed = set(fields.get(b"access-control-expose-headers", b"").decode().split(", "))
    if allowed:
        assert exposed >= {"ETag", "Location", "Link", "RateLimit", "RateLimit-Policy", "Retry-After"}
        assert exposed >= {"Idempotent-Replayed", "X-Request-ID"}


async def test_a_preflight_request_is_answered_for_any_path() -> None:
    app = App()
    asks = [(b"access-control-request-method", b"PATCH"), (b"access-control-request-headers", b"if-match")]
    answer = await call(app, (b"origin", FRONT), *asks, method="OPTIONS", cors=Cors([FRONT.decode()]))
    fields = dict(answer)
    assert app.path == ""
    assert fields[b"access-control-allow-origin"] == FRONT
    assert b"PATCH" in fields[b"access-control-allow-methods"]
    allowed = {name.strip().lower() for name in fields[b"access-control-allow-headers"].split(b",")}
    assert allowed >= {b"authorization", b"content-type", b"idempotency-key", b"if-match", b"last-event-id"}
    assert len(fields) == len(answer), "no field twice"
    await call(app, (b"origin", b"https://evil.test"), *asks, method="OPTIONS", cors=Cors([FRONT.decode()]))
    assert app.path, "for another origin it is an OPTIONS request like any"


async def test_methods_that_a_client_makes_up_for_a_path_make_no_series() -> None:
    class Refusing(App):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["path_template"] = "/made-up/{id}"
            await send({"type": "http.response.start", "status": 405, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    for method in ("PUT", "PATCH", "BREW"):
        await call(Refusing(), method=method)
    assert count("PUT", "/made-up/{id}", 405) == 0
    assert count("other", "none", 405) >= 3
