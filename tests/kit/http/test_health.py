"""What a load balancer and an operator are told, with everything up, something down, and while stopping."""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest

from purveyor.kit.http import exposition
from purveyor.kit.http import health as module
from purveyor.kit.http.app import web_app
from purveyor.kit.http.health import Health, examine, health_routes, probe
from purveyor.kit.metrics import HTTP_SECONDS, REGISTRY
from purveyor.kit.role import Check
from waiting import PATIENCE_S, until


def up(name: str, *, required: bool = True) -> Check:
    async def answer() -> str:
        return f"{name} 1.0"

    return Check(name, "external", answer, required=required)


def down(name: str, *, required: bool = True, error: Exception | None = None) -> Check:
    async def fail() -> str:
        raise error or OSError(f"{name} is away\nand a second line")

    return Check(name, "embedded", fail, required=required)


def hanging(name: str) -> Check:
    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    return Check(name, "external", hang, required=True)


async def ready(
    checks: Mapping[str, Sequence[Check]], troubles: Mapping[str, str] | None = None, *, stopping: bool = False
) -> tuple[httpx.Response, Any]:
    async def report() -> Health:
        return await examine(checks, troubles or {})

    app: Any = web_app(health_routes(report, lambda: stopping), version="1")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        response = await client.get("/health/ready")
        assert (await client.get("/health/live")).json() == {"status": "ok"}, "alive, whatever is down"
        return response, response.json()


async def test_all_is_well() -> None:
    response, body = await ready(
        {"auth": [up("postgres")], "orders": [up("postgres"), up("redis", required=False)]}
    )

    assert response.status_code == 200
    assert body == {
        "status": "ok",
        "roles": {"auth": {"status": "ok"}, "orders": {"status": "ok"}},
        "dependencies": {
            "postgres": {
                "status": "ok",
                "kind": "external",
                "roles": ["auth", "orders"],
                "detail": "postgres 1.0",
            },
            "redis": {"status": "ok", "kind": "external", "roles": ["orders"], "detail": "redis 1.0"},
        },
    }


async def test_a_role_without_what_it_needs_is_down_and_its_neighbour_is_not() -> None:
    response, body = await ready({"auth": [up("postgres")], "orders": [down("other")]})

    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert body["status"] == "down"
    assert body["roles"] == {
        "auth": {"status": "ok"},
        "orders": {"status": "down", "detail": "other: other is away"},
    }
    assert body["dependencies"]["other"] == {
        "status": "down",
        "kind": "embedded",
        "roles": ["orders"],
        "detail": "other is away",
    }


async def test_without_something_that_it_can_do_without_a_role_is_degraded_and_takes_work() -> None:
    response, body = await ready({"orders": [up("postgres"), down("broker", required=False)]})

    assert response.status_code == 200
    assert "retry-after" not in response.headers
    assert body["status"] == "degraded"
    assert body["roles"]["orders"] == {"status": "degraded", "detail": "broker: broker is away"}
    assert body["dependencies"]["broker"]["status"] == "degraded"


async def test_a_task_that_died_degrades_its_role() -> None:
    response, body = await ready({"email": [up("postgres")], "auth": []}, {"email": "sender died: OSError: x"})

    assert response.status_code == 200
    assert body["status"] == "degraded"
    assert body["roles"] == {
        "email": {"status": "degraded", "detail": "sender died: OSError: x"},
        "auth": {"status": "ok"},
    }


async def test_while_stopping_it_takes_no_work() -> None:
    response, body = await ready({"auth": [up("postgres")]}, stopping=True)

    assert (response.status_code, body["status"]) == (503, "down")
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("error", "detail"),
    [(OSError("first\nsecond"), "first"), (ValueError(), "ValueError"), (TimeoutError(), "no answer within 2 s")],
)
async def test_a_probe_says_in_one_line_what_is_wrong(error: Exception, detail: str) -> None:
    assert await probe(down("thing", error=error)) == (False, detail)


