"""The routes, through HTTP: the shape of fakestoreapi.in, exact prices, no input that ends in a 500."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import chain
from typing import Any, cast
from xml.etree import ElementTree as ET

import httpx
import msgspec
import pytest
import pytest_asyncio
from litestar import Litestar

from purveyor.kit.http.app import openapi, web_app
from purveyor.kit.role import Env
from purveyor.roles.catalog.client import bundled, categories
from purveyor.roles.catalog.contract import Product
from purveyor.roles.catalog.role import ROLE, CatalogSettings
from purveyor.roles.catalog.routes import catalog_routes


@pytest_asyncio.fixture(scope="module")
async def app() -> AsyncIterator[Litestar]:
    async with ROLE.build(cast("Env", object()), CatalogSettings()) as actor:
        yield web_app(actor.routes, version="1")


@pytest_asyncio.fixture(scope="module")
async def client(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(cast("Any", app))
    async with httpx.AsyncClient(transport=transport, base_url="http://catalog.test") as client:
        yield client


async def ids(client: httpx.AsyncClient, path: str) -> list[int]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "SUCCESS"
    return [product["id"] for product in answer.json()["products"]]


async def test_all_products_come_as_one_page_by_default(client: httpx.AsyncClient) -> None:
    answer = await client.get("/catalog/products")
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert list(body) == ["status", "message", "products"]
    assert msgspec.convert(body["products"], list[Product]) == list(bundled().values())


async def test_prices_are_exact_json_numbers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/catalog/products")
    prices = [item["price"] for item in json.loads(answer.content, parse_float=Decimal)["products"]]
    assert not any(isinstance(price, str) for price in prices)
    assert prices == [product.price for product in bundled().values()]
    assert b'"price":59.95,' in answer.content


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?limit=2", [1, 2]),
        ("?limit=2&page=2", [3, 4]),
        ("?limit=40&page=4", list(range(121, 151))),
        ("?page=2", []),
        ("?limit=150&page=999999999", []),
    ],
)
async def test_pages(client: httpx.AsyncClient, query: str, expected: list[int]) -> None:
    assert await ids(client, f"/catalog/products{query}") == expected


@pytest.mark.parametrize("name", ["page", "limit"])
@pytest.mark.parametrize(
    "value",
    ["0", "-1", "1.5", "", "x", "01", "%2B1", "1e1", "%D9%A3", "%00", "%FF", "1000000000", "9" * 5000],
)
async def test_wrong_numbers_are_named(client: httpx.AsyncClient, name: str, value: str) -> None:
    answer = await client.get(f"/catalog/products?{name}={value}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{name}"]


async def test_a_limit_over_the_maximum_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/catalog/products?limit=151")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": "/limit", "detail": "must be a whole number from 1 to 150"}]


async def test_a_repeated_parameter_does_no_harm(client: httpx.AsyncClient) -> None:
    answer = await client.get("/catalog/products?limit=1&limit=1&page=1&page=x")
    assert answer.status_code in (200, 422)


@pytest.mark.parametrize("number", [1, 2, 77, 150])
async def test_one_product(client: httpx.AsyncClient, number: int) -> None:
    answer = await client.get(f"/catalog/products/{number}")
    assert answer.status_code == 200
    assert list(answer.json()) == ["status", "message", "product"]
    assert msgspec.json.decode(answer.content)["status"] == "SUCCESS"
    assert msgspec.convert(answer.json()["product"], Product) == bundled()[number]


async def test_trailing_slash_answers_the_same(client: httpx.AsyncClient) -> None:
    for path in ("/catalog/products", "/catalog/products/1", "/catalog/products/category"):
        plain, slashed = await client.get(path), await client.get(f"{path}/")
        assert (slashed.status_code, slashed.content) == (200, plain.content)


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "151",
        "-1",
        "1.0",
        "01",
        "x",
        str(10**30),
        "9" * 5000,
        "%D9%A1",
        "%EF%BC%91",
        "1%00",
        "%20",
        "1%2F2",
    ],
)
async def test_unknown_product_and_picture_are_404(client: httpx.AsyncClient, number: str) -> None:
    for path in (f"/catalog/products/{number}", f"/catalog/images/{number}.svg"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.json()["type"] == "/problems/not-found"


async def test_categories(client: httpx.AsyncClient) -> None:
    answer = await client.get("/catalog/products/category")
    assert answer.json() == {
        "status": "SUCCESS",
        "message": f"{len(categories())} categories",
        "categories": list(categories()),
    }


async def test_products_of_each_category_are_all_products(client: httpx.AsyncClient) -> None:
    found = [await ids(client, f"/catalog/products/category?type={name}") for name in categories()]
    assert sorted(chain.from_iterable(found)) == list(bundled())
    assert all(bundled()[number].category == "audio" for number in found[categories().index("audio")])


@pytest.mark.parametrize("name", ["nope", "", "AUDIO", "%FF"])
async def test_an_unknown_category_has_no_products(client: httpx.AsyncClient, name: str) -> None:
    assert await ids(client, f"/catalog/products/category?type={name}") == []


async def test_the_picture_of_a_product_is_where_its_image_says(client: httpx.AsyncClient) -> None:
    answer = await client.get(bundled()[1].image)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert answer.headers["cache-control"] == "max-age=86400, public"
    assert ET.fromstring(answer.text).get("aria-label") == bundled()[1].title


@pytest.mark.parametrize("name", ["1", "1.png", ".svg", "1.svg.svg", "1.SVG"])
async def test_other_file_names_are_404(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/catalog/images/{name}")).status_code == 404


async def test_writing_is_not_allowed(client: httpx.AsyncClient) -> None:
    assert (await client.post("/catalog/products", json={})).status_code == 405


def test_every_route_but_pictures_is_documented() -> None:
    document = openapi(catalog_routes(), version="1")
    assert sorted(document["paths"]) == [
        "/catalog/products",
        "/catalog/products/category",
        "/catalog/products/{product_id}",
    ]
    operations = [path["get"] for path in document["paths"].values()]
    assert all(operation["tags"] == ["catalog"] and operation["summary"] for operation in operations)
    assert document["components"]["schemas"]["Product"]["properties"]["price"]["type"] == "number"
