"""One suite over both askers: what the asking role sees is the same whether the other is here or elsewhere."""

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, ClassVar

import httpx
import pytest
import uvicorn
from litestar import Request, get, post
from litestar.params import Body, FromPath

from purveyor.kit import deadline, log, tracing
from purveyor.kit.db.postgres import Database, inside_transaction
from purveyor.kit.errors import (
    Conflict,
    FieldError,
    Forbidden,
    InvalidInput,
    NotFound,
    Problem,
    RemoteFailure,
    TokenInvalid,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from purveyor.kit.events.message import Ask, Message
from purveyor.kit.events.transport import Asker
from purveyor.kit.http.app import web_app
from purveyor.kit.http.middleware import MAX_CONCURRENT, RequestContext
from purveyor.kit.http.web import bearer_token
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import ResetTokenInvalid
from purveyor.transports.http import HttpAsker, http_client
from purveyor.transports.local import LocalAsker
from waiting import PATIENCE_S

TIMEOUT_S = 0.5


class Greeting(Message, frozen=True):
    """Every member has a default, so that any JSON object would pass for one."""

    text: str = ""
    heard: int = 0
    request_id: str = ""
    traceparent: str = ""


class Greet(Ask[Greeting], frozen=True):
    reply: ClassVar = Greeting
    route: ClassVar = "GET /greetings/{name}"
    bearer: ClassVar = "token"
    idempotent: ClassVar = True

    name: str
    token: str = "good"


class Tell(Ask[Greeting], frozen=True):
    reply: ClassVar = Greeting
    route: ClassVar = "POST /greetings"

    text: str
    times: int = 1


class Taken(Conflict):
    """Somebody else has it: choose another one for this test of the askers."""

    code, title = "taken-in-asker-test", "Taken"


class AnsweringRole:
    """The other role; ``problem`` is what it raises, ``pause_s`` how long it takes once it is ``free``."""

    problem: Exception | None
    pause_s: float
    asked: list[Ask[Any]]

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        self.problem, self.pause_s, self.asked = None, 0.0, []
        self.free.set()

    async def greet(self, ask: Greet) -> Greeting:
        return await self._answer(ask, f"Hello {ask.name}")

    async def tell(self, ask: Tell) -> Greeting:
        return await self._answer(ask, ask.text * ask.times)

    async def _answer(self, ask: Ask[Any], text: str) -> Greeting:
        self.asked.append(ask)
        await self.free.wait()
        await asyncio.sleep(self.pause_s)
        if self.problem is not None:
            raise self.problem
        request_id, traceparent = log.request_id.get(), tracing.traceparent.get()
        return Greeting(text=text, heard=len(self.asked), request_id=request_id, traceparent=traceparent)


@contextlib.asynccontextmanager
async def serving(role: AnsweringRole) -> AsyncIterator[str]:
    """The role in a real HTTP server, behind the same layers as in a process of its own."""

    @get("/greetings/{name:str}")
    async def greet(name: FromPath[str], request: Request[Any, Any, Any]) -> Greeting:
        return await role.greet(Greet(name=name, token=bearer_token(request)))

    @post("/greetings")
    async def tell(data: Annotated[Tell, Body()]) -> Greeting:
        return await role.tell(data)

    app: Any = RequestContext(web_app([greet, tell], version="1"))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        role.reset()
        server.should_exit = True
        await task


@pytest.fixture(scope="module")
def answering() -> AnsweringRole:
    return AnsweringRole()


@pytest.fixture(scope="module")
async def url(answering: AnsweringRole) -> AsyncIterator[str]:
    async with serving(answering) as url:
        yield url


@pytest.fixture
def role(answering: AnsweringRole) -> AnsweringRole:
    """The one role behind the one server, as if new."""
    answering.reset()
    return answering


@pytest.fixture(params=["local", "http"])
async def asker(request: pytest.FixtureRequest, role: AnsweringRole, url: str) -> AsyncIterator[Asker]:
    if request.param == "local":
        yield LocalAsker({Greet: role.greet, Tell: role.tell}, timeout_s=TIMEOUT_S)
        return
    async with http_client(url) as client:
        yield HttpAsker(client, timeout_s=TIMEOUT_S)


# --- both


@pytest.mark.parametrize(
    "name", ["Jane", "a b?c#d", "%2e%2e", "..%2f", "Zoë", "名", "a%00b", "{token}", "a+b&c=d"]
)
async def test_an_ask_is_answered(asker: Asker, role: AnsweringRole, name: str) -> None:
    assert (await asker.ask(Greet(name=name))).text == f"Hello {name}"
    assert role.asked == [Greet(name=name)]


async def test_the_fields_travel(asker: Asker, role: AnsweringRole) -> None:
    assert (await asker.ask(Tell(text="grüße 🙂 ", times=2))).text == "grüße 🙂 grüße 🙂 "
    assert role.asked == [Tell(text="grüße 🙂 ", times=2)]


async def test_the_request_id_and_the_trace_travel(asker: Asker) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tokens = log.request_id.set("r-17"), tracing.traceparent.set(trace)
    try:
        heard = await asker.ask(Greet(name="Jane"))
        assert (heard.request_id, heard.traceparent) == ("r-17", trace)
    finally:
        log.request_id.reset(tokens[0])
        tracing.traceparent.reset(tokens[1])


@pytest.mark.parametrize(
    "kind",
    [NotFound, Taken, Conflict, Forbidden, InvalidInput, Unauthorized, TokenInvalid, Unavailable, RemoteFailure],
)
async def test_the_very_error_that_was_raised_is_caught(
    asker: Asker, role: AnsweringRole, kind: type[Problem]
) -> None:
    role.problem = kind("Because of this.")
    with pytest.raises(Problem) as caught:
        await asker.ask(Greet(name="Jane"))

    assert type(caught.value) is kind
    assert caught.value.detail == "Because of this."


@pytest.mark.parametrize(
    "raised",
    [
        InvalidInput("Two are wrong.", errors=[FieldError("/a/0", "is wrong"), FieldError("/b", "so is this")]),
        ResetTokenInvalid(),
        Unavailable("Away.", retry_after_s=7),
        TooManyRequests(
            "Slow.", headers={"Retry-After": "9", "RateLimit": '"x";r=0;t=9', "RateLimit-Policy": "x"}
        ),
        TokenInvalid(),
    ],
    ids=lambda problem: problem.code,
)
async def test_all_that_was_said_with_an_error_arrives(asker: Asker, role: AnsweringRole, raised: Problem) -> None:
    role.problem = raised
    with pytest.raises(type(raised)) as caught:
        await asker.ask(Greet(name="Jane"))

    assert (caught.value.detail, caught.value.errors) == (raised.detail, raised.errors)
    assert caught.value.headers == raised.headers


async def test_an_answer_that_comes_too_late_is_unavailable(asker: Asker, role: AnsweringRole) -> None:
    role.free.clear()
    with pytest.raises(Unavailable):
        await asker.ask(Greet(name="Jane"))

    role.free.set()
    assert (await asker.ask(Greet(name="again"))).text == "Hello again", "and the next one is its own"


async def test_asks_together_wait_no_longer_than_the_request_may(
    asker: Asker, role: AnsweringRole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "ANSWER_WITHIN_S", 0.2)
    monkeypatch.setattr(asker, "_timeout_s", 2 * PATIENCE_S)
    role.free.clear()
    async with asyncio.timeout(PATIENCE_S):
        with deadline.request_deadline():
            for _ in range(5):
                with pytest.raises(Unavailable):
                    await asker.ask(Greet(name="Jane"))


async def test_an_ask_that_is_not_idempotent_is_made_once(asker: Asker, role: AnsweringRole) -> None:
    role.problem = Unavailable("Try again.")
    with pytest.raises(Unavailable):
        await asker.ask(Tell(text="once"))

    assert len(role.asked) == 1


async def test_it_refuses_inside_an_open_transaction(
    asker: Asker, role: AnsweringRole, database: Database
) -> None:
    async with database.transaction():
        assert inside_transaction()
        with pytest.raises(RuntimeError, match="Greet was asked inside an open database transaction"):
            await asker.ask(Greet(name="Jane"))
    assert role.asked == []

    await asker.ask(Greet(name="Jane"))
    async with database.connection():
        await asker.ask(Greet(name="outside a transaction a connection is no harm"))


async def test_many_at_once_get_each_their_own_answer(asker: Asker, role: AnsweringRole) -> None:
    role.pause_s = 0.02
    answers = await asyncio.gather(*(asker.ask(Greet(name=str(number))) for number in range(30)))

    assert [answer.text for answer in answers] == [f"Hello {number}" for number in range(30)]


async def test_whoever_is_cancelled_takes_nobody_with_him(asker: Asker, role: AnsweringRole) -> None:
    role.pause_s = 0.05
    asks = [asyncio.create_task(asker.ask(Greet(name=str(number)))) for number in range(20)]
    await asyncio.sleep(0.03)
    for ask in asks[::2]:
        ask.cancel()
    answers = await asyncio.gather(*asks, return_exceptions=True)

    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert [answer.text for answer in answers[1::2]] == [f"Hello {number}" for number in range(1, 20, 2)]  # type: ignore[union-attr]
    assert (await asker.ask(Greet(name="after"))).text == "Hello after"


# --- HTTP, against servers that answer as they should not


Peer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def answered_by(peer: Peer) -> AsyncIterator[tuple[HttpAsker, list[bytes]]]:
    """An asker of a server that reads a request and then does what ``peer`` does; and the requests."""
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            await peer(writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, http_client(url) as client:
        yield HttpAsker(client, timeout_s=TIMEOUT_S), requests


def reply(status: int, body: bytes, *headers: str) -> Peer:
    async def write(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}", *headers, "connection: close", "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return write


def problem(status: int, code: str) -> Peer:
    return reply(status, f'{{"type": "/problems/{code}", "status": {status}, "detail": "Why."}}'.encode())


OK = b'{"text": "hello"}'


async def test_a_foreign_service_may_say_more_than_we_know() -> None:
    async with answered_by(reply(200, b'{"text": "hello", "success": true, "heard": "7"}')) as (asker, _):
        assert await asker.ask(Greet(name="Jane")) == Greeting(text="hello", heard=7)


@pytest.mark.parametrize(
    ("peer", "kind"),
    [
        (problem(404, "no-such-code"), RemoteFailure),
        (problem(409, "not-found"), RemoteFailure),
        (problem(200, "not-found"), None),
        (problem(401, "no-such-code"), TokenInvalid),
        (reply(401, b'{"message": "jwt expired"}'), TokenInvalid),
        (reply(401, b"<html>"), TokenInvalid),
        (reply(401, b"\xff"), TokenInvalid),
        (reply(401, b""), TokenInvalid),
        (reply(400, b""), RemoteFailure),
        (reply(403, b"{}"), RemoteFailure),
        (reply(404, b'{"type": 7}'), RemoteFailure),
        (reply(500, b"Internal Server Error"), RemoteFailure),
        (reply(500, b"[" * 100_000), RemoteFailure),
        (reply(429, b""), Unavailable),
        (reply(502, b"<html>"), Unavailable),
        (reply(503, b'{"type": "/problems/unavailable", "detail": "Why."}'), Unavailable),
        (reply(504, b""), Unavailable),
    ],
)
async def test_errors_of_a_foreign_service(peer: Peer, kind: type[Problem] | None) -> None:
    async with answered_by(peer) as (asker, _):
        if kind is None:
            await asker.ask(Greet(name="Jane"))
            return
        with pytest.raises(Problem) as caught:
            await asker.ask(Greet(name="Jane"))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"<html>",
        b"\xff\xfe",
        b'{"text": "\xff"}',
        b'{"text": 7}',
        b"null",
        b"[]",
        b'{"text": "he',
        b'{"more": ' + b"[" * 100000 + b"]" * 100000 + b"}",
    ],
)
async def test_a_reply_that_cannot_be_read_is_a_remote_failure(body: bytes) -> None:
    async with answered_by(reply(200, body)) as (asker, _):
        with pytest.raises(RemoteFailure):
            await asker.ask(Greet(name="Jane"))


