"""What holds for every path: problems, request ids, slashes, methods, media types, sizes."""

import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from shop import Customer, Shop, an_address, fresh_email, problem

pytestmark = pytest.mark.one_shape

METHODS = ("get", "post", "put", "patch", "delete")
KIB = 1024

Operations = list[tuple[str, list[str]]]


async def operations(shop: Shop) -> Operations:
    """Every documented path, its parameters filled in, and its methods."""
    found: dict[str, list[str]] = {}
    for document in await shop.everywhere("/openapi.json"):
        for template, item in document.json()["paths"].items():
            found[re.sub(r"\{\w+\}", "1", template)] = [method for method in METHODS if method in item]
    return list(found.items())


async def test_what_is_protected_asks_who_is_there_before_anything_else(shop: Shop) -> None:
    asked = 0
    for document in await shop.everywhere("/openapi.json"):
        for template, item in document.json()["paths"].items():
            for method in METHODS:
                if not (ways := item.get(method, {}).get("security")) or {} in ways:
                    continue
                answer = await shop.raw(method, re.sub(r"\{\w+\}", "1", template), content=b"{", headers=JSON)
                problem(answer, 401, "unauthorized")
                asked += 1
    assert asked > 15


async def test_unknown_query_parameters_are_refused_on_every_route(shop: Shop) -> None:
    admin = await shop.staff()
    asked = 0
    for document in await shop.everywhere("/openapi.json"):
        for template, item in document.json()["paths"].items():
            for method in METHODS:
                if method not in item or "text/html" in item[method]["responses"].get("200", {}).get(
                    "content", {}
                ):
                    continue
                path = re.sub(r"\{\w+\}", "1", template)
                answer = await shop.raw(method, f"{path}?stauts=x", admin, json={} if method != "get" else None)
                assert answer.status_code == 422, (method, template, answer.text)
                assert "/stauts" in [error["pointer"] for error in answer.json()["errors"]]
                asked += 1
    assert asked > 25


@pytest.mark.parametrize("path", ["/docs", "/problems", "/docs/events", "/static/purveyor.css"])
async def test_pages_ignore_what_is_appended_to_their_links(shop: Shop, path: str) -> None:
    assert (await shop.raw("GET", f"{path}?utm_source=mail")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/orders/"), ("POST", "/api/orders/"), ("POST", "/logout")]
)
async def test_two_access_tokens_are_refused(shop: Shop, ada: Customer, method: str, path: str) -> None:
    headers = [("authorization", f"Bearer {ada.token}")] * 2
    answer = await shop.raw(method, path, headers=headers)
    assert "Authorization" in problem(answer, 400, "bad-request")["detail"]


async def test_two_idempotency_keys_are_refused(shop: Shop, ada: Customer) -> None:
    headers = [("idempotency-key", "a"), ("idempotency-key", "b")]
    body = {"items": [{"product_id": 1, "quantity": 1}]}
    problem(await shop.raw("POST", "/api/orders/", ada, headers=headers, json=body), 400, "bad-request")
    assert (await shop.list(ada)).json()["orders"] == []


@pytest.mark.parametrize(
    "sent", [[('W/"1"')], ['"7", W/"1"'], ['"7"', '"1"'], ["*"], ['"1-gzip"'], ["1"], ['W/"7"', 'W/"1"', '"9"']]
)
async def test_entity_tags_are_taken_as_proxies_deliver_them(shop: Shop, ada: Customer, sent: list[str]) -> None:
    order = (await shop.place(ada)).json()
    path = f"/api/orders/{order['id']}"
    known = await shop.raw("GET", path, ada, headers=[("if-none-match", tag) for tag in sent])
    assert known.status_code == 304
    stale = await shop.raw("POST", f"{path}/cancel", ada, json={}, headers=[("if-match", 'W/"7"')])
    problem(stale, 412, "precondition-failed")
    headers = [("if-match", tag) for tag in sent]
    assert (await shop.raw("POST", f"{path}/cancel", ada, json={}, headers=headers)).status_code == 200


async def test_a_body_may_begin_with_a_byte_order_mark_and_write_2_as_2_0(shop: Shop, ada: Customer) -> None:
    body = b'\xef\xbb\xbf{"items": [{"product_id": 1, "quantity": 2.0}]}'
    answer = await shop.raw("POST", "/api/orders/", ada, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["items"][0]["quantity"]) == (201, 2)


async def test_a_compressed_body_is_refused_with_what_is_taken(shop: Shop, ada: Customer) -> None:
    headers = {"content-encoding": "gzip", **JSON}
    answer = await shop.raw("POST", "/api/orders/", ada, content=gzip.compress(b"{}"), headers=headers)
    problem(answer, 415, "unsupported-media-type")
    assert answer.headers["accept-encoding"] == "identity"


