"""How much one customer may order in a while, and how they are told."""

import asyncio
import re

from shop import Customer, Shop, problem

POLICY = re.compile(r'"orders";q=(\d+);w=(\d+)')
NO_ID = "01a20481-297c-700c-a82d-3d9ac6bc1ffd"
LEFT = re.compile(r'"orders";r=(\d+);t=(\d+)')


def limits(headers: object) -> tuple[int, int, int, int]:
    """Quota, window, what is left of it, and when it comes back; both in seconds."""
    policy = POLICY.fullmatch(headers["ratelimit-policy"])  # type: ignore[index]
    left = LEFT.fullmatch(headers["ratelimit"])  # type: ignore[index]
    assert policy
    assert left
    return int(policy[1]), int(policy[2]), int(left[1]), int(left[2])


async def test_every_order_says_how_many_are_left(shop: Shop, ada: Customer) -> None:
    quota, window_s, left, reset_s = limits((await shop.place(ada)).headers)
    assert left == quota - 1
    assert 1 <= reset_s <= window_s
    assert limits((await shop.place(ada)).headers)[2] == quota - 2


async def test_a_refusal_that_cost_quota_says_how_many_are_left(shop: Shop, ada: Customer) -> None:
    quota = limits((await shop.place(ada, key="once")).headers)[0]
    refused = [
        await shop.place(ada, [(999_999, 1)]),
        await shop.place(ada, [(1, 2)], key="once"),
        await shop.place(ada, shipping_address_id=NO_ID),
        await shop.place(ada, key="x" * 256),
    ]
    assert [answer.status_code for answer in refused] == [422, 422, 422, 400]
    assert [limits(answer.headers)[2] for answer in refused] == [quota - 2, quota - 3, quota - 4, quota - 5]


async def test_of_any_number_at_once_exactly_the_quota_is_let_in(
    shop: Shop, ada: Customer, stranger: Customer
) -> None:
    quota, window_s, left, _ = limits((await shop.place(ada)).headers)
    answers = await asyncio.gather(*(shop.place(ada, [(999_999, 1)]) for _ in range(left + 7)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 7
    for answer in refused:
        problem(answer, 429, "too-many-requests")
        assert limits(answer.headers)[:3] == (quota, window_s, 0)
        assert 1 <= int(answer.headers["retry-after"]) <= window_s
    problem(await shop.place(ada), 429, "too-many-requests")
    assert (await shop.place(stranger)).status_code == 201
    assert len((await shop.list(ada)).json()["orders"]) == 1
