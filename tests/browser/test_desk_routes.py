"""The routes under the desk: who may ask, and what is answered."""

import asyncio

import pytest

from browser.people import Person
from waiting import PATIENCE_S

NOBODYS = "01a217d0-e2c2-7054-94d3-80dd76b3704e"
ROUTES = [
    ("GET", "/api/mails"),
    ("POST", f"/api/mails/{NOBODYS}/resend"),
    ("GET", "/api/dead-letters"),
    ("POST", f"/api/dead-letters/order.created/{NOBODYS}/replay"),
]


async def mails(staff: Person, count: int, **query: str) -> list[dict[str, object]]:
    """What the ledger has, once it has so many."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found: list[dict[str, object]] = (await staff.call("GET", "/api/mails", params=query)).json()["mails"]
            if len(found) == count and all(mail["state"] == "sent" for mail in found):
                return found
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_only_staff_may_ask(customer: Person, method: str, path: str) -> None:
    nobody = await customer.client.request(method, path)
    assert nobody.status_code == 401
    answer = await customer.client.request(method, path, headers={"Authorization": f"Bearer {customer.token}"})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        (*ROUTES[1], 404),
        ("POST", "/api/mails/no-id/resend", 404),
        (*ROUTES[3], 404),
        ("POST", "/api/dead-letters/no.such.queue/no-id/replay", 404),
        ("GET", "/api/mails?state=lost", 422),
        ("GET", "/api/mails?state=null", 422),
        ("GET", "/api/mails?state=", 422),
        ("GET", "/api/mails?limit=1.0", 422),
        ("GET", "/api/mails?limit=201", 422),
        ("GET", "/api/mails?limit=0", 422),
        ("GET", f"/api/mails?order_id={NOBODYS}", 404),
        ("GET", "/api/mails?order_id=no-id", 404),
    ],
)
async def test_what_is_not_there_is_a_problem(staff: Person, method: str, path: str, status: int) -> None:
    answer = await staff.client.request(method, path, headers={"Authorization": f"Bearer {staff.token}"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("name", "value"), [("state", "x" * 3000), ("limit", "9" * 3000)])
async def test_what_is_wrong_with_a_filter_is_pointed_at_and_not_repeated(
    staff: Person, name: str, value: str
) -> None:
    answer = await staff.client.get(
        "/api/mails", params={name: value}, headers={"Authorization": f"Bearer {staff.token}"}
    )
    (error,) = answer.json()["errors"]
    assert error["pointer"] == f"/{name}"
    assert len(answer.text) < 1000


async def test_the_mails_of_an_order_are_found_and_sent_again(customer: Person, staff: Person) -> None:
    order, other = await customer.place(), await customer.place(2)
    await staff.change(order["id"], status="confirmed")
    confirmed, created = await mails(staff, 2, order_id=order["id"])
    assert (confirmed["kind"], created["kind"]) == ("order.confirmed", "order.created")
    assert [mail["order_number"] for mail in await mails(staff, 1, order_id=other["id"])] == [
        other["order_number"]
    ]
    assert await mails(staff, 1, event_id=str(created["event_id"])) == [created]

    answer = await staff.call("POST", f"/api/mails/{created['event_id']}/resend")
    assert answer.status_code == 202
    (again,) = await mails(staff, 1, event_id=str(created["event_id"]))
    assert again["message_id"] == created["message_id"]
    assert again["resends"] == 1