@pytest.mark.parametrize(
    "peer",
    [
        reply(200, b'{"text": "' + b"x" * 300_000 + b'"}'),
        reply(200, gzip.compress(b'{"text": "' + b"x" * 30_000_000 + b'"}'), "content-encoding: gzip"),
        reply(200, b"no gzip", "content-encoding: gzip"),
    ],
    ids=["300 KB", "30 MB in 30 KB", "no gzip"],
)
async def test_a_reply_that_is_too_large_or_not_what_it_says_is_a_remote_failure(peer: Peer) -> None:
    async with answered_by(peer) as (asker, _):
        with pytest.raises(RemoteFailure):
            await asker.ask(Greet(name="Jane"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
async def test_a_redirect_is_not_followed_and_is_no_answer(status: int) -> None:
    async with answered_by(reply(200, OK)) as (elsewhere, reached):
        location = f"location: {elsewhere._client.base_url}/greetings/Jane"
        async with answered_by(reply(status, OK if status != 304 else b"", location)) as (asker, _):
            with pytest.raises(RemoteFailure):
                await asker.ask(Greet(name="Jane"))
    assert reached == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"active": false}', TokenInvalid),
        (b'{"active": false, "user_id": "7"}', TokenInvalid),
        (b"{}", RemoteFailure),
        (b'{"status": "ok"}', RemoteFailure),
        (b'{"active": true, "email": "jane@example.com"}', RemoteFailure),
        (b'{"id": "", "user_id": 0}', RemoteFailure),
        (b'{"id": 17, "email": "jane@example.com", "exp": 1}', TokenInvalid),
        (b'{"id": 17}', RemoteFailure),
        (b'{"id": "1\\u00007", "email": "jane@example.com"}', RemoteFailure),
        (b'{"id": 17, "email": "jane@example.com", "name": null, "role": null, "exp": null}', None),
        (b'{"active": true, "sub": "17", "email": "jane@example.com", "exp": 4102444800.5}', None),
    ],
)
async def test_a_token_that_no_auth_service_vouches_for_is_nobodys(
    body: bytes, kind: type[Problem] | None
) -> None:
    async with answered_by(reply(200, body)) as (asker, _):
        if kind is None:
            assert (await Identity(asker).verify("token")).user_id == "17"
            return
        with pytest.raises(Problem) as caught:
            await Identity(asker).verify("token")
    assert type(caught.value) is kind


