"""Whatever a client sends, it is the client's mistake: never a server error, never a broken invariant."""

import json
import uuid
from decimal import Decimal
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acceptance import strategies as sent
from shop import PASSWORD, Customer, Shop, an_address, exact, fresh_address, fresh_email

bounded = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

JSON = {"content-type": "application/json"}
ADDRESS_ID = "01a20481-297c-700c-a82d-3d9ac6bc1ffd"


@pytest_asyncio.fixture(scope="module")
async def prices(shop: Shop) -> dict[int, Decimal]:
    """The price of every product."""
    return await shop.prices()


def sane(answer: httpx.Response) -> None:
    """Answered for what it was; an error is a problem document with the request's id."""
    assert answer.status_code < 500, answer.text
    assert answer.headers["x-request-id"]
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert body["status"] == answer.status_code
        assert body["request_id"] == answer.headers["x-request-id"]
    if answer.status_code == 422:
        assert answer.json()["errors"] or answer.json()["type"].endswith("key-reused")


@pytest.mark.one_shape
@bounded
@given(body=sent.bodies(sent.orders))
async def test_no_body_breaks_placing_an_order(shop: Shop, visitor: Customer, body: bytes) -> None:
    sane(await shop.raw("POST", "/api/orders/", visitor, content=body, headers=JSON))


ROUTES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/register", {"email": "taken@example.com", "password": PASSWORD, "name": "Ada", "language": "de"}),
    ("POST", "/login", {"email": "taken@example.com", "password": PASSWORD}),
    ("POST", "/verify-token", {"token": "a.b.c"}),
    ("POST", "/token/refresh", {"refresh_token": "A" * 70}),
    ("POST", "/password", {"current_password": "a guess", "new_password": PASSWORD}),
    ("POST", "/password/forgot", {"email": "taken@example.com"}),
    ("POST", "/password/reset", {"token": "A" * 43, "password": PASSWORD}),
    ("POST", "/email/confirm", {"token": "A" * 43}),
    ("POST", "/logout", {"refresh_token": "A" * 70}),
    ("POST", "/user/{id}/email", {"email": "taken@example.com", "password": "a guess"}),
    ("PATCH", "/user/{id}/access", {"role": "staff"}),
    ("PATCH", "/user/{id}", {"name": "Ada", "phone": "+44 20 7946 0958", "language": "en"}),
    ("POST", "/user/{id}/addresses", an_address() | {"is_default": True}),
    ("PUT", f"/user/{{id}}/addresses/{ADDRESS_ID}", an_address()),
]


@pytest.mark.one_shape
@bounded
@given(data=st.data())
@pytest.mark.parametrize("route", ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES])
async def test_no_body_breaks_any_route(
    shop: Shop, visitor: Customer, route: tuple[str, str, dict[str, Any]], data: st.DataObject
) -> None:
    method, path, valid = route
    body = data.draw(sent.bodies(sent.almost(valid)))
    headers = JSON | {"x-forwarded-for": fresh_address()}
    sane(await shop.raw(method, path.format(id=visitor.id), visitor, content=body, headers=headers))


