"""The developer's pages over a real server, and in a real browser where one is installed."""

import asyncio
import gzip
import html
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from litestar import Litestar, Request, Response, get
from litestar.testing import AsyncTestClient

from purveyor.kit.errors import Problem, problem_types
from purveyor.kit.http.pages import html_page, page_routes
from waiting import PATIENCE_S

STATIC = files("purveyor.kit.http") / "static"
OWN_ASSETS = ["docs.js", "icon.svg", "mailbox.js", "purveyor.css"]
VENDORED = ["swagger-ui-bundle.js", "swagger-ui.css"]
PAGES = ["/docs", "/problems", "/problems/not-found", "/problems/invalid-input", "/mailbox"]
SVG_NAMESPACE = "http://www.w3.org/2000/svg"  # a name, never fetched

OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "Sample", "version": "1"},
    "paths": {"/sample/path": {"get": {"summary": "A sample", "responses": {"200": {"description": "Fine"}}}}},
}
HOSTILE = "<script>parent.document.title = 'taken over'; document.title = 'taken over'</script>"
MAILS: list[dict[str, Any]] = [
    {
        "id": "2",
        "to": "jane@example.com",
        "subject": "<img src=x onerror=\"document.title='taken over'\">",
        "text": f"Plain {HOSTILE}",
        "html": f"<p>Hello Jane</p>{HOSTILE}",
        "sent_at": "2026-01-02T03:04:05Z",
    },
    {
        "id": "1",
        "to": "max@example.com",
        "subject": "The older one",
        "text": "Hello Max",
        "html": None,
        "sent_at": "2026-01-02T03:04:04Z",
    },
]
PREVIEWS = [
    {
        "kind": "order.created",
        "language": language,
        "subject": f"{subject} <b>10482</b>",
        "text": f"{subject} {HOSTILE}",
        "html": f"<p>{subject}</p>{HOSTILE}",
    }
    for language, subject in (("de", "Ihre Bestellung"), ("en", "Your order"))
]


class Harmful(Problem):
    """<script>alert(1)</script>"""

    code, status, title = "harmful-title", 409, "<b>Bold</b> & more"


@get("/openapi.json", include_in_schema=False, sync_to_thread=False)
def openapi() -> dict[str, Any]:
    return OPENAPI


@get("/mailbox", include_in_schema=False, sync_to_thread=False)
def mailbox() -> Response[str]:
    return html_page("mailbox.html", development=True)


@get("/mailbox/messages", include_in_schema=False, sync_to_thread=False)
def messages() -> list[dict[str, Any]]:
    return MAILS


@get("/mailbox/previews", include_in_schema=False, sync_to_thread=False)
def previews() -> list[dict[str, Any]]:
    return PREVIEWS


def as_status(_: Request[Any, Any, Any], problem: Problem) -> Response[dict[str, str]]:
    return Response({"code": problem.code}, status_code=problem.status)


def application(*, development: bool) -> Litestar:
    routes = [openapi, mailbox, messages, previews, *page_routes(development=development)]
    return Litestar(routes, exception_handlers={Problem: as_status}, openapi_config=None)