async def test_a_probe_says_which_server_it_is_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROBE_TIMEOUT_S", 0.1)
    silent = dataclasses.replace(hanging("mail"), server="SMTP server smtp.test:587")
    away = dataclasses.replace(down("ledger"), server="MongoDB at db.test:27017")
    assert (await probe(silent))[1] == "SMTP server smtp.test:587: no answer within 0.1 s"
    assert (await probe(away))[1] == "MongoDB at db.test:27017: ledger is away"


async def test_every_dependency_is_asked_once_at_the_same_time_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PROBE_TIMEOUT_S", 0.3)
    asked: list[str] = []
    under_way: set[str] = set()
    together: set[str] = set()

    def watched(name: str) -> Check:
        async def hang() -> str:
            under_way.add(name)
            try:
                await asyncio.sleep(0)
                together.update(under_way if len(under_way) > 1 else ())
                await asyncio.Event().wait()
            finally:
                under_way.remove(name)
            return ""

        return Check(name, "external", hang)

    async def count() -> str:
        asked.append("postgres")
        return ""

    shared = Check("postgres", "external", count)
    async with asyncio.timeout(PATIENCE_S):
        health = await examine({"auth": [shared, watched("a")], "orders": [shared, watched("b")]}, {})

    assert together == {"a", "b"}
    assert asked == ["postgres"]
    assert health.dependencies["a"].detail == "no answer within 0.3 s"
    assert {role.status for role in health.roles.values()} == {"down"}


async def test_who_asks_often_makes_no_more_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """One examination at a time, and none while the last one's result is fresh."""
    examined: list[str] = []

    async def slow() -> str:
        examined.append("postgres")
        await asyncio.sleep(0.05)
        return str(len(examined))

    async def report() -> Health:
        return await examine({"auth": [Check("postgres", "external", slow)]}, {})

    monkeypatch.setattr(module, "_CACHED_S", 3600)
    app: Any = web_app(health_routes(report, lambda: False), version="1")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        answers = await asyncio.gather(*(client.get("/health/ready") for _ in range(50)))

    assert examined == ["postgres"]
    assert {answer.json()["dependencies"]["postgres"]["detail"] for answer in answers} == {"1"}


async def is_down(client: httpx.AsyncClient) -> bool:
    return (await client.get("/health/ready")).status_code != 200


async def test_a_change_shows_within_about_a_second() -> None:
    health = Health("ok", {}, {})

    async def report() -> Health:
        return health

    app: Any = web_app(health_routes(report, lambda: False), version="1")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        assert (await client.get("/health/ready")).status_code == 200
        health = Health("down", {}, {})
        await until(lambda: is_down(client))
    assert module._CACHED_S <= 1.0


async def test_metrics_are_in_the_text_format_of_prometheus() -> None:
    async def report() -> Health:
        return await examine({}, {})

    app: Any = web_app(health_routes(report, lambda: False), version="1")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        response = await client.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE purveyor_http_requests_total counter" in response.text


async def test_frequent_scrapes_collect_the_metrics_once(monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[bytes] = []

    def collect(_registry: object) -> bytes:
        collected.append(b"text")
        return b"text"

    async def report() -> Health:
        return await examine({}, {})

    monkeypatch.setattr(exposition, "generate_latest", collect)
    monkeypatch.setattr(exposition, "_CACHED_S", 3600)
    app: Any = web_app(health_routes(report, lambda: False), version="1")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        assert {(await client.get("/metrics")).text for _ in range(20)} == {"text"}
    assert collected == [b"text"]


def test_metrics_have_no_series_per_method_and_no_time_of_creation() -> None:
    HTTP_SECONDS.labels("/things").observe(0.1)
    text = generate_latest(REGISTRY).decode()
    assert 'purveyor_http_request_seconds_count{route="/things"}' in text
    assert "_created" not in text
