"""Opening an account, logging in, whose token it is, and the profile."""

import base64
import json
import re
from typing import Any

import pytest

from shop import PASSWORD, Customer, Shop, fresh_address, fresh_email, problem
from waiting import until

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.mark.one_shape
async def test_an_account_is_shown_as_it_was_opened(shop: Shop) -> None:
    email = fresh_email()
    answer = await shop.register(email=email, name="Ada Lovelace", phone="+44 20 7946 0958", language="fr")
    assert answer.status_code == 201
    account = answer.json()
    assert UUID7.fullmatch(account.pop("id"))
    assert TIME.fullmatch(account.pop("created_at"))
    assert account == {
        "email": email,
        "name": "Ada Lovelace",
        "phone": "+44 20 7946 0958",
        "language": "fr",
        "role": "customer",
    }
    assert answer.headers["location"] == f"/user/{answer.json()['id']}"


@pytest.mark.one_shape
async def test_an_empty_language_is_english(shop: Shop) -> None:
    assert (await shop.register(language="")).json()["language"] == "en"


@pytest.mark.one_shape
async def test_an_address_has_one_account_however_it_is_written(shop: Shop) -> None:
    email = fresh_email()
    assert (await shop.register(email=email)).status_code == 201
    problem(await shop.register(email=email), 409, "email-taken")
    problem(await shop.register(email=email.upper()), 409, "email-taken")
    assert (await shop.login(email.upper(), PASSWORD)).status_code == 200


@pytest.mark.one_shape
@pytest.mark.parametrize(
    "password", ["passwor", "password", "PASSWORD1", "x" * 129, "1234567"], ids=lambda text: text[:12]
)
async def test_a_password_that_is_short_long_or_common_is_refused(shop: Shop, password: str) -> None:
    problem(await shop.register(password=password), 422, "invalid-input", "/password")


@pytest.mark.one_shape
async def test_every_wrong_member_of_a_registration_is_reported_at_once(shop: Shop) -> None:
    answer = await shop.register(email="nobody", password="short", name="", phone="call me", admin=True)

    assert answer.status_code == 422
    pointers = {fault["pointer"] for fault in answer.json()["errors"]}
    assert pointers == {"/email", "/password", "/name", "/phone", "/admin"}


@pytest.mark.one_shape
@pytest.mark.parametrize("password", ["        ", "ab cd ef", "пароль-длинный", "🐎🔋📎correct", "y" * 128])
async def test_a_password_may_hold_any_characters(shop: Shop, password: str) -> None:
    customer = await shop.customer(password=password)
    problem(await shop.login(customer.email, password + "!"), 401, "invalid-credentials")
    problem(await shop.login(customer.email, password.strip() + "?"), 401, "invalid-credentials")


@pytest.mark.one_shape
@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("email", "nobody"),
        ("email", "a@b@example.com"),
        ("email", "a@example.com\r\nBcc: all@example.com"),
        ("email", "x" * 250 + "@example.com"),
        ("name", ""),
        ("name", "   "),
        ("name", "Ada\r\nBcc: all@example.com"),
        ("name", "x" * 201),
        ("phone", "call me"),
        ("language", "not a language"),
    ],
)
async def test_what_an_account_may_not_say_is_pointed_at(shop: Shop, member: str, value: str) -> None:
    problem(await shop.register(**{member: value}), 422, "invalid-input", f"/{member}")


@pytest.mark.one_shape
@pytest.mark.parametrize("member", ["email", "password", "name"])
async def test_a_missing_member_is_pointed_at(shop: Shop, member: str) -> None:
    problem(await shop.register(**{member: None}), 422, "invalid-input", f"/{member}")


@pytest.mark.one_shape
@pytest.mark.parametrize("member", ["role", "access", "id", "is_admin"])
async def test_nobody_can_give_themselves_more(shop: Shop, member: str) -> None:
    problem(await shop.register(**{member: "admin"}), 422, "invalid-input", f"/{member}")


@pytest.mark.one_shape
@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
async def test_a_login_gives_tokens(shop: Shop, ada: Customer, form: bool) -> None:
    answer = await shop.login(ada.email, ada.password, form=form)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    pair = answer.json()
    assert set(pair) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert pair["token_type"] == "bearer"
    assert pair["expires_in"] > 0
    assert (await shop.verify(pair["access_token"])).status_code == 200


@pytest.mark.one_shape
async def test_an_unknown_account_and_a_wrong_password_look_the_same(shop: Shop, ada: Customer) -> None:
    wrong = problem(await shop.login(ada.email, "not the password"), 401, "invalid-credentials")
    unknown = problem(await shop.login(fresh_email(), "not the password"), 401, "invalid-credentials")
    assert wrong["detail"] == unknown["detail"]


