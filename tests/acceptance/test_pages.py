"""Health, metrics, and the pages for developers."""

import re

import pytest

from shop import Customer, Shop
from waiting import until

CONTRACT = {
    "/register": {"post"},
    "/login": {"post"},
    "/verify-token": {"post"},
    "/user/{user_id}": {"get", "patch"},
    "/user/{user_id}/addresses": {"get", "post"},
    "/user/{user_id}/addresses/{address_id}": {"get", "put", "delete"},
    "/api/orders": {"get", "post"},
    "/api/orders/{order_id}": {"get"},
    "/api/products": {"get"},
    "/api/products/{product_id}": {"get"},
    "/catalog/products": {"get"},
    "/catalog/products/category": {"get"},
    "/catalog/products/{product_id}": {"get"},
    "/health/live": {"get"},
    "/health/ready": {"get"},
}


async def test_the_document_has_every_route_of_the_contract(shop: Shop) -> None:
    documented: dict[str, set[str]] = {}
    for answer in await shop.everywhere("/openapi.json"):
        assert answer.headers["content-type"] == "application/json"
        document = answer.json()
        assert document["openapi"].startswith("3.1")
        for path, item in document["paths"].items():
            documented.setdefault(path.rstrip("/"), set()).update(item)
    for path, methods in CONTRACT.items():
        assert methods <= documented.get(path, set()), path


@pytest.mark.one_shape
async def test_the_document_says_what_can_go_wrong_and_who_may_call(shop: Shop) -> None:
    (document,) = [
        answer.json() for answer in await shop.everywhere("/openapi.json") if "/api/orders" in answer.text
    ]
    place = document["paths"]["/api/orders"]["post"]
    assert {"201", "400", "401", "409", "422", "429", "503"} <= set(place["responses"])
    assert "application/problem+json" in place["responses"]["422"]["content"]
    assert place["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    order = document["components"]["schemas"]["OrderView"]["properties"]
    assert order["total_amount"]["type"] == "number"


async def test_every_process_says_how_it_is(shop: Shop) -> None:
    roles: set[str] = set()
    for answer in await shop.everywhere("/health/ready"):
        assert answer.status_code == 200
        health = answer.json()
        assert health["status"] == "ok"
        assert all(role["status"] == "ok" for role in health["roles"].values())
        for dependency in health["dependencies"].values():
            assert dependency["status"] == "ok"
            assert dependency["kind"] in ("embedded", "external")
        roles |= set(health["roles"])
    assert {"auth", "orders", "catalog"} <= roles
    for answer in await shop.everywhere("/health/live"):
        assert answer.json() == {"status": "ok"}


async def test_metrics_count_requests_by_route(shop: Shop, ada: Customer) -> None:
    def placed(text: str) -> float:
        counts = re.findall(
            r'^\w+_total\{(?=.*method="POST")(?=.*route="/api/orders").*status="201"\} (\S+)', text, re.M
        )
        return sum(map(float, counts))

    async def placed_everywhere() -> float:
        answers = await shop.everywhere("/metrics")
        assert all(answer.headers["content-type"].startswith("text/plain") for answer in answers)
        return sum(placed(answer.text) for answer in answers)

    before = await placed_everywhere()
    await shop.place(ada)

    async def counted() -> bool:
        return await placed_everywhere() == before + 1

    await until(counted)
    assert all(ada.id not in answer.text for answer in await shop.everywhere("/metrics"))


@pytest.mark.one_shape
async def test_the_documentation_works_offline(shop: Shop) -> None:
    page = await shop.raw("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    for link in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert link.startswith(("/", "#"))
        assert not link.startswith("//")
        if link.startswith("/static/"):
            assert (await shop.raw("GET", link)).status_code == 200


async def test_every_problem_type_has_a_page(shop: Shop) -> None:
    """In every process: a gateway need not know which of them an error came from."""
    listings = [
        set(re.findall(r'href="/problems/([^"]+)"', page.text)) for page in await shop.everywhere("/problems")
    ]
    slugs = listings[0]
    assert all(listing == slugs for listing in listings)
    assert {"not-found", "invalid-input", "email-taken", "unknown-product", "idempotency-key-reused"} <= slugs
    assert {"invalid-credentials", "wrong-password", "reset-token-invalid", "last-admin"} <= slugs
    for slug in slugs:
        for page in await shop.everywhere(f"/problems/{slug}"):
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert slug in page.text
