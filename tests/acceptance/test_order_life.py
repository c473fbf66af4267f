"""The life of an order: its states and its payment, who may change them, and on what condition."""

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acceptance import strategies as sent
from shop import Customer, Shop, problem

NO_ID = "01a20481-297c-700c-a82d-3d9ac6bc1ffd"
JSON = {"content-type": "application/json"}


async def placed(shop: Shop, by: Customer) -> str:
    order_id: str = (await shop.place(by)).json()["id"]
    return order_id


async def brought_to(shop: Shop, staff: Customer, order_id: str, *statuses: str) -> dict[str, Any]:
    """Change an order step by step; the last answer."""
    order = (await shop.get(staff, order_id)).json()
    for status in statuses:
        answer = await shop.change(staff, order_id, if_match=f'"{order["version"]}"', status=status)
        assert answer.status_code == 200, answer.text
        order = answer.json()
    return dict(order)


async def test_an_order_goes_its_way_and_the_customer_is_written_to(
    shop: Shop, ada: Customer, staff: Customer
) -> None:
    order = (await shop.place(ada)).json()
    for version, status in enumerate(("confirmed", "shipped", "delivered"), 2):
        answer = await shop.change(staff, order["id"], if_match=f'"{version - 1}"', status=status)
        assert (answer.status_code, answer.headers["etag"]) == (200, f'"{version}"')
        changed = answer.json()
        assert (changed["status"], changed["version"]) == (status, version)
        assert datetime.fromisoformat(changed["updated_at"]) >= datetime.fromisoformat(order["updated_at"])
        seen = {"buyer": {"name": ada.name, "email": ada.email}, "undo_until": None}
        expected = {"status": status, "version": version, "updated_at": changed["updated_at"]}
        assert changed == order | seen | expected
        read = await shop.get(staff, order["id"])
        assert (read.json(), read.headers["etag"]) == (changed, answer.headers["etag"])
    mails = await shop.mails(ada.email, at_least=4)
    assert all(str(order["order_number"]) in mail.subject for mail in mails)
    assert len({mail.subject for mail in mails}) == 4


async def test_a_payment_goes_its_own_way_and_the_customer_is_written_to(
    shop: Shop, ada: Customer, staff: Customer
) -> None:
    order_id = await placed(shop, ada)
    paid = await shop.change(staff, order_id, payment_status="paid")
    refunded = await shop.change(staff, order_id, if_match='"2"', payment_status="refunded")
    assert [answer.json()["payment_status"] for answer in (paid, refunded)] == ["paid", "refunded"]
    assert (refunded.json()["status"], refunded.json()["version"]) == ("pending", 3)
    assert len(await shop.mails(ada.email, at_least=3)) == 3
    trace = await shop.trace(order_id)
    assert all(event in trace for event in ("order.created", "order.paid", "order.refunded"))


@pytest.mark.one_shape
async def test_status_and_payment_change_together_or_not_at_all(
    shop: Shop, ada: Customer, staff: Customer
) -> None:
    order_id = await placed(shop, ada)
    refused = await shop.change(staff, order_id, status="confirmed", payment_status="refunded")
    problem(refused, 409, "illegal-transition")
    assert (await shop.get(ada, order_id)).json()["version"] == 1
    both = (await shop.change(staff, order_id, status="confirmed", payment_status="paid")).json()
    assert (both["status"], both["payment_status"], both["version"]) == ("confirmed", "paid", 2)


@pytest.mark.one_shape
@pytest.mark.parametrize(
    ("before", "steps"),
    [
        ((), ("pending", "confirmed or cancelled")),
        ((), ("shipped", "confirmed or cancelled")),
        ((), ("delivered", "confirmed or cancelled")),
        (("confirmed",), ("pending", "shipped or cancelled")),
        (("confirmed", "shipped"), ("cancelled", "delivered")),
        (("confirmed", "shipped", "delivered"), ("cancelled", "nothing else")),
        (("cancelled",), ("confirmed", "nothing else")),
    ],
)
async def test_no_step_is_left_out_and_none_goes_back(
    shop: Shop, ada: Customer, staff: Customer, before: tuple[str, ...], steps: tuple[str, str]
) -> None:
    wanted, allowed = steps
    order = await brought_to(shop, staff, await placed(shop, ada), *before)
    answer = await shop.change(staff, order["id"], if_match=f'"{order["version"]}"', status=wanted)
    detail = problem(answer, 409, "illegal-transition")["detail"]
    assert f"is {order['status']} and cannot become {wanted}" in detail
    assert detail.endswith(f"It can become {allowed}.")
    assert (await shop.get(staff, order["id"])).json() == order


