"""Code samples, the collection of requests and llms.txt are made from the OpenAPI document."""

import re
import shlex
from typing import Any

import httpx
import pytest

from purveyor.api_info import ABOUT
from purveyor.kit.http import samples
from purveyor.kit.http.app import openapi, web_app
from purveyor.roles.catalog.routes import catalog_routes

HOST = "http://shop.test:8000"
BODY = {"examples": {"example 1": {"value": {"note": "it's ä"}}}}
DOCUMENT: dict[str, Any] = {
    "info": {"title": "Shop", "description": "Sells.\n\nMore."},
    "tags": [{"name": "orders", "description": "Place orders."}],
    "paths": {
        "/orders": {
            "post": {
                "operationId": "place_order",
                "tags": ["orders"],
                "summary": "Place an order",
                "description": "Prices come from the catalog.",
                "security": [{"bearer": []}],
                "parameters": [{"name": "Idempotency-Key", "in": "header"}],
                "requestBody": {
                    "content": {"application/json": {"examples": {"a": {"value": {"note": "it's ä"}}}}}
                },
                "responses": {
                    "201": {"links": {"get_order": {"parameters": {"order_id": "$response.body#/orders/0/id"}}}}
                },
            }
        },
        "/orders/{order_id}": {
            "get": {
                "operationId": "get_order",
                "tags": ["orders"],
                "summary": "Get an order",
                "description": "One order.",
                "security": [],
                "responses": {},
            }
        },
    },
}
PLACE, GET = samples.operations(DOCUMENT)


def test_curl() -> None:
    words = shlex.split(samples.curl(PLACE).replace("\\\n", ""))

    assert words[:4] == ["curl", "-X", "POST", "$HOST/orders"]
    assert words[-2:] == ["-d", '{"note": "it\'s ä"}']
    assert "Authorization: Bearer $TOKEN" in words
    assert samples.curl(GET) == 'curl "$HOST/orders/$ORDER_ID"'


def test_python() -> None:
    for operation in (PLACE, GET):
        compile(samples.python(operation), "sample", "exec")

    assert 'client.get(f"/orders/{order_id}")' in samples.python(GET)
    assert "json={'note': \"it's ä\"}" in samples.python(PLACE)


def test_javascript() -> None:
    assert samples.javascript(GET).startswith("const response = await fetch(`${host}/orders/${order_id}`)\n")
    assert 'body: JSON.stringify({"note": "it\'s ä"})' in samples.javascript(PLACE)


def test_the_collection_takes_variables_from_the_links() -> None:
    collection = samples.http_collection(DOCUMENT, HOST)

    assert collection.startswith(f"@host = {HOST}\n@token = ")
    assert "\n@order_id = {{place_order.response.body.$.orders[0].id}}\n" in collection
    assert "\n# @name get_order\nGET {{host}}/orders/{{order_id}}\n" in collection
    assert collection.count("\n###") == 2


def test_llms_txt_lists_every_operation() -> None:
    told = samples.llms_txt(DOCUMENT, HOST)

    assert told.startswith("# Shop\n\n> Sells.\n")
    assert f"({HOST}/openapi.json)" in told
    assert "\n- `POST /orders` (access token): Place an order. Prices come from the catalog.\n" in told


@pytest.mark.parametrize("path", ["/docs/samples", "/docs/purveyor.http", "/llms.txt"])
async def test_served_with_every_documented_route(path: str) -> None:
    routes = catalog_routes()
    app: Any = web_app(routes, version="1", about=ABOUT)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as client:
        answer = await client.get(path)

    assert answer.status_code == 200
    assert HOST in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    for served in openapi(routes, version="1", about=ABOUT)["paths"]:
        assert re.sub(r"\{(\w+)\}", r"{{\1}}", served) in answer.text or served in answer.text
