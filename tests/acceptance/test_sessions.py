"""Sessions from outside: tokens that are renewed, stolen, taken back; and where a revoked one still works."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
import pytest

from shop import PASSWORD, Customer, Shop, problem, renewed
from waiting import until

NEW_PASSWORD = "a whole new password"


async def stops_working(shop: Shop, customer: Customer) -> None:
    """Wait until an access token opens nothing any more, in any process."""

    async def refused(request: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response | None:
        answer = await request()
        return None if answer.is_success else answer

    requests = (
        lambda: shop.verify(customer.token),
        lambda: shop.list(customer),
        lambda: shop.profile(customer),
    )
    for request in requests:
        answer = await until(partial(refused, request))
        assert answer
        problem(answer, 401, "token-invalid")


async def works(shop: Shop, customer: Customer) -> bool:
    answers = [await shop.verify(customer.token), await shop.list(customer), await shop.profile(customer)]
    return [answer.status_code for answer in answers] == [200, 200, 200]


async def test_a_refresh_gives_the_next_pair(shop: Shop, ada: Customer) -> None:
    answer = await shop.refresh(ada.refresh_token)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    pair = answer.json()
    assert set(pair) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert pair["refresh_token"] != ada.refresh_token
    assert pair["expires_in"] <= 600
    assert await works(shop, renewed(ada, answer))
    assert (await shop.refresh(pair["refresh_token"])).status_code == 200


async def test_an_answer_that_was_lost_can_be_had_again(shop: Shop, ada: Customer) -> None:
    answers = await asyncio.gather(*(shop.refresh(ada.refresh_token) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    successors = {answer.json()["refresh_token"] for answer in answers}
    assert len(successors) == 1
    assert (await shop.refresh(successors.pop())).status_code == 200


@pytest.mark.pooled
async def test_a_stolen_token_ends_the_session_for_both(shop: Shop, ada: Customer) -> None:
    other = await shop.logged_in(ada)
    once = renewed(ada, await shop.refresh(ada.refresh_token))
    twice = renewed(ada, await shop.refresh(once.refresh_token))
    problem(await shop.refresh(ada.refresh_token), 401, "refresh-token-invalid")
    for stolen in (ada, once, twice):
        problem(await shop.refresh(stolen.refresh_token), 401, "refresh-token-invalid")
        await stops_working(shop, stolen)
    assert await works(shop, other)
    assert (await shop.refresh(other.refresh_token)).status_code == 200


@pytest.mark.one_shape
async def test_one_kind_of_token_is_not_taken_for_the_other(shop: Shop, ada: Customer) -> None:
    problem(await shop.verify(ada.refresh_token), 401, "token-invalid")
    for other in ("nonsense", "", ada.token, "A" * 60_000, "\u00e4" * 300):
        problem(await shop.refresh(other), 401, "refresh-token-invalid")
    assert (await shop.refresh(ada.refresh_token)).status_code == 200


async def test_after_a_log_out_nothing_of_the_session_works(shop: Shop, ada: Customer) -> None:
    other = await shop.logged_in(ada)
    assert await works(shop, ada)
    answer = await shop.log_out(ada)
    assert (answer.status_code, answer.content) == (204, b"")
    problem(await shop.refresh(ada.refresh_token), 401, "refresh-token-invalid")
    await stops_working(shop, ada)
    problem(await shop.log_out(ada), 401, "token-invalid")
    assert await works(shop, other)


@pytest.mark.one_shape
async def test_a_log_out_has_nothing_to_say(shop: Shop, ada: Customer) -> None:
    path, json = "/logout", {"content-type": "application/json"}
    problem(await shop.raw("POST", path, ada, json={"all": True}), 422, "invalid-input", "/all")
    problem(await shop.raw("POST", path, ada, content=b"{", headers=json), 400, "bad-request")
    problem(await shop.raw("POST", path, ada, content=b" " * 70_000, headers=json), 413, "body-too-large")
    problem(await shop.raw("POST", path, ada, data={"a": "b"}), 415, "unsupported-media-type")
    assert await works(shop, ada)
    assert (await shop.raw("POST", path, ada, json={})).status_code == 204


async def test_a_changed_password_ends_the_other_sessions(shop: Shop, ada: Customer) -> None:
    this = await shop.logged_in(ada)
    answer = await shop.change_password(this, PASSWORD, NEW_PASSWORD)
    assert (answer.status_code, answer.content) == (204, b"")
    await stops_working(shop, ada)
    problem(await shop.refresh(ada.refresh_token), 401, "refresh-token-invalid")
    assert await works(shop, this)
    assert (await shop.refresh(this.refresh_token)).status_code == 200
    problem(await shop.login(ada.email, PASSWORD), 401, "invalid-credentials")
    assert (await shop.login(ada.email, NEW_PASSWORD)).status_code == 200


@pytest.mark.one_shape
@pytest.mark.parametrize("new", ["short", "password1", "x" * 129])
async def test_a_password_is_changed_only_by_who_knows_it_to_one_that_will_do(
    shop: Shop, ada: Customer, new: str
) -> None:
    answer = await shop.change_password(ada, "a guess", NEW_PASSWORD)
    problem(answer, 422, "wrong-password", "/current_password")
    problem(await shop.change_password(ada, PASSWORD, new), 422, "invalid-input", "/new_password")
    assert (await shop.login(ada.email, PASSWORD)).status_code == 200


async def test_guesses_at_the_present_password_are_limited(shop: Shop, ada: Customer) -> None:
    for _ in range(9):  # with the log-in of the fixture the tenth in a minute
        answer = await shop.change_password(ada, "a guess", NEW_PASSWORD)
        problem(answer, 422, "wrong-password", "/current_password")
    problem(await shop.change_password(ada, PASSWORD, NEW_PASSWORD), 429, "too-many-logins")


async def test_a_forgotten_password_is_set_anew_by_mail(shop: Shop, ada: Customer) -> None:
    answer = await shop.forgot(ada.email.upper())
    assert answer.status_code == 202
    token = await shop.mailed_token(ada.email, to_reset=True)
    assert (await shop.reset(token, NEW_PASSWORD)).status_code == 204
    await stops_working(shop, ada)
    problem(await shop.refresh(ada.refresh_token), 401, "refresh-token-invalid")
    problem(await shop.reset(token, PASSWORD), 422, "reset-token-invalid", "/token")
    problem(await shop.login(ada.email, PASSWORD), 401, "invalid-credentials")
    assert (await shop.login(ada.email, NEW_PASSWORD)).status_code == 200


@pytest.mark.one_shape
async def test_who_asks_cannot_tell_whether_there_is_an_account(shop: Shop, ada: Customer) -> None:
    answers = [await shop.forgot(email) for email in (ada.email, "nobody@example.com", "no address", "")]
    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    problem(await shop.reset("nonsense", NEW_PASSWORD), 422, "reset-token-invalid", "/token")
    problem(await shop.reset("nonsense", "short"), 422, "invalid-input", "/password")


@pytest.mark.one_shape
@pytest.mark.parametrize("typed", ["Stra\u00dfen caf\u00e9", "o\ufb03ce keys"])
async def test_a_password_is_the_same_from_every_keyboard(shop: Shop, typed: str) -> None:
    customer = await shop.customer(password=typed)
    other = "Stra\u00dfen cafe\u0301" if "caf" in typed else "office keys"
    assert (await shop.login(customer.email, other)).status_code == 200
    assert (await shop.login(customer.email, typed)).status_code == 200


@pytest.mark.one_shape
async def test_ten_megabytes_are_no_password(shop: Shop, ada: Customer) -> None:
    huge = "x" * 10_000_000
    problem(await shop.login(ada.email, huge), 413, "body-too-large")
    problem(await shop.login(ada.email, huge[:2000]), 422, "invalid-input", "/password")
    assert (await shop.login(ada.email, PASSWORD)).status_code == 200


async def test_refresh_token_alone_signs_out(shop: Shop, ada: Customer) -> None:
    other = await shop.logged_in(ada)
    answer = await shop.raw("POST", "/logout", json={"refresh_token": ada.refresh_token})
    assert answer.status_code == 204
    problem(await shop.refresh(ada.refresh_token), 401, "refresh-token-invalid")
    await stops_working(shop, ada)
    problem(
        await shop.raw("POST", "/logout", json={"refresh_token": ada.refresh_token}), 401, "refresh-token-invalid"
    )
    problem(await shop.raw("POST", "/logout"), 401, "unauthorized")
    assert await works(shop, other)


async def test_devices_are_listed_and_signed_out_one_by_one(shop: Shop, ada: Customer, stranger: Customer) -> None:
    other = await shop.logged_in(ada)
    path = f"/user/{ada.id}/sessions"
    sessions = (await shop.raw("GET", path, other)).json()
    assert [session["current"] for session in sessions] == [True, False]
    problem(await shop.raw("GET", path, stranger), 404, "not-found")
    assert (await shop.raw("DELETE", f"{path}/{sessions[1]['id']}", other)).status_code == 204
    await stops_working(shop, ada)
    assert await works(shop, other)