async def test_nul_in_a_text_is_pointed_at(shop: Shop, ada: Customer) -> None:
    body = {"items": [{"product_id": 1, "quantity": 1}], "note": "a\0b"}
    problem(await shop.raw("POST", "/api/orders/", ada, json=body), 422, "invalid-input", "/note")
    account = {"email": fresh_email(), "password": "a long enough password", "name": "A\0da", "phone": "\0"}
    problem(await shop.raw("POST", "/register", json=account), 422, "invalid-input", "/name", "/phone")


async def test_invisible_characters_are_removed_from_what_was_pasted(shop: Shop) -> None:
    customer = await shop.customer(name="Zo\u00adë\u200b \u202aMüller\u202c\ufeff")
    assert (await shop.profile(customer)).json()["name"] == "Zoë Müller"
    address = an_address() | {"line1": "\u200eHauptstr.\u00ad 1", "phone": "\u202a+49 30 123456\u202c"}
    added = await shop.raw("POST", f"/user/{customer.id}/addresses", customer, json=address)
    assert (added.json()["line1"], added.json()["phone"]) == ("Hauptstr. 1", "+49 30 123456")


async def test_every_path_answers_with_and_without_its_slash(shop: Shop) -> None:
    for path, methods in await operations(shop):
        for method in methods:
            if (method, path) == ("delete", "/mailbox/messages"):
                continue  # it would take the mails that other tests look for
            bare, slashed = [await shop.raw(method.upper(), p) for p in (path, f"{path}/")]
            assert bare.status_code == slashed.status_code, path
            assert not bare.is_redirect
            assert bare.headers.get("allow") == slashed.headers.get("allow")


@pytest.mark.parametrize(
    "path",
    ["/docs", "/docs/samples", "/llms.txt", "/problems", "/problems/not-found", "/health/ready", "/openapi.json"],
)
async def test_pages_answer_with_and_without_their_slash(shop: Shop, path: str) -> None:
    for slashed in (path, f"{path}/"):
        assert (await shop.raw("GET", slashed)).status_code == 200


async def test_a_slash_does_not_change_what_is_placed(shop: Shop, ada: Customer) -> None:
    body = {"items": [{"product_id": 1, "quantity": 1}]}
    for path in ("/api/orders", "/api/orders/"):
        placed = await shop.raw("POST", path, ada, json=body)
        assert placed.status_code == 201
        for slash in ("", "/"):
            assert (await shop.raw("GET", f"{path.rstrip('/')}/{placed.json()['id']}{slash}", ada)).is_success


async def test_a_method_that_a_path_does_not_have_is_refused(shop: Shop) -> None:
    for path, methods in await operations(shop):
        for method in set(METHODS) - set(methods):
            answer = await shop.raw(method.upper(), path)
            problem(answer, 405, "method-not-allowed")
            allowed = {name.strip().lower() for name in answer.headers["allow"].split(",")}
            assert allowed >= set(methods)
            assert ("head" in allowed) == ("get" in allowed)
            assert method not in allowed


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/orders/1/2/3", "/health", "/user", "/problems/no-such-problem", "/%00"]
)
async def test_what_is_not_there_is_not_found(shop: Shop, visitor: Customer, path: str) -> None:
    problem(await shop.raw("GET", path, visitor), 404, "not-found")


