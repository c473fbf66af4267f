"""What a browser is shown: pages for its user, while API clients get JSON from the same paths."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from purveyor.kit.events.asyncapi import asyncapi
from purveyor.kit.http.app import About, web_app
from purveyor.kit.http.health import DependencyHealth, Health, RoleHealth, health_routes
from purveyor.kit.http.middleware import RequestContext
from purveyor.kit.http.pages import event_routes, page_routes

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
HEALTH = Health(
    "ok",
    {"orders": RoleHealth("ok")},
    {"postgres": DependencyHealth("ok", "external", ("orders",), "PostgreSQL 16.4 <local>")},
)


ABOUT = About(description="See [problems](/problems).")


def application(*, production: bool = False, base: str = "/store") -> Any:
    async def report() -> Health:
        return HEALTH

    routes = health_routes(report, lambda: False, production=production)
    return RequestContext(
        web_app([*routes, *page_routes(development=False)], version="1", about=ABOUT, base_path=base),
        base_path=base,
    )


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application())
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "status", "shown"),
    [
        ("/health/ready", 200, "PostgreSQL 16.4 &lt;local&gt;"),
        ("/health/live", 200, "<strong>ok</strong>"),
        ("/nothing", 404, "Not found"),
        ("/health/ready?x=1", 422, "/x"),
        ("/problems/no-such", 404, "There is no such problem type."),
    ],
)
async def test_a_browser_gets_a_page_and_a_client_json(
    client: httpx.AsyncClient, path: str, status: int, shown: str
) -> None:
    page = await client.get(path, headers={"accept": BROWSER})
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert shown in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    assert (page.headers["cache-control"], page.headers["vary"]) == ("no-store", "Accept")
    for accept in ("*/*", "application/json", "application/json, text/html;q=0.5", "text/html;q=0", ""):
        answer = await client.get(path, headers={"accept": accept})
        assert answer.status_code == status
        assert answer.json()["status"] == ("ok" if status == 200 else status)


async def test_only_navigation_gets_pages(client: httpx.AsyncClient) -> None:
    answer = await client.post("/nothing", headers={"accept": BROWSER})
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/problems", "/problems/not-found/", "/nothing"])
async def test_all_links_of_a_page_begin_with_the_base_path(client: httpx.AsyncClient, path: str) -> None:
    for sent in (path, f"/store{path}"):
        text = (await client.get(sent, headers={"accept": BROWSER})).text
        links = [part.partition('"')[0] for part in text.replace('src="', 'href="').split('href="')[1:]]
        assert links
        assert [link for link in links if not link.startswith(("/store/", "#"))] == []
        for link in links:
            if link.startswith("/store/static/"):
                assert (await client.get(link)).status_code == 200


async def test_the_document_names_the_base_path(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["servers"][0]["url"] == "/store"
    assert document["info"]["description"] == "See [problems](/store/problems)."
    assert (await client.get("/nothing")).json()["type"] == "/store/problems/not-found"


@pytest.mark.parametrize(
    ("production", "peer", "detailed"),
    [
        (False, "203.0.113.7", True),
        (True, "8.8.8.8", False),
        (True, "2a00:1450::1", False),
        (True, "127.0.0.1", True),
        (True, "10.0.0.7", True),
        (True, "fd00::1", True),
    ],
)
async def test_details_of_health_are_private_in_production(*, production: bool, peer: str, detailed: bool) -> None:
    transport = httpx.ASGITransport(application(production=production), client=(peer, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        body = (await client.get("/health/ready")).json()
    assert ("PostgreSQL" in str(body)) == detailed
    assert body["dependencies"]["postgres"]["status"] == "ok"


async def test_the_page_of_events_shows_code_choices_and_an_example() -> None:
    document = asyncapi([], version="1")
    document["channels"]["sample.made"] = {}
    document["components"]["messages"]["sample.made"] = {
        "summary": "A sample with `code` in <text>.",
        "headers": {},
        "payload": {
            "type": "object",
            "properties": {
                "size": {"enum": ["small", "large"]},
                "made_at": {"type": "string", "format": "date-time"},
                "parts": {"type": "array", "items": {"properties": {"count": {"type": "integer"}}}},
            },
        },
    }
    app: Any = web_app(event_routes(document, development=False), version="1")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.test") as client:
        text = (await client.get("/docs/events")).text
    assert "A sample with <code>code</code> in &lt;text&gt;." in text
    assert "One of <code>small</code>, <code>large</code>." in text
    assert "&#34;made_at&#34;: &#34;2026-03-01T09:30:00Z&#34;" in text
    assert "`" not in text
