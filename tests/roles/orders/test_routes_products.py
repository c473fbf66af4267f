"""The routes of products: opaque ids in paths, amounts in the decimals of the currency."""

from collections.abc import AsyncIterator
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest

from purveyor.kit.db.postgres import Database
from purveyor.kit.http.app import web_app
from purveyor.roles.orders.model import Product, Unsellable
from purveyor.roles.orders.routes_products import product_routes
from purveyor.roles.orders.store import OrderStore
from roles.orders.samples import Shelf, shop

IDS: list[int | str] = [7, "SKU-1", 2**53 - 1, "a/b", "a b", "Ärmel", "%2F", "?x=1", "8", ".x", "x/"]


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    shelf = Shelf()
    shelf.products |= {number: Product(id=number, title="Lamp", price=1255) for number in IDS}
    shelf.products["broken"] = Unsellable(id="broken", why="its price is missing")
    routes = product_routes(shop(OrderStore(database), shelf), "KWD")
    transport = httpx.ASGITransport(cast("Any", web_app(routes, version="1")))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as connected:
        yield connected


@pytest.mark.parametrize("product_id", IDS)
async def test_product_is_found_by_its_percent_encoded_id(
    client: httpx.AsyncClient, product_id: int | str
) -> None:
    answer = await client.get(f"/api/products/{quote(str(product_id), safe='')}")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["id"], type(answer.json()["id"])) == (product_id, type(product_id))
    assert (answer.json()["price"], answer.json()["price_minor"]) == (1.255, 1255)


async def test_digits_are_a_number_first(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/products/1")).json()["id"] == 1
    assert (await client.get("/api/products/8")).json()["id"] == "8"


@pytest.mark.parametrize("path", ["a/b", "9", "07", "sku-1", "SKU-1/SKU-1", str(2**53), "%FF"])
async def test_other_paths_are_no_products(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/api/products/{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def test_product_that_cannot_be_sold_says_why(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/products/broken")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/product-unavailable")
    assert answer.json()["detail"] == 'Product "broken" cannot be sold now: its price is missing.'


async def test_page_says_whether_there_are_more(client: httpx.AsyncClient) -> None:
    first, last = [(await client.get(f"/api/products?limit=10&page={page}")).json() for page in (1, 2)]
    assert (len(first["products"]), first["has_more"]) == (10, True)
    assert (len(last["products"]), last["has_more"]) == (4, False)
