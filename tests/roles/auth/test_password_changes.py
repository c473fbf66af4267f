"""Passwords that are changed and forgotten: which sessions end, what a mailed token can do, and races."""

import asyncio

import pytest

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import InvalidInput, TokenInvalid, TooManyRequests
from purveyor.kit.limits.memory import Rate
from purveyor.roles.auth.contract import (
    InvalidCredentials,
    PasswordResetRequested,
    ResetTokenInvalid,
    TooManyLogins,
    WrongPassword,
)
from purveyor.roles.auth.model import User
from purveyor.roles.auth.passwords import Passwords
from roles.auth.samples import HERE, NEW_PASSWORD, PASSWORD, Process, fresh_email
from roles.auth.test_sessions import refused, works


async def mailed(process: Process, user: User) -> list[str]:
    """The tokens that went out to somebody, oldest first."""
    return [event.token for event in await process.events(PasswordResetRequested, user.id)]


async def forgotten(process: Process, user: User) -> str:
    await process.forget_password(user.email)
    return (await mailed(process, user))[-1]


async def grow_old(process: Process, user: User, minutes: int) -> None:
    await process.database.execute(
        "update auth.password_resets set created_at = created_at - make_interval(mins => $2) where user_id = $1",
        user.id,
        minutes,
    )


async def opens(process: Process, user: User, password: str) -> bool:
    try:
        await process.logged_in(user, password)
    except InvalidCredentials:
        return False
    return True


async def test_a_changed_password_ends_all_sessions_but_this_one(here: Process, neighbour: Process) -> None:
    user = await here.registered()
    others = [await here.logged_in(user) for _ in range(3)]
    this = await here.logged_in(user)
    stranger = await here.logged_in(await here.registered())
    await here.changes.change(await here.sessions.principal(this.access_token), PASSWORD, NEW_PASSWORD, HERE)
    await neighbour.revocations.sync()

    for process in (here, neighbour):
        assert [await works(process, pair) for pair in others] == [False] * 3
        assert await works(process, this)
        assert await works(process, stranger)
    assert [await refused(here, pair.refresh_token) for pair in others] == [True] * 3
    assert await here.sessions.refresh(this.refresh_token)
    assert not await opens(here, user, PASSWORD)
    assert await opens(here, user, NEW_PASSWORD)


async def test_who_does_not_know_the_password_cannot_change_it(here: Process) -> None:
    user = await here.registered()
    caller = await here.signed_in(user)
    with pytest.raises(WrongPassword) as refusal:
        await here.changes.change(caller, "a guess", NEW_PASSWORD, HERE)
    assert [field.pointer for field in refusal.value.errors] == ["/current_password"]
    for bad in ("short", "x" * 129, "password"):
        with pytest.raises(InvalidInput) as refused_input:
            await here.changes.change(caller, PASSWORD, bad, HERE)
        assert [field.pointer for field in refused_input.value.errors] == ["/new_password"]

    assert await opens(here, user, PASSWORD)


async def test_guesses_at_the_present_password_are_limited_as_log_ins_are(
    here: Process, passwords: Passwords
) -> None:
    user = await here.registered()
    caller = await here.signed_in(user)
    strict = Process(here.database, passwords, Rate(3, 60))
    guesses = (strict.changes.change(caller, "a guess", NEW_PASSWORD, f"192.0.2.{n}") for n in range(50))
    outcomes = [type(outcome) for outcome in await asyncio.gather(*guesses, return_exceptions=True)]

    assert (outcomes.count(WrongPassword), outcomes.count(TooManyLogins)) == (3, 47)
    with pytest.raises(TooManyLogins):
        await strict.logged_in(user)


async def test_a_log_in_with_the_old_password_cannot_outlive_the_change(here: Process) -> None:
    """Whichever comes first: what the old password opened is ended, or does not open."""
    for _ in range(10):
        user = await here.registered()
        caller = await here.signed_in(user)
        pair, _ = await asyncio.gather(
            here.logged_in(user),
            here.changes.change(caller, PASSWORD, NEW_PASSWORD, HERE),
            return_exceptions=True,
        )

        assert isinstance(pair, InvalidCredentials) or await refused(here, pair.refresh_token)
        assert len(await here.stores.sessions.all(user.id)) == 1


