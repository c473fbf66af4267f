"""The address book of an account."""

from typing import Any

import pytest

from shop import Customer, Shop, an_address, problem

pytestmark = pytest.mark.one_shape


async def defaults(shop: Shop, customer: Customer) -> list[str]:
    """The lines of the addresses that are the default."""
    return [entry["line1"] for entry in (await shop.addresses(customer)).json() if entry["is_default"]]


async def test_an_address_is_kept_as_it_was_given(shop: Shop, ada: Customer) -> None:
    given = an_address() | {"line2": "Flat 1", "region": "Greater London", "phone": "+44 20 7946 0958"}
    answer = await shop.add_address(ada, **given, is_default=True)
    assert answer.status_code == 201
    stored = answer.json()
    assert answer.headers["location"] == f"/user/{ada.id}/addresses/{stored['id']}"
    assert stored == given | {"id": stored["id"], "is_default": True}
    assert (await shop.address(ada, stored["id"])).json() == stored
    assert (await shop.addresses(ada)).json() == [stored]


async def test_one_address_at_most_is_the_default(shop: Shop, ada: Customer) -> None:
    first = (await shop.add_address(ada, line1="first", is_default=True)).json()
    await shop.add_address(ada, line1="second")
    assert await defaults(shop, ada) == ["first"]
    await shop.add_address(ada, line1="third", is_default=True)
    assert await defaults(shop, ada) == ["third"]
    await shop.address(ada, first["id"], method="PUT", line1="first again", is_default=True)
    assert await defaults(shop, ada) == ["first again"]
    await shop.address(ada, first["id"], method="PUT", line1="first again", is_default=False)
    assert len(await defaults(shop, ada)) <= 1


async def test_an_account_holds_fifty_addresses(shop: Shop, ada: Customer) -> None:
    for _ in range(50):
        assert (await shop.add_address(ada)).status_code == 201
    problem(await shop.add_address(ada), 422, "invalid-input", "")
    assert len((await shop.addresses(ada)).json()) == 50


async def test_an_address_is_replaced_as_a_whole(shop: Shop, ada: Customer) -> None:
    stored = (await shop.add_address(ada, line2="Flat 1")).json()
    answer = await shop.address(ada, stored["id"], method="PUT", city="Bath")
    assert answer.status_code == 200
    assert answer.json() == stored | {"city": "Bath", "line2": ""}


async def test_an_address_is_deleted_once(shop: Shop, ada: Customer) -> None:
    stored = (await shop.add_address(ada)).json()
    answer = await shop.address(ada, stored["id"], method="DELETE")
    assert (answer.status_code, answer.content) == (204, b"")
    problem(await shop.address(ada, stored["id"], method="DELETE"), 404, "not-found")
    problem(await shop.address(ada, stored["id"]), 404, "not-found")
    problem(await shop.address(ada, stored["id"], method="PUT"), 404, "not-found")
    assert (await shop.addresses(ada)).json() == []


async def test_somebody_elses_addresses_do_not_exist(shop: Shop, ada: Customer, stranger: Customer) -> None:
    stored = (await shop.add_address(ada)).json()
    problem(await shop.addresses(stranger, ada.id), 404, "not-found")
    problem(await shop.add_address(stranger, ada.id), 404, "not-found")
    for method in ("GET", "PUT", "DELETE"):
        problem(await shop.address(stranger, stored["id"], method=method), 404, "not-found")
        problem(await shop.address(stranger, stored["id"], method=method, user_id=ada.id), 404, "not-found")
    assert (await shop.addresses(ada)).json() == [stored]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("country", "XX"),
        ("country", "GBR"),
        ("recipient", ""),
        ("line1", " "),
        ("city", "Lon\ndon"),
        ("postal_code", "x" * 21),
        ("phone", "none"),
        ("is_default", "yes"),
        ("planet", "Earth"),
    ],
)
async def test_what_is_wrong_with_an_address_is_pointed_at(
    shop: Shop, visitor: Customer, member: str, value: Any
) -> None:
    problem(await shop.add_address(visitor, **{member: value}), 422, "invalid-input", f"/{member}")
