"""The timeline of an order: what happened, when, by whom and why, its mails included."""

from typing import Any

import pytest

from shop import Customer, Shop, problem
from waiting import until

NO_ID = "01a20481-297c-700c-a82d-3d9ac6bc1ffd"
MAILED = {"order.created", "order.confirmed", "order.paid", "order.cancelled"}


async def lived(shop: Shop, by: Customer, staff: Customer) -> dict[str, Any]:
    """An order that was confirmed and paid, and cancelled by its buyer."""
    order = (await shop.place(by, headers={"x-request-id": "checkout-7"})).json()
    await shop.change(staff, order["id"], status="confirmed", payment_status="paid")
    await shop.cancel(by, order["id"], "bought twice")
    return dict(order)


def mails_of(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry["mail"] for entry in entries if entry["mail"]]


async def settled(shop: Shop, by: Customer, order_id: str, mails: int) -> list[dict[str, Any]]:
    """The entries, once so many mails have been settled."""

    async def told() -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = await shop.happened(by, order_id, "mail_sent")
        return entries if len(mails_of(entries)) >= mails else []

    return await until(told)


@pytest.mark.one_shape
async def test_a_new_order_has_been_placed(shop: Shop, ada: Customer) -> None:
    order = (await shop.place(ada)).json()
    answer = await shop.timeline(ada, order["id"])
    assert answer.headers["cache-control"] == "private, no-cache"
    timeline = answer.json()
    assert (timeline["order_id"], timeline["order_number"]) == (order["id"], order["order_number"])
    assert timeline["entries"][0] == {
        "id": 1,
        "at": order["created_at"],
        "what": "placed",
        "by": {"kind": "customer", "id": ada.id, "name": ada.name},
        "reason": None,
        "request_id": None,
        "mail": None,
    }


async def test_a_timeline_tells_all_in_order(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = await lived(shop, ada, staff)
    entries = await settled(shop, ada, order["id"], 4)
    ids = [entry["id"] for entry in entries]
    assert ids == sorted(set(ids))
    assert [entry["what"] for entry in entries if not entry["mail"]] == [
        "placed",
        "confirmed",
        "paid",
        "cancelled",
    ]
    assert {mail["kind"] for mail in mails_of(entries)} == MAILED
    assert all(entry["at"].endswith("Z") for entry in entries)


async def test_a_mail_is_told_of_once(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = await lived(shop, ada, staff)
    await settled(shop, ada, order["id"], 4)
    again = await settled(shop, ada, order["id"], 4)
    assert sorted(mail["kind"] for mail in mails_of(again)) == sorted(MAILED)


async def test_customers_hear_of_the_shop_and_staff_of_each_other(
    shop: Shop, ada: Customer, staff: Customer
) -> None:
    order = await lived(shop, ada, staff)
    mine = {entry["what"]: entry for entry in await settled(shop, ada, order["id"], 4)}
    theirs = {entry["what"]: entry for entry in await settled(shop, staff, order["id"], 4)}
    assert mine["confirmed"]["by"] == {"kind": "staff", "id": None, "name": "the shop"}
    assert theirs["confirmed"]["by"] == {"kind": "staff", "id": staff.id, "name": staff.name}
    for seen in (mine, theirs):
        assert seen["cancelled"]["by"] == {"kind": "customer", "id": ada.id, "name": ada.name}
        assert seen["cancelled"]["reason"] == "bought twice"
    assert theirs["placed"]["request_id"] == "checkout-7"
    assert theirs["confirmed"]["request_id"]
    assert {entry["request_id"] for entry in mine.values()} == {None}
    assert {key: value for key, value in mine["mail_sent"]["mail"].items() if value is not None}.keys() == {
        "kind",
        "state",
    }
    mail = theirs["mail_sent"]["mail"]
    assert (mail["attempts"], mail["resends"], mail["error"]) == (1, 0, None)
    assert mail["smtp_reply"]
    assert staff.name not in (await shop.timeline(ada, order["id"])).text
    assert staff.id not in (await shop.timeline(ada, order["id"])).text


@pytest.mark.one_shape
async def test_somebody_elses_timeline_does_not_exist(shop: Shop, ada: Customer, stranger: Customer) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    details = [
        problem(await shop.timeline(stranger, which), 404, "not-found")["detail"]
        for which in (order_id, NO_ID, "no-id")
    ]
    assert len(set(details)) == 1
    problem(await shop.raw("GET", f"/api/orders/{order_id}/timeline"), 401, "unauthorized")


async def test_the_console_traces_an_orders_whole_life(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = await lived(shop, ada, staff)
    await settled(shop, ada, order["id"], 4)
    trace = await shop.trace(order["order_number"])
    for told in ("checkout-7", "confirmed", f"by staff {staff.name} ({staff.id})", "bought twice", "mail sent"):
        assert told in trace, told
    for event in ("order.created", "order.confirmed", "order.cancelled"):
        assert f"{event} relayed" in trace