async def nothing(_: asyncio.StreamWriter) -> None:
    """Hang up without an answer."""


async def hang(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def drip(writer: asyncio.StreamWriter) -> None:
    """A byte now and then: no timeout of the library ever ends it."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + OK)


async def no_http(writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example.com ESMTP\r\n")


@pytest.mark.parametrize("peer", [nothing, hang, drip, cut, no_http])
async def test_a_service_that_does_not_answer_is_unavailable_in_time(peer: Peer) -> None:
    async with answered_by(peer) as (asker, requests):
        with pytest.raises(Unavailable):
            await asker.ask(Greet(name="Jane"))
        assert len(requests) == 1, "no retry"


async def test_a_service_that_is_not_there_is_unavailable() -> None:
    async with http_client("http://127.0.0.1:1") as client:
        with pytest.raises(Unavailable):
            await HttpAsker(client, timeout_s=TIMEOUT_S).ask(Greet(name="Jane"))


async def test_the_request_as_a_foreign_service_sees_it() -> None:
    async with answered_by(reply(200, OK)) as (asker, requests):
        await asker.ask(Greet(name="a/../b", token="secret"))
    head = requests[0].decode().lower()

    assert head.startswith("get /greetings/a%2f..%2fb http/1.1\r\n")
    assert "authorization: bearer secret\r\n" in head
    assert head.count("secret") == 1, "in the header alone"


@pytest.mark.parametrize("token", ["", "gö", "a b", "a\r\nx-evil: 1", "a\x00", "名"])
async def test_what_cannot_be_a_token_never_leaves(token: str) -> None:
    async with answered_by(reply(200, OK)) as (asker, requests):
        with pytest.raises(TokenInvalid):
            await asker.ask(Greet(name="Jane", token=token))
    assert requests == []


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with answered_by(reply(200, OK)) as (asker, _):
        assert (await asker.ask(Greet(name="Jane"))).text == "hello"


async def test_repeat_sends_idempotent_asks_twice_and_no_others(role: AnsweringRole, url: str) -> None:
    async with http_client(url) as client:
        asker = HttpAsker(client, timeout_s=TIMEOUT_S, repeat=True)
        assert (await asker.ask(Greet(name="Jane"))).heard == 2
        assert (await asker.ask(Tell(text="once"))).heard == 3


async def test_the_asker_alone_says_how_long_an_answer_may_take(role: AnsweringRole, url: str) -> None:
    """As many at once as a process works on, and longer than the library would wait."""
    role.pause_s = 5.5
    async with http_client(url) as client:
        asker = HttpAsker(client, timeout_s=30)
        answers = await asyncio.gather(*(asker.ask(Greet(name="Jane")) for _ in range(MAX_CONCURRENT)))

    assert len(answers) == MAX_CONCURRENT


async def test_it_can_ask_an_application_in_this_process(role: AnsweringRole) -> None:
    @get("/greetings/{name:str}")
    async def greet(name: FromPath[str]) -> Greeting:
        return await role.greet(Greet(name=name))

    app: Any = web_app([greet], version="1")
    async with http_client("http://shop.test", httpx.ASGITransport(app)) as client:
        assert (await HttpAsker(client, timeout_s=TIMEOUT_S).ask(Greet(name="Jane"))).text == "Hello Jane"
