"""The order desk: search, held mails, undo, corrections, jobs, notes and figures."""

from collections.abc import Sequence
from typing import Any

import pytest
import pytest_asyncio

from shop import Customer, Shop, an_address, problem
from waiting import until

NO_ID = "01a20481-297c-700c-a82d-3d9ac6bc1ffd"


@pytest_asyncio.fixture(scope="module")
async def admin(shop: Shop) -> Customer:
    return await shop.staff("admin")


async def undo(shop: Shop, by: Customer, order: dict[str, Any], version: int | None = None) -> Any:
    headers = {"if-match": f'"{version or order["version"]}"'}
    return await shop.raw("POST", f"/api/orders/{order['id']}/undo", by, headers=headers)


async def start_job(shop: Shop, by: Customer, action: str, order_ids: Sequence[str], **members: Any) -> Any:
    body = {"action": action, "order_ids": order_ids} | members
    return await shop.raw("POST", "/api/orders/jobs", by, json=body)


async def finished(shop: Shop, by: Customer, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def is_finished() -> bool:
        found.update((await shop.raw("GET", f"/api/orders/jobs/{job_id}", by)).json())
        return bool(found["finished"])

    await until(is_finished)
    return found


async def test_an_undone_change_is_never_mailed(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = (await shop.place(ada)).json()
    held = (await shop.change(staff, order["id"], status="confirmed", hold_mail_s=300)).json()
    assert (held["status"], held["version"]) == ("confirmed", 2)
    assert (await shop.get(staff, order["id"])).json()["undo_until"] is not None
    assert (await shop.get(ada, order["id"])).json().get("undo_until") is None

    restored = await undo(shop, staff, held)
    assert restored.status_code == 200, restored.text
    assert (restored.json()["status"], restored.json()["version"]) == ("pending", 3)
    assert restored.headers["etag"] == '"3"'
    assert [entry["what"] for entry in await shop.happened(staff, order["id"], "undone", "mail_sent")][-1] in (
        "undone",
        "mail_sent",
    )
    problem(await undo(shop, staff, restored.json()), 409, "undo-over")

    confirmed = (await shop.change(staff, order["id"], if_match='"3"', status="confirmed")).json()
    assert confirmed["version"] == 4
    mails = await shop.mails(ada.email, at_least=2)
    assert len(mails) == 2


async def test_a_held_mail_leaves_before_that_of_the_next_change(
    shop: Shop, ada: Customer, staff: Customer
) -> None:
    order = (await shop.place(ada)).json()
    await shop.change(staff, order["id"], status="confirmed", hold_mail_s=300)
    await shop.change(staff, order["id"], if_match='"2"', status="shipped")
    entries = await shop.happened(ada, order["id"], "confirmed", "shipped")
    assert [entry["what"] for entry in entries if not entry["mail"]] == ["placed", "confirmed", "shipped"]
    first, second, third = [mail.subject for mail in await shop.mails(ada.email, at_least=3)]
    assert "received" in first
    assert "confirmed" in second
    assert "on its way" in third
    problem(await undo(shop, staff, order, 3), 409, "undo-over")


@pytest.mark.one_shape
async def test_a_cancellation_is_undone_and_a_customer_holds_nothing_back(
    shop: Shop, ada: Customer, staff: Customer
) -> None:
    order = (await shop.place(ada)).json()
    path = f"/api/orders/{order['id']}/cancel"
    problem(await shop.raw("POST", path, ada, json={"hold_mail_s": 30}), 403, "forbidden")
    cancelled = (await shop.raw("POST", path, staff, json={"hold_mail_s": 30})).json()
    assert cancelled["status"] == "cancelled"
    problem(await undo(shop, ada, cancelled), 403, "forbidden")
    problem(await undo(shop, staff, cancelled, 1), 412, "precondition-failed")
    assert (await undo(shop, staff, cancelled)).json()["status"] == "pending"


@pytest.mark.one_shape
@pytest.mark.parametrize("hold", [-1, 301, "30", 1.5])
async def test_mail_is_held_back_within_bounds(shop: Shop, ada: Customer, staff: Customer, hold: object) -> None:
    order = (await shop.place(ada)).json()
    answer = await shop.change(staff, order["id"], status="confirmed", hold_mail_s=hold)
    problem(answer, 422, "invalid-input", "/hold_mail_s")


@pytest.mark.one_shape
async def test_an_admin_corrects_an_order_and_says_why(
    shop: Shop, ada: Customer, staff: Customer, admin: Customer
) -> None:
    order = (await shop.place(ada)).json()
    await shop.change(staff, order["id"], status="confirmed")
    await shop.change(staff, order["id"], if_match='"2"', status="shipped")
    path = f"/api/orders/{order['id']}/correction"
    body, headers = {"status": "confirmed", "reason": "wrong order"}, {"if-match": '"3"'}
    problem(await shop.raw("POST", path, staff, json=body, headers=headers), 403, "forbidden")
    problem(await shop.raw("POST", path, admin, json=body), 428, "precondition-required")
    problem(
        await shop.raw("POST", path, admin, json={"status": "confirmed", "reason": "\u3000"}, headers=headers),
        422,
        "invalid-input",
        "/reason",
    )
    corrected = await shop.raw("POST", path, admin, json=body, headers=headers)
    assert (corrected.json()["status"], corrected.json()["version"]) == ("confirmed", 4)
    problem(await shop.raw("POST", path, admin, json=body, headers={"if-match": '"4"'}), 409, "illegal-transition")
    seen = {
        by.id: next(
            entry["reason"]
            for entry in (await shop.timeline(by, order["id"])).json()["entries"]
            if entry["what"] == "corrected"
        )
        for by in (staff, ada)
    }
    assert seen == {staff.id: "shipped to confirmed: wrong order", ada.id: None}


@pytest.mark.pooled
async def test_a_job_changes_many_orders_once_and_says_what_became_of_each(
    shop: Shop, ada: Customer, staff: Customer
) -> None:
    orders = [(await shop.place(ada)).json() for _ in range(3)]
    ids = [order["id"] for order in orders]
    await shop.cancel(staff, ids[1])
    started = await start_job(shop, staff, "confirm", [*ids, ids[0], NO_ID], hold_mail_s=300)
    assert started.status_code == 202, started.text
    job = await finished(shop, staff, started.json()["id"])
    assert [(item["order_id"], item["state"]) for item in job["items"]] == [
        (ids[0], "done"),
        (ids[1], "failed"),
        (ids[2], "done"),
        (NO_ID, "failed"),
    ]
    assert "cancelled" in job["items"][1]["detail"]
    resumed = await shop.raw("POST", f"/api/orders/jobs/{job['id']}/resume", staff)
    assert resumed.status_code == 202
    assert (await finished(shop, staff, job["id"]))["failed"] == 2
    again = await start_job(shop, staff, "confirm", [ids[0]])
    assert (await finished(shop, staff, again.json()["id"]))["items"][0]["state"] == "unchanged"
    assert (await shop.get(staff, ids[0])).json()["version"] == 2

    undone = await start_job(shop, staff, "undo", [ids[0], ids[2]])
    assert (await finished(shop, staff, undone.json()["id"]))["done"] == 2
    assert [(await shop.get(staff, each)).json()["status"] for each in (ids[0], ids[2])] == ["pending"] * 2
    await shop.mails(ada.email, at_least=4)


@pytest.mark.one_shape
async def test_a_job_is_refused_as_a_whole_for_bad_input_and_for_customers(
    shop: Shop, visitor: Customer, staff: Customer
) -> None:
    problem(await start_job(shop, visitor, "confirm", [NO_ID]), 403, "forbidden")
    problem(await start_job(shop, staff, "confirm", [NO_ID, "x"]), 422, "invalid-input", "/order_ids/1")
    problem(await start_job(shop, staff, "confirm", []), 422, "invalid-input", "/order_ids")
    problem(await shop.raw("GET", f"/api/orders/jobs/{NO_ID}", staff), 404, "not-found")
    problem(await shop.raw("GET", "/api/orders/jobs/x", staff), 404, "not-found")


@pytest.mark.one_shape
async def test_staff_find_orders_by_what_they_know(shop: Shop, staff: Customer) -> None:
    zoe = await shop.customer(name="Zoë Müller-Łukasz")
    address = an_address() | {"recipient": "Jürgen Groß", "phone": "+49 (170) 123-4567"}
    order = (await shop.place(zoe, shipping_address=address)).json()
    other = (await shop.place(await shop.customer(name="Bob Smith"))).json()
    title = order["items"][0]["title"]
    found_by = [
        str(order["order_number"]),
        "zoe muller",
        "MÜLL",
        "ller-Ł",
        "gross",
        "0170 1234567",
        "+49 170 123",
        zoe.email,
        zoe.email.partition("@")[0][-12:].upper(),
        f"zoë {title.split()[0]}",
        "zo mu",
    ]
    for query in found_by:
        page = (await shop.list(staff, q=query, limit=100)).json()
        ids = [each["id"] for each in page["orders"]]
        assert order["id"] in ids, query
        assert other["id"] not in ids, query
    for query in ("zoe smith", "%", "_oe", "x' or 'a'='a", "\\", "0"):
        assert order["id"] not in [each["id"] for each in (await shop.list(staff, q=query)).json()["orders"]]
    assert page["orders"][0]["buyer"] == {"name": zoe.name, "email": zoe.email}
    assert "buyer" not in (await shop.list(zoe)).json()["orders"][0]
    problem(await shop.list(zoe, q="zoe"), 403, "forbidden")
    problem(await shop.list(staff, q="x" * 201), 422, "invalid-input", "/q")


@pytest.mark.one_shape
async def test_an_erased_customer_is_not_found(shop: Shop, ada: Customer, staff: Customer) -> None:
    order = (await shop.place(ada)).json()
    await shop.cancel(ada, order["id"])
    assert (await shop.list(staff, q=ada.email)).json()["orders"] != []
    await shop.erase(ada)

    async def is_gone() -> bool:
        return (await shop.list(staff, q=ada.email)).json()["orders"] == []

    await until(is_gone)


@pytest.mark.one_shape
async def test_lists_are_sorted_page_by_page(shop: Shop, ada: Customer, staff: Customer) -> None:
    orders = [(await shop.place(ada, [(1, quantity)])).json() for quantity in (2, 1, 3, 1)]
    for sort, key in {
        "created_at": lambda order: order["order_number"],
        "-created_at": lambda order: -order["order_number"],
        "total_amount": lambda order: (order["total_amount"], order["order_number"]),
        "-total_amount": lambda order: (-order["total_amount"], -order["order_number"]),
    }.items():
        seen, cursor = [], {}
        while True:
            page = (await shop.list(staff, user_id=ada.id, sort=sort, limit=2, **cursor)).json()
            seen += [order["id"] for order in page["orders"]]
            if not page["has_more"]:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == [order["id"] for order in sorted(orders, key=key)], sort
    problem(await shop.list(staff, sort="user_name"), 422, "invalid-input", "/sort")


@pytest.mark.one_shape
async def test_notes_are_for_staff(shop: Shop, ada: Customer, staff: Customer, admin: Customer) -> None:
    order = (await shop.place(ada)).json()
    path = f"/api/orders/{order['id']}/notes"
    note = (await shop.raw("POST", path, staff, json={"text": " Called.\nDeliver on Monday. "})).json()
    assert (note["text"], note["author"]) == ("Called.\nDeliver on Monday.", staff.name)
    assert (await shop.raw("GET", path, admin)).json()["notes"] == [note]
    problem(await shop.raw("GET", path, ada), 403, "forbidden")
    problem(await shop.raw("GET", f"/api/orders/{NO_ID}/notes", staff), 404, "not-found")
    for text in ("", "  ", "x" * 2001, "a\u0001b"):
        problem(await shop.raw("POST", path, staff, json={"text": text}), 422, "invalid-input", "/text")
    assert "Monday" not in (await shop.get(ada, order["id"])).text
    assert "Monday" not in (await shop.timeline(ada, order["id"])).text
    colleague = await shop.staff()
    problem(await shop.raw("DELETE", f"{path}/{note['id']}", colleague), 403, "forbidden")
    assert (await shop.raw("DELETE", f"{path}/{note['id']}", staff)).status_code == 204
    problem(await shop.raw("DELETE", f"{path}/{note['id']}", staff), 404, "not-found")


@pytest.mark.one_shape
async def test_the_desk_knows_what_waits_and_what_was_sold(shop: Shop, ada: Customer, staff: Customer) -> None:
    before = (await shop.raw("GET", "/api/orders/counts", staff)).json()
    order = (await shop.place(ada)).json()
    after = (await shop.raw("GET", "/api/orders/counts", staff)).json()
    assert after["to_confirm"] == before["to_confirm"] + 1
    await shop.change(staff, order["id"], status="confirmed")
    assert (await shop.raw("GET", "/api/orders/counts", staff)).json()["to_ship"] == before["to_ship"] + 1
    problem(await shop.raw("GET", "/api/orders/counts", ada), 403, "forbidden")

    figures = (await shop.raw("GET", "/api/orders/figures", staff, params={"days": 7})).json()
    assert len(figures["days"]) == 7
    assert figures["days"][-1]["orders"] >= 1
    assert figures["days"][-1]["revenue"] >= order["total_amount"]
    for days in ("0", "91", "x"):
        problem(
            await shop.raw("GET", "/api/orders/figures", staff, params={"days": days}),
            422,
            "invalid-input",
            "/days",
        )
