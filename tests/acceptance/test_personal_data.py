"""What is held on a person: all of it for them to take away, and none of it once they are gone."""

from typing import Any

import pytest
import pytest_asyncio

from acceptance.test_sessions import stops_working
from shop import Customer, Shop, an_address, problem
from waiting import until


@pytest_asyncio.fixture(scope="module")
async def admin(shop: Shop) -> Customer:
    """Somebody who may do everything."""
    return await shop.staff("admin")


async def whole_export(shop: Shop, by: Customer, user_id: str = "") -> Any:
    """An export once every role has sent its part."""

    async def whole() -> Any:
        answer = await shop.personal_data(by, user_id)
        if answer.status_code == 200:
            return answer.json()
        assert answer.status_code == 202, answer.text
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["complete"] is False
        return None

    return await until(whole)


@pytest.mark.events
async def test_a_person_takes_all_their_data_away(shop: Shop, ada: Customer, stranger: Customer) -> None:
    await shop.add_address(ada)
    order = (await shop.place(ada, [(1, 2)])).json()
    await shop.place(stranger, [(2, 1)])
    await shop.mails(ada.email)
    document = await whole_export(shop, ada)
    assert set(document) == {"requested_at", "complete", "profile", "addresses", "sessions", "orders", "mails"}
    assert document["complete"] is True
    assert (document["profile"]["id"], document["profile"]["email"]) == (ada.id, ada.email)
    assert [address["city"] for address in document["addresses"]] == ["London"]
    assert len(document["sessions"]) == 1
    assert str(order["order_number"]) in str(document["orders"])
    assert len(document["orders"]) == 1
    assert str(order["order_number"]) in str(document["mails"])
    for secret in (stranger.email, stranger.id, ada.password, ada.refresh_token):
        assert secret not in str(document)
    again = await whole_export(shop, ada)
    assert again["requested_at"] == document["requested_at"], "the same request goes on for an hour"


async def test_nobody_else_takes_or_deletes_it(
    shop: Shop, ada: Customer, stranger: Customer, staff: Customer
) -> None:
    for other in (stranger, staff):
        problem(await shop.personal_data(other, ada.id), 404, "not-found")
        problem(await shop.erase(other, ada.id), 404, "not-found")
        problem(await shop.erase(other, "no-id"), 404, "not-found")
    assert (await shop.profile(ada)).status_code == 200


@pytest.mark.events
@pytest.mark.pooled
async def test_who_deletes_their_account_is_gone(shop: Shop, ada: Customer, staff: Customer) -> None:
    await shop.add_address(ada)
    order = (await shop.place(ada, [(1, 2)])).json()
    await shop.mails(ada.email)
    answer = await shop.erase(ada)
    assert (answer.status_code, answer.content) == (204, b"")
    await stops_working(shop, ada)
    problem(await shop.refresh(ada.refresh_token), 401, "refresh-token-invalid")
    problem(await shop.login(ada.email, ada.password), 401, "invalid-credentials")
    problem(await shop.profile(staff, ada.id), 404, "not-found")
    kept = (await shop.get(staff, order["id"])).json()
    assert kept["total_amount"] == order["total_amount"], "the books stay right"
    assert (await shop.register(email=ada.email)).status_code == 201, "the address is free again"


@pytest.mark.events
async def test_every_role_says_when_it_has_erased_its_part(shop: Shop, admin: Customer) -> None:
    ada = await shop.customer()
    await shop.place(ada)
    await shop.mails(ada.email)
    assert (await shop.erase(admin, ada.id)).status_code == 204
    problem(await shop.erase(admin, ada.id), 404, "not-found")
    problem(await shop.personal_data(admin, ada.id), 404, "not-found")

    async def all_answered() -> bool:
        (line,) = [line for line in (await shop.erasures()).splitlines() if ada.id in line]
        return line.count("not yet") == line.count("not yet: 1 open or recent order") == 1

    await until(all_answered)


@pytest.mark.events
async def test_open_order_keeps_its_address_and_is_cancelled_if_wished(
    shop: Shop, ada: Customer, stranger: Customer, staff: Customer
) -> None:
    for leaving, query in ((ada, ""), (stranger, "?cancel_open_orders=true")):
        order = (await shop.place(leaving, shipping_address=an_address(), note="ring twice")).json()
        await shop.mails(leaving.email)
        answer = await shop.raw("DELETE", f"/user/{leaving.id}{query}", leaving)
        assert (answer.status_code, answer.content) == (204, b"")
        assert "open-orders" in answer.headers["retained-data"]

        async def left(order_id: str = order["id"], status: str = "cancelled" if query else "pending") -> bool:
            seen = (await shop.get(staff, order_id)).json()
            return not seen["note"] and seen["status"] == status

        await until(left)
        assert (await shop.get(staff, order["id"])).json()["shipping_address"]["city"] == "London"
    refused = await shop.raw("DELETE", f"/user/{staff.id}?cancel_open_orders=perhaps", staff)
    problem(refused, 422, "invalid-input", "/cancel_open_orders")


async def test_an_admin_says_what_somebody_may_do(shop: Shop, ada: Customer, admin: Customer) -> None:
    problem(await shop.users(ada), 403, "forbidden")
    answer = await shop.change_access(admin, ada.id, "staff")
    assert (answer.status_code, answer.json()["role"]) == (200, "staff")
    await stops_working(shop, ada)  # its token says customer
    answer = await shop.refresh(ada.refresh_token)
    assert answer.status_code == 200
    found = await shop.raw("GET", "/users", headers={"authorization": f"Bearer {answer.json()['access_token']}"})
    assert found.status_code == 200


@pytest.mark.one_shape
async def test_only_admins_say_what_somebody_may_do(shop: Shop, ada: Customer, staff: Customer) -> None:
    for caller in (ada, staff):
        problem(await shop.change_access(caller, ada.id, "admin"), 403, "forbidden")
        problem(await shop.change_access(caller, staff.id, "customer"), 403, "forbidden")
    assert (await shop.profile(ada)).json()["role"] == "customer"


@pytest.mark.one_shape
async def test_an_access_level_is_one_of_three(shop: Shop, ada: Customer, admin: Customer) -> None:
    problem(await shop.change_access(admin, ada.id, "owner"), 422, "invalid-input", "/role")
    problem(await shop.change_access(admin, "no-id", "staff"), 404, "not-found")


@pytest.mark.one_shape
async def test_staff_find_people(shop: Shop, ada: Customer, staff: Customer) -> None:
    found = (await shop.users(staff, email=ada.email[:20].upper())).json()
    assert [user["email"] for user in found["users"]] == [ada.email]
    assert (found["has_more"], found["next_cursor"]) == (False, None)
    others = [await shop.customer() for _ in range(3)]
    first = await shop.users(staff, limit=2)
    assert [user["id"] for user in first.json()["users"]] == [others[2].id, others[1].id]
    following = first.headers["link"].partition(">")[0].lstrip("<")
    assert first.json()["next_cursor"] in following
    second = (await shop.raw("GET", following, staff)).json()
    assert second["users"][0]["id"] == others[0].id
    problem(await shop.users(staff, cursor="nonsense"), 422, "invalid-input", "/cursor")
    problem(await shop.users(staff, limit=0), 422, "invalid-input", "/limit")
    problem(await shop.users(staff, email="a\x00b"), 422, "invalid-input", "/email")