@pytest.mark.one_shape
@bounded
@given(body=st.one_of(st.binary(max_size=100), st.sampled_from(sent.BROKEN)))
async def test_no_form_breaks_the_login(shop: Shop, body: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded", "x-forwarded-for": fresh_address()}
    sane(await shop.raw("POST", "/login", content=body, headers=headers))


FILTERS = [
    "limit",
    "cursor",
    "status",
    "order_number",
    "user_id",
    "created_from",
    "created_to",
    "page",
    "category",
    "email",
]


lists = st.sampled_from(
    ["/api/orders", "/api/products", "/catalog/products", "/catalog/products/category", "/users"]
)


@pytest.mark.one_shape
@bounded
@given(target=st.builds("{}?{}".format, lists, sent.query(FILTERS)), by_staff=st.booleans())
async def test_no_query_breaks_a_list(
    shop: Shop, visitor: Customer, staff: Customer, target: str, by_staff: bool
) -> None:
    sane(await shop.raw("GET", target, staff if by_staff else visitor))


PATHS = [
    "/{}",
    "/api/orders/{}",
    "/user/{}",
    "/user/{}/addresses",
    "/user/{id}/addresses/{}",
    "/user/{}/export",
    "/user/{}/access",
    "/api/products/{}",
    "/catalog/products/{}",
    "/catalog/images/{}.svg",
    "/problems/{}",
    "/static/{}",
]


@bounded
@given(
    path=st.sampled_from(PATHS),
    segment=sent.segments,
    method=st.sampled_from(["GET", "PUT", "DELETE", "PATCH", "POST"]),
)
async def test_no_path_breaks_anything(
    shop: Shop, visitor: Customer, path: str, segment: str, method: str
) -> None:
    filled = path.replace("{id}", visitor.id).replace("{}", segment)
    sane(await shop.raw(method, filled, visitor, content=b"{}" if method != "GET" else b"", headers=JSON))


HEADERS = [
    "idempotency-key",
    "if-none-match",
    "x-request-id",
    "x-forwarded-for",
    "authorization",
    "content-type",
    "accept",
    "accept-encoding",
    "accept-language",
    "content-encoding",
    "cookie",
    "traceparent",
    "user-agent",
    "origin",
    "range",
]


@bounded
@given(headers=st.dictionaries(st.sampled_from(HEADERS), sent.header_values, min_size=1, max_size=3))
async def test_no_header_breaks_anything(shop: Shop, visitor: Customer, headers: dict[str, bytes]) -> None:
    by = None if "authorization" in headers else visitor
    raw_headers = {name.encode(): value for name, value in headers.items()}
    order = json.dumps({"items": [{"product_id": 1, "quantity": 1}]}).encode()
    for method, path, content in (
        ("POST", "/api/orders/", order),
        ("GET", "/api/orders/", b""),
        ("POST", "/verify-token", b""),
        ("GET", "/static/purveyor.css", b""),
    ):
        placed = {b"content-type": b"application/json"} | raw_headers
        answer = await shop.raw(method, path, by, content=content, headers=placed)
        assert answer.status_code < 500, answer.text


@settings(bounded, max_examples=20)
@given(
    name=st.text(min_size=1, max_size=60), note=st.text(max_size=60), language=st.sampled_from(["de", "x-y", "ja"])
)
async def test_whoever_can_order_can_be_written_to(shop: Shop, name: str, note: str, language: str) -> None:
    email = fresh_email()
    registered = await shop.register(email=email, name=name, language=language)
    sane(registered)
    if registered.status_code != 201:
        return
    account = registered.json()
    customer = await shop.logged_in(Customer(account["id"], email, account["name"], PASSWORD))
    placed = await shop.place(customer, note=note)
    sane(placed)
    if placed.status_code == 201:
        (mail,) = await shop.mails(email)
        assert account["name"] in mail.text


@settings(bounded, max_examples=25)
@given(
    items=st.lists(st.tuples(st.integers(1, 150), st.integers(1, 1000)), min_size=1, max_size=100),
    repeated=st.booleans(),
)
async def test_a_total_is_the_sum_of_its_lines(
    shop: Shop, prices: dict[int, Decimal], items: list[tuple[int, int]], repeated: bool
) -> None:
    if repeated:
        items = (items + items[::-1])[:100]
    quantities: dict[int, int] = {}
    for product, quantity in items:
        quantities[product] = quantities.get(product, 0) + quantity
    answer = await shop.place(await shop.customer(), items)
    if max(quantities.values()) > 1000:
        assert answer.status_code == 422
        return
    assert answer.status_code == 201
    order = exact(answer)
    placed = {line["product_id"]: line for line in order["items"]}
    assert {product: line["quantity"] for product, line in placed.items()} == quantities
    for product, line in placed.items():
        assert line["price"] == prices[product]
        assert line["total_amt"] == prices[product] * quantities[product]
    assert order["total_amount"] == sum(prices[product] * quantity for product, quantity in quantities.items())


@pytest.mark.one_shape
@settings(bounded, max_examples=25)
@given(requests=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=10))
async def test_any_sequence_of_keys_and_bodies_keeps_its_promises(
    shop: Shop, requests: list[tuple[int, int]]
) -> None:
    customer = await shop.customer()
    first: dict[int, tuple[int, bytes]] = {}
    for key, quantity in requests:
        answer = await shop.place(customer, [(1, quantity)], key=f"{key}-{uuid.UUID(int=key)}")
        replayed = answer.headers.get("idempotent-replayed") == "true"
        if key not in first:
            assert (answer.status_code, replayed) == (201, False)
            first[key] = (quantity, answer.content)
        elif first[key][0] == quantity:
            assert (answer.status_code, replayed) == (201, True)
            assert answer.content == first[key][1]
        else:
            assert answer.status_code == 422
            assert answer.json()["type"] == "/problems/idempotency-key-reused"
    placed = exact(await shop.list(customer, limit=100))["orders"]
    assert {order["id"] for order in placed} == {json.loads(body)["id"] for _, body in first.values()}
    assert len(placed) == len(first)