@pytest.mark.one_shape
@pytest.mark.parametrize(("payment", "allowed"), [("refunded", "paid"), ("unpaid", "paid")])
async def test_a_payment_leaves_no_step_out(
    shop: Shop, ada: Customer, staff: Customer, payment: str, allowed: str
) -> None:
    answer = await shop.change(staff, await placed(shop, ada), payment_status=payment)
    assert f"payment is unpaid and cannot become {payment}. It can become {allowed}." in answer.text
    problem(answer, 409, "illegal-transition")


@pytest.mark.one_shape
async def test_a_change_needs_the_version_that_it_was_decided_on(
    shop: Shop, ada: Customer, staff: Customer
) -> None:
    order_id = await placed(shop, ada)
    problem(await shop.change(staff, order_id, if_match=None, status="confirmed"), 428, "precondition-required")
    for stale in ('"0"', '"2"', 'W/"2"', '"abc"', '""', '"01"'):
        answer = await shop.change(staff, order_id, if_match=stale, status="confirmed")
        problem(answer, 412, "precondition-failed")
        assert answer.headers["etag"] == '"1"'
    for garbage in ("one", "", '"1', '1"', '"1" "2"', '"1";', "W/1", "**", '"1",,x', '"1 "'):
        problem(await shop.change(staff, order_id, if_match=garbage, status="confirmed"), 400, "bad-request")
    assert (await shop.change(staff, order_id, if_match='"7", "1"', status="confirmed")).status_code == 200
    assert (await shop.change(staff, order_id, if_match="*", status="shipped")).status_code == 200


@pytest.mark.pooled
async def test_of_two_changes_at_once_one_is_made(shop: Shop, ada: Customer, staff: Customer) -> None:
    for wishes in (("confirmed", "cancelled"), ("confirmed", "confirmed")):
        for _ in range(5):
            order_id = await placed(shop, ada)
            answers = await asyncio.gather(*(shop.change(staff, order_id, status=wish) for wish in wishes * 3))
            assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 5}
            order = (await shop.get(staff, order_id)).json()
            assert order == next(answer.json() for answer in answers if answer.is_success)
            assert order["version"] == 2
    entries = await shop.happened(staff, order_id, "confirmed")
    assert [entry["what"] for entry in entries].count("confirmed") == 1


@pytest.mark.one_shape
async def test_only_staff_change_orders(shop: Shop, ada: Customer, stranger: Customer) -> None:
    order_id = await placed(shop, ada)
    problem(await shop.change(ada, order_id, status="confirmed"), 403, "forbidden")
    problem(await shop.change(ada, order_id, if_match=None, status="confirmed"), 403, "forbidden")
    for by, which in ((stranger, order_id), (stranger, NO_ID), (ada, NO_ID), (ada, "no-id")):
        hidden = problem(await shop.change(by, which, status="confirmed"), 404, "not-found")
        assert hidden["detail"] == "There is no such order."
    path = f"/api/orders/{order_id}"
    problem(await shop.raw("PATCH", path, json={"status": "shipped"}), 401, "unauthorized")
    assert (await shop.get(ada, order_id)).json()["version"] == 1


@pytest.mark.one_shape
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"status": None, "payment_status": None}, ""),
        ({"status": "lost"}, "/status"),
        ({"status": 1}, "/status"),
        ({"payment_status": "stolen"}, "/payment_status"),
        ({"status": "confirmed", "total_amount": 1}, "/total_amount"),
        ({"status": "confirmed", "version": 9}, "/version"),
    ],
)
async def test_what_is_wrong_with_a_change_is_pointed_at(
    shop: Shop, ada: Customer, staff: Customer, body: dict[str, Any], pointer: str
) -> None:
    answer = await shop.change(staff, await placed(shop, ada), **body)
    problem(answer, 422, "invalid-input", pointer)


@pytest.mark.one_shape
@pytest.mark.parametrize("before", [(), ("confirmed",)], ids=["pending", "confirmed"])
async def test_the_owner_cancels_before_it_is_shipped(
    shop: Shop, ada: Customer, staff: Customer, before: tuple[str, ...]
) -> None:
    order = await brought_to(shop, staff, await placed(shop, ada), *before)
    cancelled = await shop.cancel(ada, order["id"], "bought  twice")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert cancelled.headers["etag"] == f'"{order["version"] + 1}"'
    assert (await shop.get(ada, order["id"])).json() == cancelled.json()
    (entry,) = [e for e in await shop.happened(ada, order["id"], "cancelled") if e["what"] == "cancelled"]
    assert (entry["reason"], entry["by"]["id"], entry["by"]["kind"]) == ("bought twice", ada.id, "customer")