async def test_guesses_at_one_account_are_limited_wherever_they_come_from(shop: Shop, ada: Customer) -> None:
    for _ in range(9):  # with the log-in of the fixture the tenth in a minute
        problem(await shop.login(ada.email, "a wild guess"), 401, "invalid-credentials")
    problem(await shop.login(ada.email, ada.password), 429, "too-many-logins")
    problem(await shop.login(ada.email.upper(), ada.password), 429, "too-many-logins")


async def test_every_attempt_says_how_many_are_left(shop: Shop, ada: Customer) -> None:
    answers = [await shop.login(ada.email, password) for password in (ada.password, "a wild guess", ada.password)]
    answers += [await shop.change_password(ada, password, PASSWORD) for password in ("a wild guess", PASSWORD)]

    assert [answer.status_code for answer in answers] == [200, 401, 200, 422, 204]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"login";q=10;w=60'}
    left = [re.fullmatch(r'"login";r=(\d+);t=\d+', answer.headers["ratelimit"]) for answer in answers]
    assert [match and int(match[1]) for match in left] == [8, 7, 6, 5, 4], "ada has logged in before"


async def test_guesses_from_one_address_are_limited_whomever_they_are_at(shop: Shop, ada: Customer) -> None:
    address = fresh_address()
    for _ in range(10):
        answer = await shop.login(fresh_email(), "a wild guess", address=address)
        problem(answer, 401, "invalid-credentials")
    problem(await shop.login(ada.email, ada.password, address=address), 429, "too-many-logins")
    assert (await shop.login(ada.email, ada.password)).status_code == 200


@pytest.mark.one_shape
@pytest.mark.parametrize("in_body", [False, True], ids=["header", "body"])
async def test_a_token_tells_whose_it_is(shop: Shop, visitor: Customer, in_body: bool) -> None:
    answer = await shop.verify(visitor.token, in_body=in_body)
    assert answer.status_code == 200
    holder = answer.json()
    assert holder.items() >= {"active": True, "sub": visitor.id, "user_id": visitor.id, "role": "customer"}.items()
    assert (holder["email"], holder["name"]) == (visitor.email, visitor.name)
    assert isinstance(holder["exp"], int)


def tampered(token: str) -> list[str]:
    header, claims, signature = token.split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode().rstrip("=")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
    admin = base64.urlsafe_b64encode(json.dumps(decoded | {"role": "admin"}).encode()).decode().rstrip("=")
    return [
        "nonsense",
        f"{none}.{claims}.",
        f"{none}.{claims}.{signature}",
        f"{header}.{admin}.{signature}",
        f"{header}.{claims}.{signature[::-1]}",
        f"{header}.{claims}",
    ]


@pytest.mark.parametrize("place", range(6), ids=["nonsense", "none", "none-signed", "admin", "signature", "cut"])
async def test_a_token_that_is_not_ours_opens_nothing(shop: Shop, visitor: Customer, place: int) -> None:
    token = tampered(visitor.token)[place]
    problem(await shop.verify(token), 401, "token-invalid")
    problem(await shop.verify(token, in_body=True), 401, "token-invalid")
    headers = {"authorization": f"Bearer {token}"}
    problem(await shop.raw("GET", "/api/orders/", headers=headers), 401, "token-invalid")


