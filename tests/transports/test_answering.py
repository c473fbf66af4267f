"""Asks that a role makes in its own name, over HTTP: who may make them, and what each side sees."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

import httpx
import pytest

from purveyor.kit.caller import asking_role
from purveyor.kit.errors import Forbidden, NotFound, Problem, RemoteFailure, Unavailable
from purveyor.kit.events.message import Ask, Message
from purveyor.kit.http.app import web_app
from purveyor.kit.service_tokens import ServiceTokens
from purveyor.transports.answering import answering_routes
from purveyor.transports.http import HttpAsker, http_client
from purveyor.transports.local import LocalAsker

TOKENS = ServiceTokens("a secret for service tokens that is long enough")
OTHERS = ServiceTokens("the secret of another installation, long enough")


class Note(Message, frozen=True):
    text: str
    asked_by: str


class Write(Ask[Note], frozen=True):
    reply: ClassVar = Note
    headers: ClassVar = {"if_match": "If-Match"}

    text: str
    if_match: str = ""
    count: int = 1


async def write(ask: Write) -> Note:
    if ask.text == "missing":
        raise NotFound("There is no such note.")
    if ask.text == "forbidden":
        raise Forbidden("Not this one.")
    return Note(text=f"{ask.text} {ask.if_match} {ask.count}".strip(), asked_by=asking_role.get())


ANSWERS: Any = {Write: write}
APP: Any = web_app(
    answering_routes({"notes": ANSWERS}, {Write: frozenset({"shop", "console"})}, TOKENS), version="1"
)


@asynccontextmanager
async def asker(
    *, asking: str = "shop", role: str = "notes", tokens: ServiceTokens = TOKENS, app: Any = APP
) -> AsyncIterator[HttpAsker]:
    async with http_client("http://notes.test", httpx.ASGITransport(app)) as client:
        sign: Callable[[], str] = partial(tokens.sign, asking=asking, asked=role)
        yield HttpAsker(client, timeout_s=2, role=role, sign=sign)


@asynccontextmanager
async def raw() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url="http://notes.test", transport=httpx.ASGITransport(APP)) as client:
        yield client


async def test_answer_is_the_same_local_and_remote() -> None:
    ask = Write(text="hello", if_match='"3"', count=2)
    local = await LocalAsker(ANSWERS, timeout_s=2, asking="shop").ask(ask)
    async with asker() as remote:
        assert await remote.ask(ask) == local == Note(text='hello "3" 2', asked_by="shop")
        assert await remote.ask(Write(text="plain")) == Note(text="plain  1", asked_by="shop")
    assert asking_role.get() == ""


async def test_fields_in_headers_are_not_in_the_body() -> None:
    sent: list[httpx.Request] = []

    async def note(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, headers={"x-answered-by": "notes"}, json={"text": "", "asked_by": ""})

    async with http_client("http://notes.test", httpx.MockTransport(note)) as client:
        sign = partial(TOKENS.sign, asking="shop", asked="notes")
        await HttpAsker(client, timeout_s=2, role="notes", sign=sign).ask(Write(text="x", if_match='"3"'))
    (request,) = sent
    assert (request.method, request.url.path) == ("POST", "/internal/notes/Write")
    assert request.headers["if-match"] == '"3"'
    assert b"if_match" not in request.content


@pytest.mark.parametrize(("text", "kind"), [("missing", NotFound), ("forbidden", Forbidden)])
async def test_errors_of_the_role_arrive_as_they_are(text: str, kind: type[Problem]) -> None:
    async with asker() as remote:
        with pytest.raises(kind) as caught:
            await remote.ask(Write(text=text))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"tokens": OTHERS}, "SERVICE_SECRET"),
        ({"role": "letters"}, "does not run role letters"),
        ({"asking": "catalog"}, "403"),
        ({"app": web_app([], version="1")}, "does not run role notes"),
    ],
)
async def test_what_is_before_the_role_is_no_answer_of_it(given: dict[str, Any], word: str) -> None:
    async with asker(**given) as remote:
        with pytest.raises(RemoteFailure, match=word):
            await remote.ask(Write(text="x"))
        if "asking" not in given:
            with pytest.raises(Unavailable, match=word):
                await remote.check()


async def test_check_proves_that_the_tokens_are_taken() -> None:
    async with asker() as remote:
        assert await remote.check() == "answers"


@pytest.mark.parametrize(
    ("sign", "status"),
    [
        (lambda: "", 401),
        (lambda: "a-persons-token", 401),
        (lambda: OTHERS.sign(asking="shop", asked="notes"), 401),
        (lambda: TOKENS.sign(asking="shop", asked="letters"), 401),
        (lambda: TOKENS.sign(asking="catalog", asked="notes"), 403),
        (lambda: TOKENS.sign(asking="shop", asked="notes"), 200),
        (lambda: TOKENS.sign(asking="console", asked="notes"), 200),
    ],
)
async def test_only_roles_that_need_the_ask_may_make_it(sign: Callable[[], str], status: int) -> None:
    token = sign()  # now: it lives for a minute
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with raw() as client:
        answer = await client.post("/internal/notes/Write", json={"text": "x"}, headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"


async def test_private_routes_are_not_documented() -> None:
    async with raw() as client:
        document = (await client.get("/openapi.json")).json()
    assert not [path for path in document.get("paths", {}) if "internal" in path]


async def test_a_body_that_cannot_be_read_is_refused() -> None:
    headers = {"authorization": f"Bearer {TOKENS.sign(asking='shop', asked='notes')}"}
    async with raw() as client:
        answers = [
            await client.post("/internal/notes/Write", content=body, headers=headers)
            for body in (b"", b"[]", b"{", b'{"text": 1, "count": "x"}')
        ]
    assert all(400 <= answer.status_code < 500 for answer in answers)


async def test_asks_at_the_same_time_see_their_own_caller() -> None:
    async with asker(asking="shop") as shop, asker(asking="console") as console:
        replies = await asyncio.gather(*(each.ask(Write(text="x")) for each in (shop, console) * 10))
    assert [reply.asked_by for reply in replies] == ["shop", "console"] * 10