@pytest.mark.one_shape
async def test_what_is_cancelled_cannot_be_cancelled_again(shop: Shop, ada: Customer, staff: Customer) -> None:
    order_id = await placed(shop, ada)
    first = await shop.cancel(ada, order_id, if_match='"1"')
    problem(await shop.cancel(ada, order_id, if_match='"1"'), 412, "precondition-failed")
    for by in (ada, staff):
        problem(await shop.cancel(by, order_id, "another reason"), 409, "illegal-transition")
    assert (await shop.get(ada, order_id)).json() == first.json()
    entries = await shop.happened(ada, order_id, "cancelled")
    assert [entry["what"] for entry in entries].count("cancelled") == 1


@pytest.mark.one_shape
async def test_staff_cancel_too(shop: Shop, ada: Customer, staff: Customer) -> None:
    order_id = await placed(shop, ada)
    cancelled = await shop.cancel(staff, order_id, "out of stock")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    problem(await shop.cancel(staff, order_id), 409, "illegal-transition")
    problem(await shop.cancel(ada, order_id), 409, "illegal-transition")


@pytest.mark.one_shape
async def test_what_is_on_its_way_cannot_be_cancelled(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = await brought_to(shop, staff, await placed(shop, ada), "confirmed", "shipped")
    for by in (ada, staff):
        problem(await shop.cancel(by, order["id"]), 409, "illegal-transition")
    assert (await shop.get(staff, order["id"])).json() == order


@pytest.mark.one_shape
async def test_a_cancellation_may_have_a_condition(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = await brought_to(shop, staff, await placed(shop, ada), "confirmed")
    problem(await shop.cancel(ada, order["id"], if_match='"1"'), 412, "precondition-failed")
    problem(await shop.cancel(ada, order["id"], if_match="one"), 400, "bad-request")
    assert (await shop.cancel(ada, order["id"], if_match='"2"')).status_code == 200


@pytest.mark.one_shape
async def test_a_version_without_its_quotes_is_understood(shop: Shop, ada: Customer, staff: Customer) -> None:
    order_id = await placed(shop, ada)
    assert (await shop.change(staff, order_id, if_match="1", status="confirmed")).status_code == 200
    problem(await shop.change(staff, order_id, if_match="1", status="shipped"), 412, "precondition-failed")


@pytest.mark.one_shape
async def test_nobody_cancels_what_is_not_theirs(shop: Shop, ada: Customer, stranger: Customer) -> None:
    order_id = await placed(shop, ada)
    for which in (order_id, NO_ID, "no-id"):
        problem(await shop.cancel(stranger, which), 404, "not-found")
    problem(await shop.raw("POST", f"/api/orders/{order_id}/cancel"), 401, "unauthorized")
    assert (await shop.get(ada, order_id)).json()["status"] == "pending"


@pytest.mark.pooled
async def test_cancelling_and_shipping_at_once_do_not_both_succeed(
    shop: Shop, ada: Customer, staff: Customer
) -> None:
    for _ in range(5):
        order = await brought_to(shop, staff, await placed(shop, ada), "confirmed")
        answers = await asyncio.gather(
            shop.cancel(ada, order["id"]), shop.change(staff, order["id"], if_match='"2"', status="shipped")
        )
        assert sorted(answer.is_success for answer in answers) == [False, True]
        assert {answer.status_code for answer in answers} <= {200, 409, 412}


@pytest.mark.one_shape
@pytest.mark.parametrize("reason", ["x" * 501, "a\nb", "=?utf-8?q?x?=", 7])
async def test_a_reason_is_a_line_of_text(shop: Shop, ada: Customer, reason: Any) -> None:
    problem(await shop.cancel(ada, await placed(shop, ada), reason), 422, "invalid-input", "/reason")


bounded = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.one_shape
@bounded
@given(
    body=sent.bodies(sent.almost({"status": "confirmed", "payment_status": "paid"})), if_match=sent.header_values
)
async def test_no_change_breaks_anything(
    shop: Shop, visitor: Customer, staff: Customer, body: bytes, if_match: bytes
) -> None:
    for by in (staff, visitor):
        headers = {b"content-type": b"application/json", b"if-match": if_match}
        answer = await shop.raw("PATCH", f"/api/orders/{NO_ID}", by, content=body, headers=headers)
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.one_shape
@bounded
@given(body=sent.bodies(sent.almost({"reason": "bought twice"})))
async def test_no_body_breaks_a_cancellation(shop: Shop, visitor: Customer, body: bytes) -> None:
    answer = await shop.raw("POST", f"/api/orders/{NO_ID}/cancel", visitor, content=body, headers=JSON)
    assert 400 <= answer.status_code < 500, answer.text


@pytest.mark.one_shape
@bounded
@given(segment=sent.segments, rest=st.sampled_from(["cancel", "timeline", "live", ""]))
async def test_no_path_breaks_anything(shop: Shop, visitor: Customer, segment: str, rest: str) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE", "PUT"):
        answer = await shop.raw(method, f"/api/orders/{segment}/{rest}", visitor, content=b"{}", headers=JSON)
        assert answer.status_code < 500, answer.text