async def test_a_request_id_is_taken_and_made(shop: Shop, visitor: Customer) -> None:
    for given in ("a", "checkout-7.1_x", "x" * 128, "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"):
        answer = await shop.raw("GET", "/api/orders/", visitor, headers={"x-request-id": given})
        assert answer.headers["x-request-id"] == given
    made = {(await shop.raw("GET", "/api/orders/", visitor)).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize("given", ["x" * 129, "two words", "<script>", "a\tb", '"quoted"', "%0d%0a", b"caf\xe9"])
async def test_a_request_id_that_is_not_sane_is_replaced(shop: Shop, given: str | bytes) -> None:
    answer = await shop.raw("GET", "/nothing", headers={b"x-request-id": given})
    taken = answer.headers["x-request-id"]
    assert re.fullmatch(r"[\w-]{16,}", taken)
    problem(answer, 404, "not-found")


def bodies() -> Iterator[tuple[str, str]]:
    """Every path that takes a body, with its method; ``{id}`` is the customer's."""
    yield "POST", "/register"
    yield "POST", "/login"
    yield "POST", "/api/orders/"
    yield "PATCH", "/user/{id}"
    yield "POST", "/user/{id}/addresses"
    yield "PUT", "/user/{id}/addresses/01a20481-297c-700c-a82d-3d9ac6bc1ffd"


JSON = {"content-type": "application/json"}
WRONG = [
    (b"", 400, "bad-request"),
    (b"{", 400, "bad-request"),
    (b"{}{}", 400, "bad-request"),
    (b"hello", 400, "bad-request"),
    (b'{"a": NaN}', 400, "bad-request"),
    (b"\xff\xfe{\x00}\x00", 400, "bad-request"),
    (b'{"note": "\xc3\x28"}', 400, "bad-request"),
    (b"[" * 20_000 + b"]" * 20_000, 400, "bad-request"),
    (b"[]", 422, "invalid-input"),
    (b"null", 422, "invalid-input"),
    (b'"text"', 422, "invalid-input"),
    (b"7", 422, "invalid-input"),
    (b'{"__class__": 1}', 422, "invalid-input"),
]


@pytest.mark.parametrize(("method", "path"), list(bodies()))
async def test_a_body_that_is_wrong_is_refused(shop: Shop, visitor: Customer, method: str, path: str) -> None:
    for body, status, code in WRONG:
        answer = await shop.raw(method, path.format(id=visitor.id), visitor, content=body, headers=JSON)
        assert answer.status_code == status, (body, answer.text)
        pointers = [error["pointer"] for error in answer.json().get("errors", ())]
        problem(answer, status, code, *pointers)
        assert bool(pointers) == (status == 422), body


@pytest.mark.parametrize(("method", "path"), list(bodies()))
async def test_an_unknown_member_is_refused_wherever_it_stands(
    shop: Shop, visitor: Customer, method: str, path: str
) -> None:
    valid: dict[str, dict[str, Any]] = {
        "/register": {"email": fresh_email(), "password": "a long enough password", "name": "Ada"},
        "/login": {"email": fresh_email(), "password": "a long enough password"},
        "/api/orders/": {"items": [{"product_id": 1, "quantity": 1}]},
        "/user/{id}": {"name": "Ada"},
    }
    body = valid.get(path, an_address()) | {"a/b~c": 1}
    answer = await shop.raw(method, path.format(id=visitor.id), visitor, json=body)
    problem(answer, 422, "invalid-input", "/a~1b~0c")


@pytest.mark.parametrize(("method", "path"), list(bodies()))
@pytest.mark.parametrize("media", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "nonsense"])
async def test_another_media_type_is_refused(
    shop: Shop, visitor: Customer, method: str, path: str, media: str
) -> None:
    headers = {"content-type": media}
    answer = await shop.raw(method, path.format(id=visitor.id), visitor, content=b"{}", headers=headers)
    problem(answer, 415, "unsupported-media-type")


async def test_a_form_is_for_the_login_alone(shop: Shop, visitor: Customer) -> None:
    problem(await shop.raw("POST", "/api/orders/", visitor, data={"items": "1"}), 415, "unsupported-media-type")
    problem(await shop.raw("POST", "/register", data={"email": "a@example.com"}), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "media", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"]
)
async def test_json_has_several_names(shop: Shop, visitor: Customer, media: str) -> None:
    body = json.dumps({"items": [{"product_id": 1, "quantity": 1}]})
    answer = await shop.raw("POST", "/api/orders/", visitor, content=body, headers={"content-type": media})
    assert answer.status_code == 201


async def chunked(body: bytes) -> AsyncIterator[bytes]:
    """A body whose length is not said beforehand."""
    for start in range(0, len(body), 8 * KIB):
        yield body[start : start + 8 * KIB]


@pytest.mark.parametrize(("method", "path"), list(bodies()))
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
async def test_a_body_over_64_kib_is_refused(
    shop: Shop, visitor: Customer, method: str, path: str, announced: bool
) -> None:
    body = b'{"note": "' + b"x" * (64 * KIB) + b'"}'
    content = body if announced else chunked(body)
    answer = await shop.raw(method, path.format(id=visitor.id), visitor, content=content, headers=JSON)
    problem(answer, 413, "body-too-large")


async def test_a_body_of_64_kib_is_read(shop: Shop, ada: Customer) -> None:
    order = b'{"items":[{"product_id":1,"quantity":1}]}'
    for content in (order.ljust(64 * KIB), chunked(order.ljust(64 * KIB))):
        assert (await shop.raw("POST", "/api/orders/", ada, content=content, headers=JSON)).status_code == 201


async def test_errors_come_before_the_body_is_looked_at(shop: Shop) -> None:
    problem(await shop.raw("POST", "/api/orders/", content=b"{", headers=JSON), 401, "unauthorized")


async def test_answers_are_json_in_utf_8_that_no_cache_keeps(shop: Shop) -> None:
    customer = await shop.customer(name="Zoë 漢字")
    answer = await shop.profile(customer)
    assert answer.headers["content-type"].startswith("application/json")
    assert "Zoë 漢字".encode() in answer.content
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    for private in (
        await shop.list(customer),
        await shop.get(customer, (await shop.place(customer)).json()["id"]),
    ):
        assert private.headers["cache-control"] == "private, no-cache"


async def test_head_is_get_without_the_body(shop: Shop, ada: Customer) -> None:
    order = (await shop.place(ada)).json()
    for path in ("/health/live", f"/api/orders/{order['id']}", "/api/orders/no-such"):
        got, head = [await shop.raw(method, path, ada) for method in ("GET", "HEAD")]
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers.get("content-length") == got.headers.get("content-length") or "no-such" in path
