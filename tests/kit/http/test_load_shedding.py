"""Load shedding: few at work, few waiting, the rest turned away; reads before writes, and health never."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from purveyor.kit.deadline import ANSWER_WITHIN_S, seconds_left
from purveyor.kit.http import middleware
from purveyor.kit.http.cors import Cors
from purveyor.kit.http.middleware import LoadShedding
from purveyor.kit.http.refusals import WAITED
from waiting import PATIENCE_S


class App:
    """Answers when its gate opens, in the order in which it was asked."""

    def __init__(self, media: bytes = b"application/json") -> None:
        self.begun: list[str] = []
        self.gate = asyncio.Event()
        self.over = asyncio.Event()
        self.left: list[float] = []
        self._media = media

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.append(scope["path"])
        self.left.append(seconds_left(100.0))
        if not scope["path"].startswith("/health/"):
            await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", self._media)]})
        if self._media == b"text/event-stream":
            await self.over.wait()
        await send({"type": "http.response.body", "body": b""})


async def nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def call(
    app: Any,
    path: str,
    method: str = "POST",
    *,
    waited_s: float = 0.0,
    fields: Sequence[tuple[bytes, bytes]] = (),
    receive: Any = nothing,
) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"x-request-id", b"r-1"), *fields]
    scope: Any = {"type": "http", "method": method, "path": path, "headers": headers}
    scope["state"] = {WAITED: waited_s}
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1].get("body", b"")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_those_who_wait_have_their_turn_in_order() -> None:
    app = App()
    wrapped = LoadShedding(app, max_concurrent=1)
    calls = [asyncio.create_task(call(wrapped, f"/{number}")) for number in range(4)]
    await settle()
    assert app.begun == ["/0"]
    app.gate.set()

    assert [status for status, _, _ in await asyncio.gather(*calls)] == [200] * 4
    assert app.begun == ["/0", "/1", "/2", "/3"]


async def test_who_waits_too_long_is_turned_away_before_any_work_and_reads_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(middleware, "MAX_READ_WAIT_S", 0.05)
    monkeypatch.setattr(middleware, "MAX_WRITE_WAIT_S", 30.0)
    app = App()
    wrapped: Any = LoadShedding(app, max_concurrent=1)
    first, write = (asyncio.create_task(call(wrapped, path)) for path in ("/first", "/write"))
    await settle()
    status, headers, body = await call(wrapped, "/read", "GET")

    assert status == 503
    assert headers[b"retry-after"] == b"1"
    assert headers[b"x-request-id"] == b"r-1"
    assert json.loads(body)["type"] == "/problems/overloaded"
    assert app.begun == ["/first"]
    assert wrapped.refusal("POST", "/api/orders", []) is None, "a write still has time"
    refusal = wrapped.refusal("GET", "/api/orders", [(b"x-request-id", b"r-2")])
    head, _, content = refusal.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nx-request-id: r-2" in head
    assert f"\r\ncontent-length: {len(content)}".encode() in head
    assert wrapped.refusal("GET", "/health/ready", []) is None
    app.gate.set()
    assert [(await task)[0] for task in (first, write)] == [200, 200]
    assert wrapped.refusal("GET", "/api/orders", []) is None, "nobody waits any more"


async def test_who_waited_too_long_to_be_read_is_turned_away_although_there_is_room() -> None:
    wrapped = LoadShedding(App())

    assert wrapped.refusal("POST", "/api/orders", [], 1.9) is None
    refusal = wrapped.refusal("POST", "/api/orders", [], 2.1) or b""
    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in refusal
    assert wrapped.refusal("GET", "/health/live", [], 60.0) is None


async def test_the_wait_to_be_read_is_part_of_every_other(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()
    app.gate.set()
    wrapped = LoadShedding(app, max_concurrent=1)
    await call(wrapped, "/", waited_s=1.3)
    assert 0 < app.left[0] <= ANSWER_WITHIN_S - 1.3

    app.gate.clear()
    busy = asyncio.create_task(call(wrapped, "/busy"))
    await settle()
    monkeypatch.setattr(middleware, "MAX_WRITE_WAIT_S", 10 * PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        status, _, _ = await call(wrapped, "/late", waited_s=10 * PATIENCE_S - 0.01)
    assert status == 503
    app.gate.set()
    assert (await busy)[0] == 200


async def test_health_is_answered_however_much_there_is_to_do() -> None:
    app = App()
    wrapped = LoadShedding(app, max_concurrent=1)
    busy = [asyncio.create_task(call(wrapped, "/busy")) for _ in range(3)]
    await settle()

    assert (await call(wrapped, "/health/live", "GET"))[0] == 200
    app.gate.set()
    await asyncio.gather(*busy)


async def test_a_refusal_can_be_read_by_an_allowed_front_end() -> None:
    wrapped = LoadShedding(App(), cors=Cors(["https://front.test"]), base_path="/store")
    refusal = wrapped.refusal("GET", "/store/api/orders", [(b"origin", b"https://front.test")], 60.0) or b""
    assert b"\r\naccess-control-allow-origin: https://front.test\r\n" in refusal
    assert b'"/store/problems/overloaded"' in refusal
    assert wrapped.refusal("GET", "/store/health/live", [], 60.0) is None


async def test_metrics_are_shed_like_any_request() -> None:
    wrapped = LoadShedding(App())
    assert wrapped.refusal("GET", "/metrics", [], 60.0) is not None


@pytest.mark.parametrize("framing", [(b"content-length", b"20"), (b"transfer-encoding", b"chunked")])
async def test_bodies_that_do_not_come_take_no_place(framing: tuple[bytes, bytes]) -> None:
    app = App()
    app.gate.set()
    wrapped = LoadShedding(app, max_concurrent=2)
    come = asyncio.Event()

    async def slow() -> Any:
        await come.wait()
        return {"type": "http.request", "body": b"{}", "more_body": False}

    waiting = [
        asyncio.create_task(call(wrapped, f"/slow/{number}", fields=[framing], receive=slow))
        for number in range(9)
    ]
    await settle()
    assert app.begun == []
    assert (await call(wrapped, "/other", "GET"))[0] == 200
    come.set()
    assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200] * 9


async def test_a_body_is_passed_on_as_it_came_and_a_large_one_is_left_to_the_application() -> None:
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            received.append(await receive())
            more = received[-1]["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    for parts in ([b"a", b"b"], [b"x" * 2**15] * 5):
        received.clear()
        messages = [
            {"type": "http.request", "body": part, "more_body": number < len(parts)}
            for number, part in enumerate(parts, 1)
        ]
        left = iter(messages)

        async def come(left: Any = left) -> Any:
            return next(left)

        assert (await call(LoadShedding(app), "/", fields=[(b"transfer-encoding", b"chunked")], receive=come))[
            0
        ] == 200
        assert received == messages


async def test_a_client_that_leaves_before_its_body_is_complete_costs_nothing() -> None:
    app = App()

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    sent: list[Any] = []
    scope: Any = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"9")]}
    await LoadShedding(app)(scope, gone, sent.append)  # type: ignore[arg-type]
    assert (app.begun, sent) == ([], [])


async def test_a_stream_that_has_begun_is_not_at_work() -> None:
    app = App(b"text/event-stream")
    app.gate.set()
    wrapped = LoadShedding(app, max_concurrent=1)
    streams = [asyncio.create_task(call(wrapped, f"/{number}", "GET")) for number in range(3)]
    await settle()

    assert app.begun == ["/0", "/1", "/2"]
    app.over.set()
    await asyncio.gather(*streams)


async def test_whoever_is_cancelled_takes_no_place_with_him() -> None:
    app = App()
    wrapped = LoadShedding(app, max_concurrent=1)
    calls = [asyncio.create_task(call(wrapped, f"/{number}")) for number in range(4)]
    await settle()
    calls[1].cancel()  # waits
    calls[0].cancel()  # is at work
    await settle()
    calls[2].cancel()  # has just been let in
    app.gate.set()

    assert (await calls[3])[0] == 200
    assert (await call(wrapped, "/after"))[0] == 200


async def test_the_wait_counts_against_the_time_for_the_answer() -> None:
    app = App()
    wrapped = LoadShedding(app, max_concurrent=1)
    first, second = (asyncio.create_task(call(wrapped, path)) for path in ("/first", "/second"))
    await asyncio.sleep(0.2)
    app.gate.set()
    await asyncio.gather(first, second)

    assert app.left[0] <= ANSWER_WITHIN_S
    assert app.left[1] <= ANSWER_WITHIN_S - 0.2
    assert seconds_left(100.0) == 100.0
