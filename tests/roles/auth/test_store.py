"""The SQL of role auth, on a real PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from purveyor.kit.clock import now
from purveyor.kit.errors import InvalidInput, NotFound
from purveyor.kit.ids import new_id
from purveyor.kit.postgres import Database
from purveyor.roles.auth.contract import EmailTaken
from purveyor.roles.auth.model import User
from purveyor.roles.auth.ports import StoredAddress
from purveyor.roles.auth.store import MAX_ADDRESSES, PostgresAccounts


@pytest.fixture
def accounts(database: Database) -> PostgresAccounts:
    return PostgresAccounts(database)


def somebody(email: str = "") -> User:
    user_id = new_id()
    return User(
        id=user_id,
        email=email or f"{user_id.hex}@example.com",
        name="Ada 'Lovelace'; --",
        phone="+49 30 1",
        language="de",
        access="customer",
        created_at=now(),
    )


async def registered(accounts: PostgresAccounts) -> User:
    user = somebody()
    await accounts.add(user, "hash")
    return user


def address(*, is_default: bool = False, city: str = "Berlin") -> StoredAddress:
    return StoredAddress(
        id=new_id(),
        recipient="Ada Lovelace",
        line1="1 High Street",
        line2="",
        city=city,
        region="",
        postal_code="10115",
        country="DE",
        phone="",
        is_default=is_default,
        created_at=now(),
    )


async def defaults(accounts: PostgresAccounts, user: User) -> list[UUID]:
    return [found.id for found in await accounts.addresses(user.id) if found.is_default]


async def test_an_account_comes_back_as_it_was_stored(accounts: PostgresAccounts) -> None:
    user = await registered(accounts)
    found = await accounts.find_credentials(user.email)

    assert await accounts.get(user.id) == user
    assert found is not None
    assert (found.user, found.password_hash) == (user, "hash")


async def test_of_many_registrations_at_once_with_one_address_one_wins(accounts: PostgresAccounts) -> None:
    email = f"{new_id().hex}@example.com"
    outcomes = await asyncio.gather(
        *(accounts.add(somebody(email), f"hash {place}") for place in range(20)), return_exceptions=True
    )
    winner = outcomes.index(None)
    found = await accounts.find_credentials(email)

    assert outcomes.count(None) == 1
    assert {type(outcome) for outcome in outcomes if outcome is not None} == {EmailTaken}
    assert found is not None
    assert found.password_hash == f"hash {winner}"


async def test_who_is_not_there(accounts: PostgresAccounts) -> None:
    assert await accounts.find_credentials("nobody@example.com") is None
    assert await accounts.addresses(new_id()) == []
    missing: list[Awaitable[object]] = [
        accounts.get(new_id()),
        accounts.set_access("nobody@example.com", "admin"),
        accounts.update(new_id(), name="x", phone=None, language=None),
        accounts.save_address(new_id(), address(), new=True),
    ]
    for lookup in missing:
        with pytest.raises(NotFound):
            await lookup


async def test_a_change_leaves_the_rest_and_the_others_as_they_are(accounts: PostgresAccounts) -> None:
    user, other = await registered(accounts), await registered(accounts)
    changed = await accounts.update(user.id, name="Ada King", phone=None, language=None)
    emptied = await accounts.update(user.id, name=None, phone="", language="en")

    assert changed == msgspec.structs.replace(user, name="Ada King")
    assert emptied == msgspec.structs.replace(changed, phone="", language="en")
    assert await accounts.get(user.id) == emptied
    assert await accounts.get(other.id) == other


async def test_access_and_password_are_those_of_one_account(accounts: PostgresAccounts) -> None:
    user, other = await registered(accounts), await registered(accounts)
    await accounts.set_access(user.email, "staff")
    await accounts.set_password_hash(user.id, "new hash")
    found, untouched = await accounts.find_credentials(user.email), await accounts.find_credentials(other.email)

    assert found is not None
    assert untouched is not None
    assert (found.user.access, found.password_hash) == ("staff", "new hash")
    assert (untouched.user.access, untouched.password_hash) == ("customer", "hash")


async def test_a_login_takes_only_the_accounts_own_expired_sessions_away(
    accounts: PostgresAccounts, database: Database
) -> None:
    user, other = await registered(accounts), await registered(accounts)
    long_ago, then = now() - timedelta(days=31), now() - timedelta(days=1)
    expired, running, foreign, new = (new_id() for _ in range(4))
    for session, owner, until in (
        (expired, user, then),
        (running, user, now() + timedelta(days=1)),
        (foreign, other, then),
    ):
        await accounts.add_session(session, owner.id, session.bytes, long_ago, until)
    await accounts.add_session(new, user.id, new.bytes, now(), now() + timedelta(days=30))
    rows = await database.fetch("select id from auth.sessions where user_id in ($1, $2)", user.id, other.id)

    assert {row["id"] for row in rows} == {running, foreign, new}


async def test_addresses_come_back_oldest_first(accounts: PostgresAccounts) -> None:
    user = await registered(accounts)
    stored = [await accounts.save_address(user.id, address(city=city), new=True) for city in ("Bonn", "Jena")]

    assert await accounts.addresses(user.id) == stored
    assert await accounts.address(user.id, stored[1].id) == stored[1]


async def test_a_new_default_takes_the_place_of_the_one_before(accounts: PostgresAccounts) -> None:
    user, other = await registered(accounts), await registered(accounts)
    await accounts.save_address(other.id, theirs := address(is_default=True), new=True)
    await accounts.save_address(user.id, address(is_default=True), new=True)
    await accounts.save_address(user.id, second := address(), new=True)
    replaced = msgspec.structs.replace(second, is_default=True, city="Jena")

    assert await accounts.save_address(user.id, replaced, new=False) == replaced
    assert await defaults(accounts, user) == [second.id]
    assert await defaults(accounts, other) == [theirs.id]


async def test_of_many_defaults_at_once_one_is_left(accounts: PostgresAccounts) -> None:
    user = await registered(accounts)
    await asyncio.gather(*(accounts.save_address(user.id, address(is_default=True), new=True) for _ in range(12)))

    assert len(await accounts.addresses(user.id)) == 12
    assert len(await defaults(accounts, user)) == 1


async def test_an_account_holds_a_bounded_number_of_addresses(accounts: PostgresAccounts) -> None:
    """Also of many that arrive at once."""
    user = await registered(accounts)
    outcomes = await asyncio.gather(
        *(accounts.save_address(user.id, address(), new=True) for _ in range(MAX_ADDRESSES + 10)),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, InvalidInput) for outcome in outcomes) == 10
    assert len(await accounts.addresses(user.id)) == MAX_ADDRESSES
    last = (await accounts.addresses(user.id))[-1]
    assert await accounts.save_address(user.id, last, new=False) == last


_TOUCH: dict[str, Callable[[PostgresAccounts, User, StoredAddress], Awaitable[object]]] = {
    "read": lambda accounts, user, found: accounts.address(user.id, found.id),
    "replace": lambda accounts, user, found: accounts.save_address(
        user.id, msgspec.structs.replace(found, city="Elsewhere", is_default=True), new=False
    ),
    "remove": lambda accounts, user, found: accounts.remove_address(user.id, found.id),
}


@pytest.mark.parametrize("touch", _TOUCH.values(), ids=_TOUCH)
@pytest.mark.parametrize("foreign", [True, False], ids=["foreign", "missing"])
async def test_somebody_elses_address_is_as_good_as_none(
    accounts: PostgresAccounts,
    touch: Callable[[PostgresAccounts, User, StoredAddress], Awaitable[object]],
    foreign: bool,
) -> None:
    user, other = await registered(accounts), await registered(accounts)
    await accounts.save_address(user.id, own := address(is_default=True), new=True)
    await accounts.save_address(other.id, theirs := address(is_default=True), new=True)

    with pytest.raises(NotFound) as refusal:
        await touch(accounts, user, theirs if foreign else address())

    assert refusal.value.detail == "There is no such address."
    assert await accounts.addresses(other.id) == [theirs]
    assert await accounts.addresses(user.id) == [own], "a refused change must not cost the default"


async def test_an_address_is_removed_once(accounts: PostgresAccounts) -> None:
    user = await registered(accounts)
    await accounts.save_address(user.id, kept := address(), new=True)
    await accounts.save_address(user.id, gone := address(is_default=True), new=True)
    await accounts.remove_address(user.id, gone.id)

    assert await accounts.addresses(user.id) == [kept]
    with pytest.raises(NotFound):
        await accounts.remove_address(user.id, gone.id)
