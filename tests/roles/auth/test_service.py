"""The use cases of accounts: opening one, who may see whom, and who may say what others may do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import Forbidden, InvalidInput, NotFound, TokenInvalid, TooManyRequests
from purveyor.kit.ids import new_id
from purveyor.kit.limits.memory import Rate
from purveyor.roles.auth.contract import (
    AccountBlocked,
    AddressBody,
    EmailTaken,
    GetAddress,
    InvalidCredentials,
    LastAdmin,
    OpenAccount,
    Principal,
    RefreshTokenInvalid,
    SetAccess,
    UserRegistered,
)
from purveyor.roles.auth.model import UserFilter
from purveyor.roles.auth.passwords import Passwords
from purveyor.roles.auth.service import Auth, Registration
from roles.auth.samples import HERE, HOME, PASSWORD, Process, fresh_email


async def test_who_registers_can_log_in(here: Process) -> None:
    user = await here.registered(email="Ada.L@Example.COM", name=" Ada ", phone="+49 30 1", language="de")
    await here.sessions.log_in("ADA.L@example.com", PASSWORD, HERE)
    who = await here.signed_in(user)

    assert (user.email, user.name, user.access) == ("ada.l@example.com", "Ada", "customer")
    assert (who.user_id, who.email, who.access, who.language) == (str(user.id), user.email, "customer", "de")


async def test_who_registers_is_told_of_in_the_same_transaction(here: Process) -> None:
    user = await here.registered(language="fr")
    row = await here.database.fetchrow("select language from auth.outbox where subject = $1", str(user.id))

    (event,) = await here.events(UserRegistered, user.id)
    assert (event.user_email, event.user_name) == (user.email, user.name)
    assert event.confirmation_token
    assert not event.recipient_confirmed
    assert row is not None
    assert row["language"] == "fr"
    assert here.wakes.count == 1
    with pytest.raises(EmailTaken):
        await here.registered(email=user.email)
    assert len(await here.events(UserRegistered, user.id)) == 1


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("email", "ada"),
        ("name", "Ada\r\nBcc: x@example.com"),
        ("phone", "call me"),
        ("language", "de_DE"),
        ("password", "password"),
        ("password", "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44"),
    ],
)
async def test_a_registration_is_refused_where_it_is_wrong(here: Process, member: str, value: str) -> None:
    email = fresh_email()
    members = {"email": email, "password": PASSWORD, "name": "Ada", member: value}

    with pytest.raises(InvalidInput) as refusal:
        await here.auth.register(Registration(**members), network=HERE)

    assert [field.pointer for field in refusal.value.errors] == [f"/{member}"]
    with pytest.raises(InvalidCredentials):
        await here.sessions.log_in(email, PASSWORD, HERE)


async def test_registration_names_every_wrong_member_at_once(here: Process) -> None:
    wrong = Registration(email="nobody", password="short", name=" ", phone="call me", language="klingon!")

    with pytest.raises(InvalidInput) as refusal:
        await here.auth.register(wrong, network=HERE)
    pointers = [field.pointer for field in refusal.value.errors]
    assert pointers == ["/email", "/name", "/phone", "/language", "/password"]


def test_address_names_every_wrong_line_at_once() -> None:
    wrong = AddressBody(
        recipient=" ", line1="A\x07", city="Berlin", postal_code="10115", country="XX", phone="call me"
    )

    with pytest.raises(InvalidInput) as refusal:
        wrong.checked("/shipping_address")
    pointers = [field.pointer.removeprefix("/shipping_address") for field in refusal.value.errors]
    assert pointers == ["/recipient", "/line1", "/country", "/phone"]


async def test_an_address_has_one_account_however_it_is_written(here: Process) -> None:
    user = await here.registered()

    with pytest.raises(EmailTaken):
        await here.registered(email=user.email.upper())


async def test_an_empty_language_is_english(here: Process) -> None:
    caller = await here.signed_in(await here.registered(language="de"))
    changed = await here.auth.change_profile(caller, caller.user_id, name=None, phone=None, language="")

    assert changed.language == "en"
    assert (await here.registered(language="")).language == "en"


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
    here: Process, use: Callable[[Auth, Principal, str, str], Awaitable[Any]]
) -> None:
    ada, eve = await here.registered(), await here.registered()
    owner, caller, auth = await here.signed_in(ada), await here.signed_in(eve), here.auth
    place = await auth.add_address(owner, owner.user_id, HOME, is_default=True)
    details = set()
    for user_id in (owner.user_id, str(new_id()), owner.user_id.replace("-", ""), f"{{{owner.user_id}}}", "1"):
        with pytest.raises(NotFound) as refusal:
            await use(auth, caller, user_id, str(place.id))
        details.add(refusal.value.detail)

    assert len(details) == 1, "what is foreign and what is missing must not be told apart"
    assert await auth.profile(owner, owner.user_id) == (ada, [place])


@pytest.mark.parametrize("access", ["staff", "admin"])
async def test_staff_see_every_profile_and_change_none(here: Process, access: str) -> None:
    ada, auth = await here.registered(), here.auth
    owner, caller = await here.signed_in(ada), await here.somebody(access)
    place = await auth.add_address(owner, owner.user_id, HOME, is_default=False)

    for read in _READS.values():
        await read(auth, caller, owner.user_id, str(place.id))
    for write in _WRITES.values():
        with pytest.raises(NotFound):
            await write(auth, caller, owner.user_id, str(place.id))
    assert await auth.profile(owner, owner.user_id) == (ada, [place])


async def test_an_id_may_be_written_in_capitals(here: Process) -> None:
    caller = await here.somebody()
    user, _ = await here.auth.profile(caller, caller.user_id.upper())

    assert str(user.id) == caller.user_id


async def test_other_roles_get_an_address_only_for_its_owner(here: Process) -> None:
    owner, eve, auth = await here.somebody(), await here.somebody(), here.auth
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


async def test_the_console_opens_accounts_and_sets_their_access(here: Process) -> None:
    auth, email = here.auth, fresh_email()
    opened = await auth.open_account(OpenAccount(email=email, name="Ada", password=PASSWORD, access="staff"))
    changed = await auth.set_access(SetAccess(email=email.upper(), access="admin"))

    assert (opened.email, opened.access) == (email, "staff")
    assert (changed.id, changed.access) == (opened.id, "admin")
    with pytest.raises(NotFound):
        await auth.set_access(SetAccess(email="nobody@example.com", access="admin"))


async def test_staff_find_users_by_how_their_address_begins(here: Process) -> None:
    staff, mark = await here.somebody("staff"), new_id().hex
    users = [await here.registered(email=f"{mark}-{place}@example.com") for place in range(5)]
    await here.registered(email=f"other-{mark}@example.com")

    first, cursor = await here.auth.users(staff, UserFilter(email=mark.upper()), None, 3)
    rest, end = await here.auth.users(staff, UserFilter(email=mark), cursor, 3)

    assert [*first, *rest] == users[::-1]
    assert (len(first), end) == (3, None)
    everybody, _ = await here.auth.users(staff, UserFilter(), None, 2)
    assert everybody[0].email == f"other-{mark}@example.com"


@pytest.mark.parametrize("prefix", ["%", "_", "\\", "'", "\U0010ffff", "zzz", "100%_"])
async def test_no_character_is_special_in_a_search(here: Process, prefix: str) -> None:
    await here.registered()

    for wanted in (UserFilter(email=prefix), UserFilter(text=f"{prefix} no such text")):
        assert await here.auth.users(await here.somebody("staff"), wanted, None, 10) == ([], None)


async def test_staff_find_users_by_a_part_of_name_or_address_and_by_role(here: Process) -> None:
    staff, mark = await here.somebody("staff"), new_id().hex
    named = await here.registered(name=f"Ada of {mark}")
    addressed = await here.registered("staff", email=f"a.{mark}@example.com")

    assert (await here.auth.users(staff, UserFilter(text=mark.upper()), None, 9))[0] == [addressed, named]
    assert (await here.auth.users(staff, UserFilter(text=mark, access="staff"), None, 9))[0] == [addressed]


async def test_blocked_user_cannot_sign_in_until_unblocked(here: Process) -> None:
    admin, user = await here.somebody("admin"), await here.registered()
    pair = await here.logged_in(user)

    assert (await here.auth.change_access(admin, str(user.id), None, blocked=True)).blocked
    with pytest.raises(TokenInvalid):
        await here.sessions.principal(pair.access_token)
    with pytest.raises(RefreshTokenInvalid):
        await here.sessions.refresh(pair.refresh_token)
    with pytest.raises(AccountBlocked):
        await here.logged_in(user)
    with pytest.raises(InvalidCredentials):
        await here.logged_in(user, "a wrong password")
    assert not (await here.auth.change_access(admin, str(user.id), None, blocked=False)).blocked
    assert await here.logged_in(user)


async def test_last_admin_cannot_be_blocked(here: Process) -> None:
    await here.database.execute("update auth.users set access = 'customer' where access = 'admin'")
    admin = await here.somebody("admin")
    with pytest.raises(LastAdmin):
        await here.auth.change_access(admin, admin.user_id, None, blocked=True)
    other = await here.somebody("admin")
    await here.auth.change_access(admin, other.user_id, None, blocked=True)
    with pytest.raises(LastAdmin):
        await here.auth.change_access(admin, admin.user_id, "staff")


async def test_customers_list_nobody_and_only_admins_say_who_may_what(here: Process) -> None:
    ada = await here.registered()
    for access in ("customer", "staff"):
        caller = await here.somebody(access)
        with pytest.raises(Forbidden):
            await here.auth.change_access(caller, str(ada.id), "admin")
        with pytest.raises(Forbidden):
            await here.auth.change_access(caller, caller.user_id, "admin")
    with pytest.raises(Forbidden):
        await here.auth.users(await here.somebody(), UserFilter(), None, 1)
    admin = await here.somebody("admin")
    for nobody in (str(new_id()), "1", ""):
        with pytest.raises(NotFound):
            await here.auth.change_access(admin, nobody, "staff")

    assert (await here.auth.change_access(admin, str(ada.id), "staff")).access == "staff"


async def test_the_last_admin_stays_one(here: Process) -> None:
    await here.database.execute("update auth.users set access = 'customer'")
    admin = await here.somebody("admin")
    for access in ("staff", "customer"):
        with pytest.raises(LastAdmin):
            await here.auth.change_access(admin, admin.user_id, access)
    assert (await here.auth.change_access(admin, admin.user_id, "admin")).access == "admin"
    await here.registered("admin")

    assert (await here.auth.change_access(admin, admin.user_id, "staff")).access == "staff"


async def test_of_two_admins_who_dismiss_each_other_one_stays(here: Process) -> None:
    for _ in range(10):
        await here.database.execute("update auth.users set access = 'customer'")
        one, two = await here.somebody("admin"), await here.somebody("admin")
        outcomes = await asyncio.gather(
            here.auth.change_access(one, two.user_id, "customer"),
            here.auth.change_access(two, one.user_id, "customer"),
            return_exceptions=True,
        )

        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LastAdmin", "User"]
        assert await here.database.fetchval("select count(*) from auth.users where access = 'admin'") == 1


async def test_registrations_are_limited_per_network(database: Database, passwords: Passwords) -> None:
    process = Process(database, passwords, public_rate=Rate(3, 60))
    for _ in range(3):
        await process.registered()
    with pytest.raises(TooManyRequests) as refusal:
        await process.registered()

    assert refusal.value.headers["RateLimit-Policy"] == '"register";q=3;w=60'
    ask = OpenAccount(email=fresh_email(), name="Ada", password=PASSWORD, access="staff")
    assert (await process.auth.open_account(ask)).access == "staff", "the operator is not limited"


async def test_operators_accounts_are_confirmed_and_others_are_not(here: Process) -> None:
    opened = await here.auth.open_account(
        OpenAccount(email=fresh_email(), name="Ada", password=PASSWORD, access="admin")
    )
    caller = await here.signed_in(await here.registered("admin"))

    assert (await here.auth.profile(caller, opened.id))[0].email_confirmed
    assert not (await here.auth.profile(caller, caller.user_id))[0].email_confirmed
