"""The use cases of role auth: logging in under attack, and who may see whom."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher

from purveyor.kit.errors import InvalidInput, NotFound, TokenInvalid
from purveyor.kit.ids import new_id
from purveyor.kit.postgres import Database
from purveyor.kit.ratelimit import MemoryLimiter, Rate
from purveyor.roles.auth.contract import (
    Address,
    EmailTaken,
    GetAddress,
    Identity,
    InvalidCredentials,
    OpenAccount,
    Principal,
    SetAccess,
    TooManyLogins,
    VerifyToken,
)
from purveyor.roles.auth.model import User
from purveyor.roles.auth.passwords import Passwords
from purveyor.roles.auth.service import Auth, Registration, TokenPair
from purveyor.roles.auth.store import PostgresAccounts
from purveyor.roles.auth.tokens import Tokens
from purveyor.transports.local import LocalAsker

PASSWORD = "correct horse"
HOME = Address(recipient="Ada", line1="1 High Street", city="Berlin", postal_code="10115", country="DE")


@pytest.fixture(scope="module")
def passwords() -> Iterator[Passwords]:
    made = Passwords()
    yield made
    made.close()


@pytest.fixture
def make_auth(database: Database, passwords: Passwords) -> Callable[[Rate], Auth]:
    def make(rate: Rate) -> Auth:
        tokens = Tokens("a secret of at least thirty-two bytes", 600)
        accounts = PostgresAccounts(database)
        return Auth(accounts, passwords, tokens, MemoryLimiter(), login_rate=rate, password_min_length=8)

    return make


@pytest.fixture
def auth(make_auth: Callable[[Rate], Auth]) -> Auth:
    return make_auth(Rate(1000, 60))


async def registered(auth: Auth, access: str = "customer") -> User:
    email = f"{new_id().hex}@example.com"
    return await auth.register(Registration(email=email, password=PASSWORD, name="Ada Lovelace"), access)


async def signed_in(auth: Auth, user: User) -> Principal:
    """As other roles and the routes see them: through the port."""
    pair = await auth.log_in(user.email, PASSWORD, "192.0.2.1")
    return await Identity(LocalAsker({VerifyToken: auth.verify}, timeout_s=2)).verify(pair.access_token)


async def attempts(log_in: Callable[[int], Awaitable[TokenPair]], count: int) -> dict[type, int]:
    outcomes = await asyncio.gather(*(log_in(place) for place in range(count)), return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes]
    return {kind: kinds.count(kind) for kind in set(kinds)}


async def test_who_registers_can_log_in(auth: Auth) -> None:
    user = await auth.register(
        Registration(email="Ada.L@Example.COM", password=PASSWORD, name=" Ada ", phone="+49 30 1", language="de")
    )
    pair = await auth.log_in("ADA.L@example.com", PASSWORD, "192.0.2.1")
    who = await signed_in(auth, user)

    assert (user.email, user.name, user.access) == ("ada.l@example.com", "Ada", "customer")
    assert (who.user_id, who.email, who.access, who.language) == (str(user.id), user.email, "customer", "de")
    assert (pair.token_type, pair.expires_in) == ("bearer", 600)
    assert pair.refresh_token not in pair.access_token
    with pytest.raises(TokenInvalid):
        await auth.verify(VerifyToken(token=pair.refresh_token))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("email", "ada"),
        ("name", "Ada\r\nBcc: x@example.com"),
        ("phone", "call me"),
        ("language", "de_DE"),
        ("password", "password"),
    ],
)
async def test_a_registration_is_refused_where_it_is_wrong(auth: Auth, member: str, value: str) -> None:
    email = f"{new_id().hex}@example.com"
    members = {"email": email, "password": PASSWORD, "name": "Ada", member: value}

    with pytest.raises(InvalidInput) as refusal:
        await auth.register(Registration(**members))

    assert [field.pointer for field in refusal.value.errors] == [f"/{member}"]
    with pytest.raises(InvalidCredentials):
        await auth.log_in(email, PASSWORD, "192.0.2.1")


async def test_an_address_has_one_account_however_it_is_written(auth: Auth) -> None:
    user = await registered(auth)

    with pytest.raises(EmailTaken):
        await auth.register(Registration(email=user.email.upper(), password=PASSWORD, name="Eve"))


async def test_a_wrong_password_and_an_unknown_account_are_answered_the_same(auth: Auth) -> None:
    user = await registered(auth)
    answers = set()
    for email in (user.email, "nobody@example.com", "no address", ""):
        with pytest.raises(InvalidCredentials) as refusal:
            await auth.log_in(email, "wrong password", "192.0.2.1")
        answers.add((refusal.value.code, refusal.value.detail, str(refusal.value.headers)))

    assert len(answers) == 1


async def test_a_wrong_password_and_an_unknown_account_take_the_same_time(auth: Auth) -> None:
    user = await registered(auth)
    times: dict[str, list[float]] = {user.email: [], "nobody@example.com": []}
    for _ in range(15):  # by turns, so that a busy machine is unfair to both
        for email, taken in times.items():
            began = time.perf_counter()
            with pytest.raises(InvalidCredentials):
                await auth.log_in(email, "wrong password", "192.0.2.1")
            taken.append(time.perf_counter() - began)
    known, unknown = (statistics.median(taken) for taken in times.values())

    assert 0.5 < known / unknown < 2


async def test_attempts_are_limited_per_account_from_wherever_they_come(make_auth: Callable[[Rate], Auth]) -> None:
    """All at once, and far more than may wait for a hash: they are counted before any work is done."""
    auth = make_auth(Rate(5, 60))
    user = await registered(auth)
    spellings = (user.email, user.email.upper(), f"{user.email[:3].upper()}{user.email[3:]}")
    outcomes = await attempts(lambda place: auth.log_in(spellings[place % 3], "wrong", f"network {place}"), 200)

    assert outcomes == {InvalidCredentials: 5, TooManyLogins: 195}
    with pytest.raises(TooManyLogins) as refusal:
        await auth.log_in(user.email, PASSWORD, "a new network")
    assert refusal.value.status == 429
    assert 1 <= int(refusal.value.headers["Retry-After"]) <= 60
    other = await registered(auth)
    assert await auth.log_in(other.email, PASSWORD, "a new network")


async def test_attempts_are_limited_per_network_whomever_they_try(make_auth: Callable[[Rate], Auth]) -> None:
    auth = make_auth(Rate(5, 60))
    user = await registered(auth)
    outcomes = await attempts(lambda place: auth.log_in(f"u{place}@example.com", "wrong", "192.0.2.7"), 200)

    assert outcomes == {InvalidCredentials: 5, TooManyLogins: 195}
    with pytest.raises(TooManyLogins):
        await auth.log_in(user.email, PASSWORD, "192.0.2.7")
    assert await auth.log_in(user.email, PASSWORD, "192.0.2.8")


async def test_an_attempt_that_is_refused_takes_no_time(make_auth: Callable[[Rate], Auth]) -> None:
    auth = make_auth(Rate(1, 60))
    with pytest.raises(InvalidCredentials):
        await auth.log_in("nobody@example.com", "wrong", "192.0.2.1")
    began = time.perf_counter()
    outcomes = await attempts(lambda _: auth.log_in("nobody@example.com", "wrong", "192.0.2.1"), 100)

    assert outcomes == {TooManyLogins: 100}
    assert time.perf_counter() - began < 0.5, "a hash takes some 20 ms"


async def test_a_login_renews_an_outdated_hash(auth: Auth, database: Database) -> None:
    user = await registered(auth)
    accounts = PostgresAccounts(database)
    weak = PasswordHasher(1, 8_192, 1).hash(PASSWORD)
    await accounts.set_password_hash(user.id, weak)
    await auth.log_in(user.email, PASSWORD, "192.0.2.1")
    found = await accounts.find_credentials(user.email)

    assert found is not None
    assert found.password_hash != weak
    assert await auth.log_in(user.email, PASSWORD, "192.0.2.1")


async def test_a_session_is_stored_without_its_token(auth: Auth, database: Database) -> None:
    user = await registered(auth)
    pair = await auth.log_in(user.email, PASSWORD, "192.0.2.1")
    row = await database.fetchrow("select * from auth.sessions where user_id = $1", user.id)

    assert row is not None
    assert pair.refresh_token not in str(dict(row))
    assert 29.9 < (row["expires_at"] - row["created_at"]).total_seconds() / 86_400 <= 30


_READS: dict[str, Callable[[Auth, Principal, str, str], Awaitable[Any]]] = {
    "profile": lambda auth, caller, user_id, _: auth.profile(caller, user_id),
    "addresses": lambda auth, caller, user_id, _: auth.addresses(caller, user_id),
    "address": lambda auth, caller, user_id, place: auth.address(caller, user_id, place),
}
_WRITES: dict[str, Callable[[Auth, Principal, str, str], Awaitable[Any]]] = {
    "change profile": lambda auth, caller, user_id, _: auth.change_profile(
        caller, user_id, name="Eve", phone=None, language=None
    ),
    "add address": lambda auth, caller, user_id, _: auth.add_address(caller, user_id, HOME, is_default=True),
    "replace address": lambda auth, caller, user_id, place: auth.replace_address(
        caller, user_id, place, HOME, is_default=True
    ),
    "remove address": lambda auth, caller, user_id, place: auth.remove_address(caller, user_id, place),
}


@pytest.mark.parametrize("use", [*_READS.values(), *_WRITES.values()], ids=[*_READS, *_WRITES])
async def test_for_other_customers_an_account_does_not_exist(
    auth: Auth, use: Callable[[Auth, Principal, str, str], Awaitable[Any]]
) -> None:
    ada, eve = await registered(auth), await registered(auth)
    owner, caller = await signed_in(auth, ada), await signed_in(auth, eve)
    place = await auth.add_address(owner, owner.user_id, HOME, is_default=True)
    details = set()
    for user_id in (owner.user_id, str(new_id()), owner.user_id.replace("-", ""), f"{{{owner.user_id}}}", "1"):
        with pytest.raises(NotFound) as refusal:
            await use(auth, caller, user_id, str(place.id))
        details.add(refusal.value.detail)

    assert len(details) == 1, "what is foreign and what is missing must not be told apart"
    assert await auth.profile(owner, owner.user_id) == (ada, [place])


@pytest.mark.parametrize("access", ["staff", "admin"])
async def test_staff_see_every_profile_and_change_none(auth: Auth, access: str) -> None:
    ada = await registered(auth)
    owner, caller = await signed_in(auth, ada), await signed_in(auth, await registered(auth, access))
    place = await auth.add_address(owner, owner.user_id, HOME, is_default=False)

    for read in _READS.values():
        await read(auth, caller, owner.user_id, str(place.id))
    for write in _WRITES.values():
        with pytest.raises(NotFound):
            await write(auth, caller, owner.user_id, str(place.id))
    assert await auth.profile(owner, owner.user_id) == (ada, [place])


async def test_an_id_may_be_written_in_capitals(auth: Auth) -> None:
    caller = await signed_in(auth, await registered(auth))
    user, _ = await auth.profile(caller, caller.user_id.upper())

    assert str(user.id) == caller.user_id


async def test_other_roles_get_an_address_only_for_its_owner(auth: Auth) -> None:
    owner, eve = [await signed_in(auth, await registered(auth)) for _ in range(2)]
    place = str((await auth.add_address(owner, owner.user_id, HOME, is_default=False)).id)

    assert (
        await auth.answer_address(GetAddress(user_id=owner.user_id, address_id=place, token=owner.token)) == HOME
    )
    for user_id, token, error in (
        (owner.user_id, eve.token, NotFound),
        (eve.user_id, eve.token, NotFound),
        (owner.user_id, owner.token + "x", TokenInvalid),
    ):
        with pytest.raises(error):
            await auth.answer_address(GetAddress(user_id=user_id, address_id=place, token=token))


async def test_the_console_opens_accounts_and_sets_their_access(auth: Auth) -> None:
    email = f"{new_id().hex}@example.com"
    opened = await auth.open_account(OpenAccount(email=email, name="Ada", password=PASSWORD, access="staff"))
    changed = await auth.set_access(SetAccess(email=email.upper(), access="admin"))

    assert (opened.email, opened.access) == (email, "staff")
    assert (changed.id, changed.access) == (opened.id, "admin")
    with pytest.raises(NotFound):
        await auth.set_access(SetAccess(email="nobody@example.com", access="admin"))
