"""How the page and its files are served."""

import re
from importlib.resources import files
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from purveyor.kit.errors import Unavailable
from purveyor.kit.http.base_path import base_path
from purveyor.roles.email.contract import Email, FindMailbox, MailboxFound
from purveyor.roles.email.mail_models import CITY_FIRST
from purveyor.roles.shop.routes import storefront_routes
from purveyor.roles.shop.settings import ShopSettings
from purveyor.settings import Origins, Url
from purveyor.transports.local import LocalAsker

STATIC = files("purveyor.roles.shop") / "static"
SCRIPTS = sorted(file.name for file in STATIC.iterdir() if file.name.endswith(".js"))
STYLES = sorted(file.name for file in STATIC.iterdir() if file.name.endswith(".css"))


async def test_the_page_has_a_strict_policy_and_is_revalidated(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-cache"
    again = await client.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await client.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == page.headers["content-length"]


async def test_other_paths_are_still_problems(client: httpx.AsyncClient) -> None:
    for path in ("/nothing", "/index.html", "/static/shop/index.html", "/static/shop/..%2froutes.py"):
        answer = await client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.post("/")).status_code == 405
    assert (await client.get("/docs")).status_code == 200


@pytest.mark.parametrize("name", [*SCRIPTS, *STYLES])
async def test_a_file_is_small_asks_nobody_else_and_parses_no_html(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/static/shop/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript" if name.endswith(".js") else "text/css")
    assert answer.headers["etag"]
    text = answer.text.replace("http://www.w3.org/2000/svg", "")  # a name, which nobody asks for
    assert len(text.splitlines()) <= 300
    assert re.findall(r"(?:https?:)?//[\w-]+\.[\w.-]+", text) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text) == []
    for imported in re.findall(r'from "\./([^"]+)"', text):
        assert imported in SCRIPTS


async def found(_: FindMailbox) -> MailboxFound:
    return MailboxFound(found=True)


async def away(_: FindMailbox) -> MailboxFound:
    raise Unavailable


@pytest.mark.parametrize(
    ("development", "email", "mailbox"), [(True, found, True), (True, away, False), (False, found, False)]
)
async def test_page_is_told_whether_there_is_a_mailbox(*, development: bool, email: Any, mailbox: bool) -> None:
    port = Email(LocalAsker({FindMailbox: email}, timeout_s=1))
    settings = ShopSettings(
        shop_name="Tea & Sons",
        shop_contact="help@tea.test",
        shop_legal_url=Url("https://tea.test/legal"),
        bank_details="Tea Ltd\\nIBAN DE02",
    )
    routes = storefront_routes(port, settings, development=development)
    async with AsyncTestClient(Litestar(list(routes), openapi_config=None)) as client:
        answer = await client.get("/static/shop/config.json")
    assert answer.json() == {
        "name": "Tea & Sons",
        "contact": "help@tea.test",
        "legal_url": "https://tea.test/legal",
        "bank_details": ["Tea Ltd", "IBAN DE02"],
        "image_origins": [],
        "development": development,
        "mailbox": mailbox,
    }


@pytest.mark.parametrize("base", ["", "/store", "/a/b"])
async def test_page_has_the_shops_name_and_the_base_path(base: str) -> None:
    settings = ShopSettings(shop_name="Tea & <Sons>")
    email = Email(LocalAsker({FindMailbox: found}, timeout_s=1))
    token = base_path.set(base)
    try:
        routes = storefront_routes(email, settings, development=True)
        async with AsyncTestClient(Litestar(list(routes), openapi_config=None)) as client:
            page = await client.get("/")
    finally:
        base_path.reset(token)
    assert re.findall(r'(?:href|src)="(/[^"]*)"', page.text) == [f"{base}/"]
    assert "<title>Tea &amp; &lt;Sons&gt;</title>" in page.text
    assert "{{" not in page.text


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({}, "'self'"),
        ({"products_api": Url("https://api.test:8443/v1/products")}, "'self' https://api.test:8443"),
        (
            {"products_api": Url("https://api.test/v1"), "image_origins": Origins.parse("https://cdn.test")},
            "'self' https://cdn.test",
        ),
    ],
)
async def test_pictures_are_allowed_from_the_product_api_or_the_named_origins(
    given: dict[str, Any], allowed: str
) -> None:
    email = Email(LocalAsker({FindMailbox: found}, timeout_s=1))
    routes = storefront_routes(email, ShopSettings(**given), development=True)
    async with AsyncTestClient(Litestar(list(routes), openapi_config=None)) as client:
        policy = (await client.get("/")).headers["content-security-policy"]
        shown = (await client.get("/static/shop/config.json")).json()["image_origins"]
    assert f"img-src {allowed};" in policy
    assert " ".join(("'self'", *shown)) == allowed


def test_pages_and_emails_write_addresses_in_the_same_order() -> None:
    countries = re.search(r"CITY_FIRST = new Set\(\[(.*?)\]\)", (STATIC / "format.js").read_text())
    assert countries
    assert set(re.findall(r"[A-Z]{2}", countries[1])) == CITY_FIRST
