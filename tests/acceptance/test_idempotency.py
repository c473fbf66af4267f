"""One key, one order: whatever is repeated, whenever, however often."""

import asyncio

import pytest

from shop import Customer, Shop, an_address, problem


async def count(shop: Shop, customer: Customer) -> int:
    """How many orders somebody has."""
    return len((await shop.list(customer, limit=100)).json()["orders"])


async def test_a_repeated_request_gets_the_first_answer(shop: Shop, ada: Customer) -> None:
    first = await shop.place(ada, [(1, 2)], key="k")
    again = await shop.place(ada, [(1, 2)], key="k")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("location", "etag", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert await count(shop, ada) == 1


@pytest.mark.one_shape
async def test_another_request_under_the_key_is_refused(shop: Shop, ada: Customer) -> None:
    first = await shop.place(ada, [(1, 2)], key="k")
    problem(await shop.place(ada, [(1, 3)], key="k"), 422, "idempotency-key-reused")
    problem(await shop.place(ada, [(1, 2)], key="k", note="other"), 422, "idempotency-key-reused")
    problem(await shop.place(ada, [(1, 2)], key="k", shipping_address=an_address()), 422, "idempotency-key-reused")
    assert (await shop.place(ada, [(1, 2)], key="k")).content == first.content
    assert await count(shop, ada) == 1


@pytest.mark.one_shape
async def test_spacing_and_the_order_of_members_do_not_make_another_request(shop: Shop, ada: Customer) -> None:
    headers = {"idempotency-key": "k", "content-type": "application/json"}
    bodies = [
        '{"items": [{"product_id": 1, "quantity": 2}], "note": "hello"}',
        '{ "note":"hello",\n"items":[{"quantity":2,"product_id":1}]}',
    ]
    answers = [await shop.raw("POST", "/api/orders/", ada, content=body, headers=headers) for body in bodies]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content


@pytest.mark.pooled
async def test_twenty_requests_at_once_make_one_order(shop: Shop, ada: Customer) -> None:
    answers = await asyncio.gather(*(shop.place(ada, [(1, 2)], key="k") for _ in range(20)))
    placed = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.content for answer in placed}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in placed) == 1
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409, "request-in-progress")
            assert int(answer.headers["retry-after"]) >= 1
    assert (await shop.place(ada, [(1, 2)], key="k")).content == placed[0].content
    assert await count(shop, ada) == 1
    assert len(await shop.mails(ada.email)) == 1


@pytest.mark.pooled
async def test_different_requests_at_once_under_one_key_make_one_order(shop: Shop, ada: Customer) -> None:
    answers = await asyncio.gather(*(shop.place(ada, [(1, 1 + n)], key="k") for n in range(10)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 409, 422}
    assert await count(shop, ada) == 1


@pytest.mark.one_shape
async def test_a_key_belongs_to_one_customer(shop: Shop, ada: Customer, stranger: Customer) -> None:
    first, other = await shop.place(ada, key="k"), await shop.place(stranger, key="k")
    assert (first.status_code, other.status_code) == (201, 201)
    assert first.json()["id"] != other.json()["id"]
    assert other.json()["user_id"] == stranger.id
    assert "idempotent-replayed" not in other.headers


@pytest.mark.one_shape
async def test_keys_of_their_own_make_orders_of_their_own(shop: Shop, ada: Customer) -> None:
    placed = {(await shop.place(ada, key=key)).json()["id"] for key in ("a", "b", "A", None, None)}
    assert len(placed) == 5


async def test_a_refusal_is_not_kept(shop: Shop, ada: Customer) -> None:
    problem(await shop.place(ada, [(999_999, 1)], key="k"), 422, "unknown-product", "/items/0/product_id")
    problem(await shop.place(ada, [(1, 0)], key="k"), 422, "invalid-input", "/items/0/quantity")
    answer = await shop.place(ada, [(1, 1)], key="k")
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers


@pytest.mark.one_shape
async def test_a_key_may_be_quoted(shop: Shop, ada: Customer) -> None:
    bare, quoted = await shop.place(ada, key="k-1"), await shop.place(ada, key='"k-1"')
    assert quoted.content == bare.content
    assert quoted.headers["idempotent-replayed"] == "true"


@pytest.mark.one_shape
async def test_any_visible_characters_make_a_key(shop: Shop, ada: Customer) -> None:
    for key in ("x" * 255, "!~%/\\'", "0", 'a"b'):
        first, again = await shop.place(ada, key=key), await shop.place(ada, key=key)
        assert (first.status_code, again.content) == (201, first.content), key


@pytest.mark.one_shape
async def test_a_key_that_is_none_is_refused(shop: Shop, ada: Customer) -> None:
    for key in ("", '""', "two words", "x" * 256, '"x', "tab\tbed"):
        problem(await shop.place(ada, key=key), 400, "bad-request")
    assert await count(shop, ada) == 0
