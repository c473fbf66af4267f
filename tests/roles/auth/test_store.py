"""The SQL of role auth, on a real PostgreSQL."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from purveyor.kit.clock import now
from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import InvalidInput, NotFound
from purveyor.kit.ids import new_id
from purveyor.kit.poll import regularly
from purveyor.registry import ROLES
from purveyor.roles.auth.contract import EmailTaken
from purveyor.roles.auth.model import StoredAddress, User
from purveyor.roles.auth.store import MAX_ADDRESSES
from purveyor_drill.servers.postgres import PostgresServer
from roles.auth.samples import Stores, a_user, fresh_email, welcome
from waiting import PATIENCE_S


@pytest.fixture
def stores(database: Database) -> Stores:
    return Stores(database)


async def registered(stores: Stores) -> User:
    user = a_user()
    await stores.accounts.add(user, "hash", welcome(user))
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


async def defaults(stores: Stores, user: User) -> list[UUID]:
    return [found.id for found in await stores.addresses.all(user.id) if found.is_default]


async def test_an_account_comes_back_as_it_was_stored(stores: Stores) -> None:
    user = await registered(stores)
    found = await stores.sessions.find_credentials(user.email)

    assert await stores.accounts.get(user.id) == user
    assert found is not None
    assert (found.user, found.password_hash) == (user, "hash")


async def test_accounts_that_are_read_at_once_come_back_each_to_its_caller(stores: Stores) -> None:
    users = [await registered(stores) for _ in range(5)]
    ids = [*(user.id for user in users), new_id(), users[0].id]
    found = await asyncio.gather(*map(stores.accounts.get, ids), return_exceptions=True)

    assert found[:5] == users
    assert isinstance(found[5], NotFound)
    assert found[6] == users[0]


async def test_account_is_read_as_it_is_when_it_is_asked_for(stores: Stores) -> None:
    """Other reads are under way all the time; none of them may answer with an older state."""
    user = await registered(stores)
    reading = True

    async def read_on() -> None:
        while reading:
            await stores.accounts.get(user.id)

    readers = [asyncio.create_task(read_on()) for _ in range(8)]
    for name in ("Grace", "Edsger", "Barbara") * 10:
        await stores.accounts.update(user.id, name=name, phone=None, language=None)
        assert (await stores.accounts.get(user.id)).name == name
    reading = False
    await asyncio.gather(*readers)


async def test_of_many_registrations_at_once_with_one_address_one_wins(stores: Stores) -> None:
    email = fresh_email()
    users = [a_user(email) for _ in range(20)]
    outcomes = await asyncio.gather(
        *(stores.accounts.add(user, f"hash {place}", welcome(user)) for place, user in enumerate(users)),
        return_exceptions=True,
    )
    winner = outcomes.index(None)
    found = await stores.sessions.find_credentials(email)

    assert outcomes.count(None) == 1
    assert {type(outcome) for outcome in outcomes if outcome is not None} == {EmailTaken}
    assert found is not None
    assert found.password_hash == f"hash {winner}"


async def test_who_is_not_there(stores: Stores) -> None:
    assert await stores.sessions.find_credentials("nobody@example.com") is None
    assert await stores.addresses.all(new_id()) == []
    missing: list[Awaitable[object]] = [
        stores.accounts.get(new_id()),
        stores.accounts.set_access("nobody@example.com", "admin"),
        stores.accounts.update(new_id(), name="x", phone=None, language=None),
        stores.addresses.save(new_id(), address(), new=True),
    ]
    for lookup in missing:
        with pytest.raises(NotFound):
            await lookup


async def test_a_change_leaves_the_rest_and_the_others_as_they_are(stores: Stores) -> None:
    user, other = await registered(stores), await registered(stores)
    changed = await stores.accounts.update(user.id, name="Ada King", phone=None, language=None)
    emptied = await stores.accounts.update(user.id, name=None, phone="", language="en")

    assert changed == msgspec.structs.replace(user, name="Ada King")
    assert emptied == msgspec.structs.replace(changed, phone="", language="en")
    assert await stores.accounts.get(user.id) == emptied
    assert await stores.accounts.get(other.id) == other


async def test_access_is_that_of_one_account(stores: Stores) -> None:
    user, other = await registered(stores), await registered(stores)
    await stores.accounts.set_access(user.email, "staff")

    assert (await stores.accounts.get(user.id)).access == "staff"
    assert (await stores.accounts.get(other.id)).access == "customer"


async def test_addresses_come_back_oldest_first(stores: Stores) -> None:
    user = await registered(stores)
    stored = [await stores.addresses.save(user.id, address(city=city), new=True) for city in ("Bonn", "Jena")]

    assert await stores.addresses.all(user.id) == stored
    assert await stores.addresses.get(user.id, stored[1].id) == stored[1]


async def test_a_new_default_takes_the_place_of_the_one_before(stores: Stores) -> None:
    user, other = await registered(stores), await registered(stores)
    await stores.addresses.save(other.id, theirs := address(is_default=True), new=True)
    await stores.addresses.save(user.id, address(is_default=True), new=True)
    await stores.addresses.save(user.id, second := address(), new=True)
    replaced = msgspec.structs.replace(second, is_default=True, city="Jena")

    assert await stores.addresses.save(user.id, replaced, new=False) == replaced
    assert await defaults(stores, user) == [second.id]
    assert await defaults(stores, other) == [theirs.id]


async def test_of_many_defaults_at_once_one_is_left(stores: Stores) -> None:
    user = await registered(stores)
    await asyncio.gather(*(stores.addresses.save(user.id, address(is_default=True), new=True) for _ in range(12)))

    assert len(await stores.addresses.all(user.id)) == 12
    assert len(await defaults(stores, user)) == 1


async def test_an_account_holds_a_bounded_number_of_addresses(stores: Stores) -> None:
    """Also of many that arrive at once."""
    user = await registered(stores)
    outcomes = await asyncio.gather(
        *(stores.addresses.save(user.id, address(), new=True) for _ in range(MAX_ADDRESSES + 10)),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, InvalidInput) for outcome in outcomes) == 10
    assert len(await stores.addresses.all(user.id)) == MAX_ADDRESSES
    last = (await stores.addresses.all(user.id))[-1]
    assert await stores.addresses.save(user.id, last, new=False) == last


_TOUCH: dict[str, Callable[[Stores, User, StoredAddress], Awaitable[object]]] = {
    "read": lambda stores, user, found: stores.addresses.get(user.id, found.id),
    "replace": lambda stores, user, found: stores.addresses.save(
        user.id, msgspec.structs.replace(found, city="Elsewhere", is_default=True), new=False
    ),
    "remove": lambda stores, user, found: stores.addresses.remove(user.id, found.id),
}


@pytest.mark.parametrize("touch", _TOUCH.values(), ids=_TOUCH)
@pytest.mark.parametrize("foreign", [True, False], ids=["foreign", "missing"])
async def test_somebody_elses_address_is_as_good_as_none(
    stores: Stores,
    touch: Callable[[Stores, User, StoredAddress], Awaitable[object]],
    foreign: bool,
) -> None:
    user, other = await registered(stores), await registered(stores)
    await stores.addresses.save(user.id, own := address(is_default=True), new=True)
    await stores.addresses.save(other.id, theirs := address(is_default=True), new=True)

    with pytest.raises(NotFound) as refusal:
        await touch(stores, user, theirs if foreign else address())

    assert refusal.value.detail == "There is no such address."
    assert await stores.addresses.all(other.id) == [theirs]
    assert await stores.addresses.all(user.id) == [own], "a refused change must not cost the default"


async def test_an_address_is_removed_once(stores: Stores) -> None:
    user = await registered(stores)
    await stores.addresses.save(user.id, kept := address(), new=True)
    await stores.addresses.save(user.id, gone := address(is_default=True), new=True)
    await stores.addresses.remove(user.id, gone.id)

    assert await stores.addresses.all(user.id) == [kept]
    with pytest.raises(NotFound):
        await stores.addresses.remove(user.id, gone.id)


async def test_what_the_first_version_stored_is_still_there(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    url = postgres_server.create_database("auth_of_the_first_version")
    migrations = ROLES["auth"].migrations
    assert migrations is not None
    shutil.copy(migrations / "0001_accounts.sql", tmp_path)
    await migrate(url, "auth", tmp_path)
    user, session = a_user(), new_id()
    async with open_database(url, application="tests", max_size=2) as database:
        await database.execute(
            """
            insert into auth.users
                (id, email, name, phone, language, access, password_hash, created_at, updated_at)
            values ($1, $2, $3, $4, $5, $6, 'hash', $7, $7)""",
            *(user.id, user.email, user.name, user.phone, user.language, user.access, user.created_at),
        )
        await database.execute(
            "insert into auth.sessions values ($1, $2, $3, now(), now() + interval '30 days')",
            session,
            user.id,
            b"hash",
        )
        await migrate(url, "auth", migrations)
        stores = Stores(database)

        assert await stores.accounts.get(user.id) == user
        assert [found.id for found in await stores.sessions.all(user.id)] == [session]
        assert (await stores.accounts.set_access(user.email, "staff")).access == "staff"


async def test_what_has_expired_is_deleted(stores: Stores, database: Database) -> None:
    user, other = await registered(stores), await registered(stores)
    for owner, days in ((user, -1), (other, 1)):
        await database.execute(
            """
            insert into auth.sessions (id, user_id, refresh_hash, created_at, expires_at)
            values ($1, $2, $3, now(), now() + make_interval(days => $4))""",
            new_id(),
            owner.id,
            owner.id.bytes,
            days,
        )
    purging = asyncio.create_task(regularly(3600.0, stores.revocations.purge, stores.sessions.purge))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await database.fetchval("select count(*) from auth.sessions where user_id = $1", user.id):
                await asyncio.sleep(0.05)
    finally:
        purging.cancel()

    assert len(await stores.sessions.all(other.id)) == 1