@pytest.mark.one_shape
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic YWRhOmFkYQ=="])
async def test_without_a_token_there_is_nothing_to_verify(shop: Shop, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    problem(await shop.raw("POST", "/verify-token", headers=headers), 401, "unauthorized")
    problem(await shop.raw("GET", "/api/orders/", headers=headers), 401, "unauthorized")


@pytest.mark.one_shape
@pytest.mark.parametrize("body", [{}, {"token": None}], ids=["nothing", "null"])
async def test_a_body_without_a_token_is_as_none(shop: Shop, visitor: Customer, body: dict[str, Any]) -> None:
    problem(await shop.raw("POST", "/verify-token", json=body), 401, "unauthorized")
    assert (await shop.raw("POST", "/verify-token", visitor, json=body)).status_code == 200


@pytest.mark.one_shape
@pytest.mark.parametrize("signed", [False, True], ids=["body", "body and header"])
async def test_a_body_to_verify_is_read_as_strictly_as_any_other(
    shop: Shop, visitor: Customer, signed: bool
) -> None:
    path, by, good = "/verify-token", visitor if signed else None, {"token": visitor.token}
    problem(await shop.raw("POST", path, by, json=good | {"more": 1}), 422, "invalid-input", "/more")
    problem(await shop.raw("POST", path, by, json={"token": 1}), 422, "invalid-input", "/token")
    problem(await shop.raw("POST", path, by, content=b"{"), 400, "bad-request")
    problem(await shop.raw("POST", path, by, json={"token": "x" * 70_000}), 413, "body-too-large")
    plain = {"content-type": "text/plain"}
    refused = await shop.raw("POST", path, by, content=json.dumps(good).encode(), headers=plain)
    problem(refused, 415, "unsupported-media-type")


@pytest.mark.one_shape
async def test_a_token_of_any_length_is_wrong_and_no_more(shop: Shop) -> None:
    for length in (8_192, 8_193, 60_000):
        problem(await shop.verify("x" * length, in_body=True), 401, "token-invalid")


@pytest.mark.one_shape
async def test_a_token_in_the_body_counts_beside_another_kind_of_header(shop: Shop, visitor: Customer) -> None:
    basic = {"authorization": "Basic YWRhOmFkYQ=="}
    answer = await shop.raw("POST", "/verify-token", json={"token": visitor.token}, headers=basic)
    assert answer.status_code == 200
    problem(await shop.raw("POST", "/verify-token", json={"token": "x"}, headers=basic), 401, "token-invalid")


@pytest.mark.one_shape
async def test_a_profile_shows_the_account_with_its_addresses(shop: Shop, ada: Customer) -> None:
    await shop.add_address(ada)
    answer = await shop.profile(ada)
    assert answer.status_code == 200
    profile = answer.json()
    assert (profile["id"], profile["email"], profile["role"]) == (ada.id, ada.email, "customer")
    assert [address["city"] for address in profile["addresses"]] == ["London"]
    assert "password" not in answer.text


@pytest.mark.one_shape
async def test_a_profile_is_changed_member_by_member(shop: Shop, ada: Customer) -> None:
    assert (await shop.change_profile(ada, name="Countess", phone="+44 20 7946 0958")).status_code == 200
    changed = (await shop.change_profile(ada, language="de")).json()
    assert (changed["name"], changed["phone"], changed["language"]) == ("Countess", "+44 20 7946 0958", "de")
    assert (await shop.change_profile(ada, phone=None)).json()["phone"] == ""
    for empty in ("", None):  # as at the registration
        await shop.change_profile(ada, language="fr")
        assert (await shop.change_profile(ada, language=empty)).json()["language"] == "en"
    problem(await shop.change_profile(ada, role="admin"), 422, "invalid-input", "/role")
    problem(await shop.change_profile(ada, name=""), 422, "invalid-input", "/name")


@pytest.mark.one_shape
async def test_somebody_elses_profile_does_not_exist(shop: Shop, ada: Customer, stranger: Customer) -> None:
    problem(await shop.profile(stranger, ada.id), 404, "not-found")
    problem(await shop.change_profile(stranger, ada.id, name="Taken over"), 404, "not-found")
    problem(await shop.profile(ada, "no-id"), 404, "not-found")
    assert (await shop.profile(ada)).json()["name"] == ada.name


@pytest.mark.one_shape
async def test_staff_read_a_profile_and_leave_it(shop: Shop, ada: Customer, staff: Customer) -> None:
    assert (await shop.profile(staff, ada.id)).json()["email"] == ada.email
    problem(await shop.change_profile(staff, ada.id, name="Renamed"), 404, "not-found")


async def test_address_is_confirmed_with_the_token_of_the_welcome_mail(shop: Shop, ada: Customer) -> None:
    assert (await shop.profile(ada)).json()["email_confirmed"] is False
    token = await shop.mailed_token(ada.email)
    assert (await shop.raw("POST", "/email/confirm", json={"token": token})).status_code == 204
    problem(
        await shop.raw("POST", "/email/confirm", json={"token": token}),
        422,
        "confirmation-token-invalid",
        "/token",
    )
    assert (await shop.profile(ada)).json()["email_confirmed"] is True


async def test_new_address_counts_once_it_is_confirmed(shop: Shop, ada: Customer) -> None:
    email = fresh_email()
    path, wish = f"/user/{ada.id}/email", {"email": email, "password": ada.password}
    problem(
        await shop.raw("POST", path, ada, json=wish | {"password": "a guess"}), 422, "wrong-password", "/password"
    )
    assert (await shop.raw("POST", path, ada, json=wish)).status_code == 202
    token = await shop.mailed_token(email)
    assert (await shop.login(ada.email, ada.password)).status_code == 200
    assert (await shop.raw("POST", "/email/confirm", json={"token": token})).status_code == 204
    problem(await shop.login(ada.email, ada.password), 401, "invalid-credentials")
    assert (await shop.login(email, ada.password)).status_code == 200

    async def told() -> bool:
        return any("changed" in mail.subject for mail in await shop.mails(ada.email, account=True))

    await until(told)


@pytest.mark.one_shape
@pytest.mark.parametrize(
    "name", ["You won 1000 EUR!", "Claim at https://evil.test/claim", "call +1 900 555 0100", "ada@evil.test"]
)
async def test_name_that_is_bait_is_refused(shop: Shop, ada: Customer, name: str) -> None:
    problem(await shop.register(name=name), 422, "invalid-input", "/name")
    problem(await shop.raw("PATCH", f"/user/{ada.id}", ada, json={"name": name}), 422, "invalid-input", "/name")
