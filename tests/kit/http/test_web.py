"""Bodies in, problems out: no input a client can send ends in anything but an answer that says what is wrong."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Request, get, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath, JSONBody, Parameter
from msgspec import Meta

from purveyor.kit import errors
from purveyor.kit.errors import BadRequest, FieldError, InvalidInput, Problem, Unauthorized, Unavailable
from purveyor.kit.http.app import web_app
from purveyor.kit.http.middleware import RequestContext
from purveyor.kit.http.web import MAX_BODY_BYTES, bearer_token, decode, signed_in


class Line(msgspec.Struct, forbid_unknown_fields=True):
    product_id: Annotated[int, Meta(ge=1, le=2**31)]
    quantity: Annotated[int, Meta(ge=1, le=1000)]


class Draft(msgspec.Struct, forbid_unknown_fields=True):
    items: Annotated[list[Line], Meta(min_length=1, max_length=100)]
    note: str = ""
    extra: dict[str, int] = {}


class Login(msgspec.Struct, forbid_unknown_fields=True):
    email: str
    password: Annotated[str, Meta(max_length=128)]


LINE = '{"product_id": 1, "quantity": 2}'


def draft(line: str = LINE, rest: str = "") -> bytes:
    return f'{{"items": [{line}]{rest}}}'.encode()


def quantity(text: str) -> bytes:
    return draft(f'{{"product_id": 1, "quantity": {text}}}')


def test_a_good_body_is_decoded() -> None:
    assert decode(draft(rest=', "note": "grüße 🙂"'), Draft) == Draft([Line(1, 2)], "grüße 🙂")


@pytest.mark.parametrize("text", ["2.0", "2.000", "2e0", "0.2e1"])
def test_a_whole_number_may_be_written_with_a_fraction(text: str) -> None:
    assert decode(quantity(text), Draft) == Draft([Line(1, 2)])


def test_a_byte_order_mark_before_a_body_is_skipped() -> None:
    assert decode(b"\xef\xbb\xbf" + draft(), Draft) == Draft([Line(1, 2)])
    with pytest.raises(InvalidInput):
        decode(b"\xef\xbb\xbf{}", Draft)


UNREADABLE = {
    "empty": b"",
    "not JSON": b"items=1",
    "cut off": draft()[:-1],
    "two values": draft() + b"{}",
    "trailing comma": b'{"items": [],}',
    "single quotes": b"{'items': []}",
    "two byte order marks": b"\xef\xbb\xbf" * 2 + draft(),
    "UTF-16": draft().decode().encode("utf-16"),
    "invalid UTF-8 in a value": draft(rest=', "note": "?"').replace(b"?", b"\xff"),
    "invalid UTF-8 in a name": b'{"\xff": 1}',
    "invalid UTF-8 after a wrong member": b'{"items": 1, "note": "\xff"}',
    "a surrogate in UTF-8": draft(rest=', "note": "?"').replace(b"?", b"\xed\xa0\x80"),
    "a lone surrogate": draft(rest=', "note": "\\ud800"'),
    "a lone low surrogate": draft(rest=', "note": "\\udc00"'),
    "a reversed pair": draft(rest=', "note": "\\udc00\\ud800"'),
    "raw NUL": draft(rest=', "note": "a\x00b"'),
    "raw line break": draft(rest=', "note": "a\nb"'),
    "100,000 arrays deep": b"[" * 100_000,
    "100,000 objects deep": b'{"a":' * 100_000,
    "deep in a known member": b'{"items":' + b"[" * 60_000,
    "deep in an unknown member": b'{"unknown":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep in a member's member": draft('{"product_id": ' + "[" * 30_000 + "]" * 30_000 + "}"),
    "NaN": quantity("NaN"),
    "Infinity": quantity("-Infinity"),
    "hexadecimal": quantity("0x10"),
    "leading zero": quantity("01"),
    "plus": quantity("+1"),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        decode(body, Draft)

    assert "\n" not in refused.value.detail
    assert len(refused.value.detail) < 200


WRONG = {
    "no object": (b"[]", ""),
    "null": (b"null", ""),
    "missing": (b"{}", "/items"),
    "missing inside": (draft('{"product_id": 1}'), "/items/0/quantity"),
    "unknown": (draft(rest=', "total": 1'), "/total"),
    "unknown inside": (draft(f'{LINE}, {{"product_id": 1, "quantity": 1, "price": 1}}'), "/items/1/price"),
    "unknown with a slash and a tilde": (draft(rest=', "a/b~c": 1'), "/a~1b~0c"),
    "unknown with a backtick": (draft(rest=', "a`b": 1'), "/a`b"),
    "unknown and empty": (draft(rest=', "": 1'), "/"),
    "unknown that looks like a path": (draft(rest=', "a.b[0]": 1'), "/a.b[0]"),
    "wrong type of a list": (b'{"items": {}}', "/items"),
    "wrong type in a list": (draft("1"), "/items/0"),
    "wrong type in a map": (draft(rest=', "extra": {"a": "b"}'), "/extra/a"),
    "too few": (b'{"items": []}', "/items"),
    "too many": (draft(", ".join([LINE] * 101)), "/items"),
    "escaped NUL": (draft(rest=', "note": "a\\u0000b"'), "/note"),
    "escaped NUL after a backslash": (draft(rest=', "note": "\\\\\\u0000"'), "/note"),
    "escaped NUL in a key": (draft(rest=', "extra": {"a\\u0000": 1}'), "/extra/a\x00"),
    "escaped NUL in an unknown member": (draft(rest=', "other": "\\u0000"'), "/other"),
    "300,000 items": (draft(", ".join([LINE] * 300_000)), "/items"),
    **{
        f"quantity {text[:12]}": (quantity(text), "/items/0/quantity")
        for text in [
            "0",
            "-1",
            "1001",
            str(2**31),
            str(2**63),
            "1" + "0" * 4000,
            "1.5",
            "0.0",
            "1e3000",
            "1001.0",
            '"1"',
            "true",
            "null",
            "[]",
            "{}",
            "1e400",
            "-0",
        ]
    },
}


@pytest.mark.parametrize(("body", "pointer"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_pointed_at(body: bytes, pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode(body, Draft)

    (error,) = refused.value.errors
    assert error.pointer == pointer
    assert error.detail
    assert "$" not in error.detail


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_any_unknown_member_is_pointed_at(name: str) -> None:
    if name in ("email", "password"):
        return
    body = json.dumps({"email": "a", "password": "b", name: 1}).encode()

    with pytest.raises(InvalidInput) as refused:
        decode(body, Login)

    assert refused.value.errors[0].pointer == "/" + name.replace("~", "~0").replace("/", "~1")


@pytest.mark.parametrize(
    ("body", "pointers"),
    {
        "a scalar": ('{"email": "a", "password": "b", "email": "c"}', ["/email"]),
        "the same value": ('{"email": "a", "password": "b", "password": "b"}', ["/password"]),
        "an escaped name": (r'{"email": "a", "password": "b", "\u0065mail": "c"}', ["/email"]),
        "after a byte order mark": ('\ufeff{"email": "a", "password": "b", "email": "c"}', ["/email"]),
        "beside other faults": ('{"email": 1, "x~/y": 1, "x~/y": 2}', ["/email", "/password", "/x~0~1y"]),
        "several": (
            '{"email": "a", "email": "b", "password": "c", "password": "d", "password": "e"}',
            ["/email", "/password"],
        ),
    }.values(),
)
def test_a_member_that_was_sent_twice_is_pointed_at(body: str, pointers: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode(body.encode(), Login)

    assert sorted(error.pointer for error in refused.value.errors) == pointers


def test_a_member_that_was_sent_twice_deep_inside_is_pointed_at() -> None:
    body = b'[{"email": "a", "password": "b"}, {"email": "a", "password": "b", "email": "c"}]'
    with pytest.raises(InvalidInput) as refused:
        decode(body, list[Login])

    assert [(error.pointer, error.detail) for error in refused.value.errors] == [
        ("/1/email", "must not be sent more than once")
    ]


def test_an_escaped_backslash_before_u0000_is_text() -> None:
    assert decode(draft(rest=r', "note": "\\u0000"'), Draft).note == r"\u0000"


@given(st.binary() | st.text().map(str.encode))
def test_random_bytes_are_refused_and_nothing_else_happens(body: bytes) -> None:
    with pytest.raises((BadRequest, InvalidInput)):
        decode(body, Draft)


json_text = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["items", "note", "quantity"]), inner)
    ),
)


@given(json_text, st.data())
def test_random_and_broken_json_is_decoded_or_refused(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(body), dict[str, Any])
    except (BadRequest, InvalidInput):
        return
    assert json.loads(body) is not None


# --- the same through the application that every process serves


class Taken(errors.Conflict):
    """Somebody else has it: choose another one for this test."""

    code, title = "taken-in-test", "Taken"


def away() -> Unavailable:
    """As a store or a client raises it."""
    problem = Unavailable("Away.", retry_after_s=3)
    problem.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return problem


class KnownOutage(Unavailable):
    """Somebody else logs it."""

    is_logged = True


RAISED: dict[str, Exception] = {
    "problem": Taken("It is taken.", errors=[FieldError("/email", "is taken")]),
    "unavailable": away(),
    "known outage": KnownOutage("Still away."),
    "bug": ZeroDivisionError("secret-canary"),
    "http-404": HTTPException(status_code=404, detail="secret-canary"),
    "http-418": HTTPException(status_code=418, detail="secret-canary"),
}


@post("/drafts")
async def place(data: JSONBody[Draft]) -> dict[str, int]:
    return {"items": len(data.items)}


@post("/login", form={"username": "email", "password": "password"})
async def login(data: JSONBody[Login]) -> dict[str, str]:
    return {"email": data.email}


@get("/raise/{what:str}")
async def fail(what: FromPath[str]) -> None:
    raise RAISED[what]


@get("/page")
async def page(limit: Annotated[int, Parameter(ge=1, le=100)] = 20) -> dict[str, int]:
    return {"limit": limit}


async def verify(token: str) -> str:
    if token != "good":
        raise errors.TokenInvalid
    return "Jane"


@get("/me", before_request=signed_in(verify))
async def me(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {"user": request.user}


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app: Any = RequestContext(web_app([place, login, fail, page, me], version="1"))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        yield client


def problem(response: httpx.Response, kind: type[Problem]) -> dict[str, Any]:
    """The body, checked against RFC 9457 and the contract."""
    assert response.status_code == kind.status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"/problems/{kind.code}"
    assert (body["title"], body["status"]) == (kind.title, kind.status)
    assert body["instance"] == response.request.url.path
    assert body["request_id"] == response.headers["x-request-id"]
    assert "secret-canary" not in response.text
    return body


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_400_for_what_cannot_be_read(client: httpx.AsyncClient, body: bytes) -> None:
    kind = BadRequest if len(body) <= MAX_BODY_BYTES else errors.BodyTooLarge

    problem(await client.post("/drafts", content=body), kind)


@pytest.mark.parametrize(("body", "pointer"), WRONG.values(), ids=WRONG)
async def test_422_for_what_is_wrong(client: httpx.AsyncClient, body: bytes, pointer: str) -> None:
    response = await client.post("/drafts", content=body)

    if len(body) > MAX_BODY_BYTES:
        problem(response, errors.BodyTooLarge)
    else:
        assert [error["pointer"] for error in problem(response, InvalidInput)["errors"]] == [pointer]


async def test_413_for_a_body_over_64_kib_with_and_without_a_length(client: httpx.AsyncClient) -> None:
    fits = draft(rest=f', "note": "{"x" * (MAX_BODY_BYTES - len(draft()) - 12)}"')
    assert len(fits) == MAX_BODY_BYTES

    async def chunks(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    assert (await client.post("/drafts", content=fits)).status_code == 201
    assert (await client.post("/drafts", content=chunks(fits))).status_code == 201
    problem(await client.post("/drafts", content=fits + b" "), errors.BodyTooLarge)
    problem(await client.post("/drafts", content=chunks(fits + b" ")), errors.BodyTooLarge)


@pytest.mark.parametrize(
    "media",
    [
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "json",
        "*/*",
        "ÿ",
        "application/json-seq",
    ],
)
async def test_415_for_another_media_type(client: httpx.AsyncClient, media: str) -> None:
    response = await client.post("/drafts", content=draft(), headers={b"content-type": media.encode("latin-1")})

    problem(response, errors.UnsupportedMediaType)


@pytest.mark.parametrize(
    "media", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.shop+json", None]
)
async def test_json_by_any_of_its_names(client: httpx.AsyncClient, media: str | None) -> None:
    headers = {"content-type": media} if media else {}

    assert (await client.post("/drafts", content=draft(), headers=headers)).status_code == 201


async def test_404_405_and_their_headers(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nothing"), errors.NotFound)
    response = await client.delete("/drafts")

    problem(response, errors.MethodNotAllowed)
    assert "POST" in response.headers["allow"]


@pytest.mark.parametrize("limit", ["0", "101", "x", "1.5", "", "9" * 5000, "%00", "%ff"])
async def test_422_for_a_query_parameter(client: httpx.AsyncClient, limit: str) -> None:
    body = problem(await client.get(f"/page?limit={limit}"), InvalidInput)

    assert [error["pointer"] for error in body["errors"]] == ["/limit"]


async def test_a_problem_has_its_detail_errors_and_headers(client: httpx.AsyncClient) -> None:
    body = problem(await client.get("/raise/problem"), Taken)
    assert body["detail"] == "It is taken."
    assert body["errors"] == [{"pointer": "/email", "detail": "is taken"}]

    response = await client.get("/raise/unavailable")
    problem(response, Unavailable)
    assert response.headers["retry-after"] == "3"


async def test_a_problem_of_a_server_is_logged_in_a_line(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.get("/raise/unavailable")

    (line,) = [record for record in caplog.records if record.message == "Away."]
    assert vars(line)["cause"] == "ConnectionRefusedError: [Errno 111] Connection refused"
    assert line.exc_info is None


async def test_an_outage_that_is_logged_already_is_not_logged_by_each_request(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await client.get("/raise/known outage")).status_code == 503
    assert "Still away." not in caplog.text


@pytest.mark.parametrize(
    ("what", "kind"), [("bug", Problem), ("http-418", Problem), ("http-404", errors.NotFound)]
)
async def test_what_was_not_foreseen_tells_nothing(
    client: httpx.AsyncClient, what: str, kind: type[Problem]
) -> None:
    problem(await client.get(f"/raise/{what}"), kind)


# --- forms


FORM = "application/x-www-form-urlencoded"


async def post_form(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await client.post("/login", content=body, headers={"content-type": FORM})


async def test_a_form_where_the_route_takes_one(client: httpx.AsyncClient) -> None:
    body = b"username=jane%40example.com&password=p+w%20%C3%BC&grant_type=password&scope="

    assert (await post_form(client, body)).json() == {"email": "jane@example.com"}


@pytest.mark.parametrize(
    "body",
    [
        b"username",
        b"username=a&&password=b&x",
        b"username=\xff&password=b",
        b"username=%ff&password=b",
        b"username=%ED%A0%80&password=b",
    ],
)
async def test_400_for_a_form_that_cannot_be_read(client: httpx.AsyncClient, body: bytes) -> None:
    problem(await post_form(client, body), BadRequest)


async def test_a_field_that_a_form_holds_twice_is_pointed_at(client: httpx.AsyncClient) -> None:
    body = problem(await post_form(client, b"username=a&username=b&password=c&scope=x&scope=y"), InvalidInput)
    assert [error["pointer"] for error in body["errors"]] == ["/email"]


async def test_nul_in_a_form_is_pointed_at(client: httpx.AsyncClient) -> None:
    body = problem(await post_form(client, b"username=a%00&password=b"), InvalidInput)
    assert [error["pointer"] for error in body["errors"]] == ["/email"]


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "identity, gzip", "x-unknown"])
async def test_415_for_a_compressed_body(client: httpx.AsyncClient, coding: str) -> None:
    response = await client.post("/drafts", content=gzip.compress(draft()), headers={"content-encoding": coding})
    problem(response, errors.UnsupportedMediaType)
    assert response.headers["accept-encoding"] == "identity"
    plain = await client.post("/drafts", content=draft(), headers={"content-encoding": "identity"})
    assert plain.status_code == 201


@pytest.mark.parametrize("name", ["Content-Type", "Authorization"])
async def test_400_for_a_header_that_was_sent_twice(client: httpx.AsyncClient, name: str) -> None:
    headers = [(name, "application/json"), (name.lower(), "text/plain")]
    path, method = ("/me", "GET") if name == "Authorization" else ("/drafts", "POST")
    response = await client.request(method, path, content=draft(), headers=headers)
    assert f"The {name} header was sent more than once" in problem(response, BadRequest)["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [(b"username=a", "/password"), (b"password=b", "/email"), (b"username=a&password=" + b"b" * 129, "/password")],
)
async def test_422_for_a_form_that_is_wrong(client: httpx.AsyncClient, body: bytes, pointer: str) -> None:
    found = problem(await post_form(client, body), InvalidInput)

    assert [error["pointer"] for error in found["errors"]] == [pointer]


# --- bearer tokens


@pytest.mark.parametrize("value", ["Bearer good", "bearer good", "BEARER good", "Bearer   good "])
async def test_a_bearer_token(client: httpx.AsyncClient, value: str) -> None:
    assert (await client.get("/me", headers={"authorization": value})).json() == {"user": "Jane"}


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "good", "Basic good", "Bearer:good", "Token good"],
)
async def test_no_bearer_token(client: httpx.AsyncClient, value: str) -> None:
    problem(await client.get("/me", headers={"authorization": value}), Unauthorized)


@pytest.mark.parametrize(
    "token",
    ["bad", "g\xf6\xf6d", "go od", "a" * 8193, "a\tb", '"good"', "good, Bearer good", "good\x7f", "=good"],
)
async def test_what_is_no_access_token(client: httpx.AsyncClient, token: str) -> None:
    response = await client.get("/me", headers={b"authorization": f"Bearer {token}".encode("latin-1")})

    problem(response, errors.TokenInvalid)
    assert response.headers["www-authenticate"] == "Bearer"


async def test_no_header_at_all(client: httpx.AsyncClient) -> None:
    problem(await client.get("/me"), Unauthorized)


@given(st.binary() | st.binary().map(b"Bearer ".__add__))
def test_any_authorization_header_gives_a_token_that_can_be_passed_on_or_401(value: bytes) -> None:
    scope: Any = {"type": "http", "headers": [(b"authorization", value)]}
    request: Request[Any, Any, Any] = Request(scope)
    try:
        token = bearer_token(request)
    except Unauthorized:
        return
    assert token.isascii()
    assert token.isprintable()
    assert value.lower().startswith(b"bearer ")