async def test_a_mailed_token_sets_a_password_once_and_ends_every_session(
    here: Process, neighbour: Process
) -> None:
    user = await here.registered()
    pairs = [await here.logged_in(user) for _ in range(2)]
    await here.changes.reset(await forgotten(here, user), NEW_PASSWORD, HERE)
    await neighbour.revocations.sync()

    assert [await works(process, pair) for process in (here, neighbour) for pair in pairs] == [False] * 4
    assert [await refused(here, pair.refresh_token) for pair in pairs] == [True] * 2
    assert not await opens(here, user, PASSWORD)
    assert await opens(here, user, NEW_PASSWORD)
    (token,) = await mailed(here, user)
    with pytest.raises(ResetTokenInvalid) as refusal:
        await here.changes.reset(token, PASSWORD, HERE)
    assert [field.pointer for field in refusal.value.errors] == ["/token"]
    assert await opens(here, user, NEW_PASSWORD)


async def test_the_event_says_who_it_is_for_and_until_when(here: Process) -> None:
    user = await here.registered(language="es")
    woken = here.wakes.count
    await here.forget_password(user.email.upper())
    (event,) = await here.events(PasswordResetRequested, user.id)
    row = await here.database.fetchrow(
        "select language, correlation_id from auth.outbox where subject = $1 and type = $2",
        str(user.id),
        PasswordResetRequested.type,
    )

    assert (event.user_email, event.user_name) == (user.email, user.name)
    left_s = (event.expires_at - user.created_at).total_seconds()
    assert 29 * 60 < left_s < 32 * 60
    assert row is not None
    assert row["language"] == "es"
    assert here.wakes.count == woken + 1


async def test_a_token_is_stored_as_its_hash(here: Process) -> None:
    user = await here.registered()
    token = await forgotten(here, user)
    row = await here.database.fetchrow("select * from auth.password_resets where user_id = $1", user.id)

    assert token not in str(row)
    assert len(token) >= 43


async def test_a_token_works_for_thirty_minutes(here: Process) -> None:
    user = await here.registered()
    early, late = await forgotten(here, user), await forgotten(here, user)
    await grow_old(here, user, 29)
    await here.changes.reset(early, NEW_PASSWORD, HERE)
    with pytest.raises(ResetTokenInvalid):
        await here.changes.reset(late, PASSWORD, HERE)
    token = await forgotten(here, user)
    await grow_old(here, user, 31)
    with pytest.raises(ResetTokenInvalid):
        await here.changes.reset(token, PASSWORD, HERE)


async def test_a_change_makes_tokens_that_are_out_worthless(here: Process) -> None:
    user = await here.registered()
    token = await forgotten(here, user)
    await here.changes.change(await here.signed_in(user), PASSWORD, NEW_PASSWORD, HERE)

    with pytest.raises(ResetTokenInvalid):
        await here.changes.reset(token, PASSWORD, HERE)


@pytest.mark.parametrize("token", ["", "nonsense", "a" * 200, "' or 1=1 --", "\u00e9"])
async def test_what_is_no_token_resets_nothing(here: Process, token: str) -> None:
    await here.forget_password(fresh_email())
    with pytest.raises(ResetTokenInvalid):
        await here.changes.reset(token, NEW_PASSWORD, HERE)


async def test_a_password_that_is_refused_leaves_the_token(here: Process) -> None:
    user = await here.registered()
    token = await forgotten(here, user)
    for bad in ("short", "password1"):
        with pytest.raises(InvalidInput) as refusal:
            await here.changes.reset(token, bad, HERE)
        assert [field.pointer for field in refusal.value.errors] == ["/password"]

    await here.changes.reset(token, NEW_PASSWORD, HERE)


async def test_of_many_uses_at_once_one_counts(here: Process, neighbour: Process) -> None:
    for _ in range(5):
        user = await here.registered()
        tokens = [await forgotten(here, user) for _ in range(2)]
        attempts = [
            process.changes.reset(token, f"{NEW_PASSWORD} {number}", HERE)
            for number, (process, token) in enumerate(
                [(process, token) for process in (here, neighbour) for token in tokens for _ in range(3)]
            )
        ]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)

        assert outcomes.count(None) == 1
        assert {type(outcome) for outcome in outcomes} == {type(None), ResetTokenInvalid}
        assert await opens(here, user, f"{NEW_PASSWORD} {outcomes.index(None)}")