@pytest.fixture(scope="module")
async def base_url() -> AsyncIterator[str]:
    config = uvicorn.Config(application(development=True), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture(scope="module")
async def client(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
        yield client


def external_urls(text: str) -> list[str]:
    return re.findall(r"(?:https?:)?//[\w.-]+[^\s\"']*", text.replace(SVG_NAMESPACE, ""))


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_has_its_security_headers_and_nothing_inline_or_external(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy  # default-src holds: no inline script, no eval
    assert external_urls(response.text) == []
    assert re.findall(r"<script(?![^>]*\ssrc=)", response.text) == []
    assert re.findall(r"<[^>]*\son\w+=", response.text) == []


@pytest.mark.parametrize("path", PAGES)
async def test_everything_that_a_page_loads_is_there(client: httpx.AsyncClient, path: str) -> None:
    page = (await client.get(path)).text
    loaded = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page))
    assert "/static/purveyor.css" in loaded
    for url in loaded:
        assert (await client.get(url)).status_code == 200, url


@pytest.mark.parametrize("name", OWN_ASSETS)
async def test_our_own_assets_refer_to_no_other_host_and_are_revalidated(
    client: httpx.AsyncClient, name: str
) -> None:
    response = await client.get(f"/static/{name}")
    assert external_urls(response.text) == []
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-content-type-options"] == "nosniff"
    again = await client.get(f"/static/{name}", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    changed = await client.get(f"/static/{name}", headers={"If-None-Match": 'W/"other"'})
    assert changed.status_code == 200


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("gzip", True),
        ("br, GZIP ; q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
    ],
)
@pytest.mark.parametrize("name", VENDORED)
async def test_vendored_assets_are_compressed_for_those_who_take_it(
    client: httpx.AsyncClient, name: str, accept_encoding: str, *, compressed: bool
) -> None:
    stored = (STATIC / f"{name}.gz").read_bytes()
    async with client.stream("GET", f"/static/{name}", headers={"Accept-Encoding": accept_encoding}) as response:
        body = b"".join([chunk async for chunk in response.aiter_raw()])
    assert response.headers.get("content-encoding") == ("gzip" if compressed else None)
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert body == (stored if compressed else gzip.decompress(stored))


@pytest.mark.parametrize("name", OWN_ASSETS)
async def test_our_own_assets_are_compressed_where_it_saves_a_packet(client: httpx.AsyncClient, name: str) -> None:
    plain = (STATIC / name).read_bytes()
    compressed = await client.get(f"/static/{name}", headers={"Accept-Encoding": "gzip"})
    assert compressed.headers.get("content-encoding") == ("gzip" if len(plain) >= 1000 else None)
    uncompressed = await client.get(f"/static/{name}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in uncompressed.headers
    assert uncompressed.content == compressed.content == plain
    assert uncompressed.headers["vary"] == compressed.headers["vary"] == "Accept-Encoding"
    assert uncompressed.headers["etag"] == compressed.headers["etag"]


@pytest.mark.parametrize("name", VENDORED)
def test_vendored_assets_are_reproducible_and_licensed(name: str) -> None:
    assert (STATIC / f"{name}.gz").read_bytes()[4:8] == bytes(4)  # no time stamp (RFC 1952 section 2.3.1)
    assert "Apache License" in (STATIC / "swagger-ui.LICENSE.txt").read_text()
    assert "SmartBear" in (STATIC / "swagger-ui.NOTICE.txt").read_text()


async def test_the_docs_load_the_vendored_version(client: httpx.AsyncClient) -> None:
    version = (STATIC / "swagger-ui.VERSION").read_text().strip()
    page = (await client.get("/docs")).text
    assert f"swagger-ui-bundle.js?v={version}" in page
    assert f"swagger-ui.css?v={version}" in page


@pytest.mark.parametrize(
    "path",
    [
        "/static/unknown.js",
        "/static/swagger-ui.VERSION",
        "/static/..%2fpages.py",
        "/static/%2e%2e%2fpages.py",
    ],
)
async def test_only_listed_files_are_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_every_problem_type_has_a_page_that_the_list_links(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/problems/")).text
    for kind in problem_types():
        page = html.unescape((await client.get(f"/problems/{kind.code}")).text)
        assert f"<code>{kind.code}</code>" in page
        assert f'"status": {kind.status}' in page
        assert f'href="/problems/{kind.code}"' in listed


async def test_texts_of_problems_are_escaped(client: httpx.AsyncClient) -> None:
    for path in ("/problems", f"/problems/{Harmful.code}"):
        page = (await client.get(path)).text
        assert "<b>Bold" not in page
        assert "<script>" not in page
        assert "&lt;b&gt;Bold&lt;/b&gt; &amp; more" in page


async def test_an_unknown_problem_is_not_found(client: httpx.AsyncClient) -> None:
    response = await client.get("/problems/unheard-of")
    assert (response.status_code, response.json()) == (404, {"code": "not-found"})


@pytest.mark.parametrize("development", [True, False])
async def test_only_development_links_the_mailbox(*, development: bool) -> None:
    async with AsyncTestClient(application(development=development)) as client:
        for path in ("/docs", "/problems", "/problems/not-found"):
            assert ('href="/mailbox"' in (await client.get(path)).text) is development


async def test_mails_reach_the_page_as_text_and_frames_run_nothing(client: httpx.AsyncClient) -> None:
    script = (STATIC / "mailbox.js").read_text(encoding="utf-8")
    assert re.findall(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", script) == []
    sandboxes = re.findall(r'<iframe[^>]*sandbox="([^"]*)"', (await client.get("/mailbox")).text)
    assert len(sandboxes) == 1
    assert "allow-scripts" not in sandboxes[0]
    assert "allow-same-origin" not in sandboxes[0]


async def drawn(url: str, profile: Path) -> tuple[str, str]:
    """The document as Chromium has it once the scripts ran, and what Chromium wrote to its log."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    process = await asyncio.create_subprocess_exec(
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", f"--user-data-dir={profile}", "--window-size=1280,900"),
        *("--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, log = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return out.decode(), log.decode()


async def test_a_browser_draws_the_documentation_under_the_policy(base_url: str, tmp_path: Path) -> None:
    page, log = await drawn(f"{base_url}/docs", tmp_path)
    assert 'data-path="/sample/path"' in page
    assert "A sample" in page
    assert "CONSOLE" not in log  # a violation of the policy or an error of a script would be there


async def test_a_browser_shows_hostile_mail_as_text(base_url: str, tmp_path: Path) -> None:
    page, _ = await drawn(f"{base_url}/mailbox", tmp_path)
    assert "<title>Mailbox · Purveyor</title>" in page
    assert "2 emails" in page
    assert page.count("&lt;img src=x onerror=") == 2  # in the list and as the heading
    assert page.index("jane@example.com") < page.index("max@example.com")
    assert "Plain &lt;script&gt;" in page
    assert 'aria-current="true"' in page


async def test_a_browser_shows_the_previews_in_a_language(base_url: str, tmp_path: Path) -> None:
    page, _ = await drawn(f"{base_url}/mailbox#preview/order.created/de", tmp_path)
    assert "With sample data" in page
    assert '<h1 id="subject">Ihre Bestellung &lt;b&gt;10482&lt;/b&gt;</h1>' in page
    assert "Ihre Bestellung &lt;script&gt;" in page
    assert page.index("Deutsch") < page.index("English")
    assert '<fieldset class="views" id="languages">' in page
    assert '<dl id="facts" hidden="">' in page