async def test_at_most_three_mails_an_hour_go_to_an_account(here: Process, neighbour: Process) -> None:
    user = await here.registered()
    for _ in range(4):
        await here.forget_password(user.email)
    await asyncio.gather(*(process.forget_password(user.email) for process in (here, neighbour) * 5))
    assert len(await mailed(here, user)) == 3
    await here.changes.reset((await mailed(here, user))[0], NEW_PASSWORD, HERE)
    await here.forget_password(user.email)
    assert len(await mailed(here, user)) == 3, "a token that was used is a mail that was sent"
    await grow_old(here, user, 61)
    await here.forget_password(user.email)

    assert len(await mailed(here, user)) == 4


async def test_asking_for_nobody_does_the_same_and_mails_nobody(dsn: str, passwords: Passwords) -> None:
    statements: list[str] = []
    async with open_database(dsn, application="counted", max_size=1) as database:
        here = Process(database, passwords)
        known, began = await here.registered(), now()
        woken = here.wakes.count
        async with database.connection() as connection:
            connection.add_query_logger(lambda logged: statements.append(logged.query))
        costs = []
        for email in (known.email, "nobody@example.com", "no address"):
            statements.clear()
            await here.changes.forgot(email, HERE)
            costs.append([statement for statement in statements if "auth." in statement])
        assert here.wakes.count == woken
        await here.changes.send_tokens()
        told = await database.fetchval(
            "select array_agg(distinct subject) from auth.outbox where type = $1 and occurred_at >= $2",
            PasswordResetRequested.type,
            began,
        )
        assert told == [str(known.id)]
        assert len(await mailed(here, known)) == 1
        assert await database.fetchval("select count(*) from auth.reset_wishes") == 0

    of_known, *of_others = costs
    assert of_others == [of_known, of_known]
    assert len(of_known) == 1


async def test_forgetting_and_resetting_are_limited_per_network(database: Database, passwords: Passwords) -> None:
    process = Process(database, passwords, public_rate=Rate(3, 60))
    token = await forgotten(process, await process.registered())
    for _ in range(2):
        await process.changes.forgot(fresh_email(), HERE)
        with pytest.raises(ResetTokenInvalid):
            await process.changes.reset("a guess", NEW_PASSWORD, HERE)
    with pytest.raises(TooManyRequests):
        await process.changes.forgot(fresh_email(), HERE)
    with pytest.raises(ResetTokenInvalid):
        await process.changes.reset("a guess", NEW_PASSWORD, HERE)
    with pytest.raises(TooManyRequests):
        await process.changes.reset(token, NEW_PASSWORD, HERE)
    await process.changes.reset(token, NEW_PASSWORD, "198.51.100.1")


async def test_all_addresses_of_a_mailbox_share_its_mails(here: Process) -> None:
    """Registrations and resets count, also those of accounts that were erased since."""
    name = fresh_email().partition("@")[0]
    first = await here.registered(email=f"{name}@example.com")
    for place in range(2):
        caller = await here.signed_in(await here.registered(email=f"{name}+{place}@example.com"))
        await here.privacy.erase(caller, caller.user_id)
    for _ in range(3):
        await here.forget_password(first.email)
    with pytest.raises(TooManyRequests) as refusal:
        await here.registered(email=f"{name}+another@example.com")

    assert len(await mailed(here, first)) == 2
    assert refusal.value.headers["Retry-After"] == "3600"
    await here.database.execute("update auth.mailings set at = at - interval '61 minutes'")
    assert await here.registered(email=f"{name}+another@example.com")


async def test_tokens_are_thrown_away_after_an_hour(here: Process) -> None:
    user = await here.registered()
    await here.forget_password(user.email)
    await here.forget_password(fresh_email())
    await here.database.execute("update auth.password_resets set created_at = created_at - interval '59 minutes'")
    await here.stores.passwords.purge()
    assert await here.database.fetchval("select count(*) from auth.password_resets") >= 2
    await here.database.execute("update auth.password_resets set created_at = created_at - interval '2 minutes'")
    await here.stores.passwords.purge()

    assert await here.database.fetchval("select count(*) from auth.password_resets") == 0


async def test_a_session_that_has_ended_changes_no_password(here: Process) -> None:
    caller = await here.somebody()
    await here.sessions.log_out(caller)

    with pytest.raises(TokenInvalid):
        await here.changes.change(caller, PASSWORD, NEW_PASSWORD, HERE)
