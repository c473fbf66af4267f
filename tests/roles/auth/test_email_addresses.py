"""Addresses that are confirmed and changed: what a mailed token can do, who is told, and races."""

import asyncio

import pytest

from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import InvalidInput, NotFound, TokenInvalid, TooManyRequests
from purveyor.kit.limits.memory import Rate
from purveyor.roles.auth.contract import (
    ConfirmationTokenInvalid,
    EmailChanged,
    EmailConfirmationRequested,
    EmailConfirmed,
    EmailTaken,
    PasswordResetRequested,
    ResetTokenInvalid,
    TooManyLogins,
    UserRegistered,
    WrongPassword,
)
from purveyor.roles.auth.model import User
from purveyor.roles.auth.passwords import Passwords
from roles.auth.samples import HERE, NEW_PASSWORD, PASSWORD, Process, fresh_email


async def welcomed(process: Process, user: User) -> str:
    """The token in the welcome mail."""
    (event,) = await process.events(UserRegistered, user.id)
    return event.confirmation_token


async def wanted(process: Process, user: User, email: str) -> str:
    """The token with which the address of a user is changed."""
    await process.emails.change(await process.signed_in(user), str(user.id), email, PASSWORD, HERE)
    return (await process.events(EmailConfirmationRequested, user.id))[-1].token


async def profile(process: Process, user: User) -> User:
    return await process.stores.accounts.get(user.id)


async def test_token_of_the_welcome_mail_confirms_the_address_once(here: Process) -> None:
    user = await here.registered()
    token = await welcomed(here, user)
    assert not (await profile(here, user)).email_confirmed
    confirmed = await here.emails.confirm(token, HERE)

    assert confirmed.email_confirmed
    assert (await profile(here, user)).email_confirmed
    assert await here.events(EmailConfirmed, user.id) == [
        EmailConfirmed(user_id=str(user.id), user_email=user.email)
    ]
    with pytest.raises(ConfirmationTokenInvalid) as refusal:
        await here.emails.confirm(token, HERE)
    assert [field.pointer for field in refusal.value.errors] == ["/token"]


async def test_mails_about_a_confirmed_account_say_so(here: Process) -> None:
    user = await here.registered()
    await here.forget_password(user.email)
    await here.emails.confirm(await welcomed(here, user), HERE)
    await here.forget_password(user.email)

    events = await here.events(PasswordResetRequested, user.id)
    assert [event.recipient_confirmed for event in events] == [False, True]


@pytest.mark.parametrize("token", ["", "nonsense", "a" * 200, "' or 1=1 --", "\u00e9"])
async def test_what_is_no_token_confirms_nothing(here: Process, token: str) -> None:
    with pytest.raises(ConfirmationTokenInvalid):
        await here.emails.confirm(token, HERE)


async def test_token_works_for_three_days(here: Process) -> None:
    user = await here.registered()
    token = await welcomed(here, user)
    await here.database.execute(
        "update auth.email_confirmations set created_at = created_at - interval '73 hours'"
    )
    with pytest.raises(ConfirmationTokenInvalid):
        await here.emails.confirm(token, HERE)
    await here.stores.emails.purge()
    again = await wanted(here, user, user.email)

    assert (await here.emails.confirm(again, HERE)).email_confirmed


async def test_address_changes_when_the_new_one_is_confirmed(here: Process) -> None:
    user, email = await here.registered(), fresh_email()
    caller = await here.signed_in(user)
    await here.forget_password(user.email)
    (reset,) = await here.events(PasswordResetRequested, user.id)
    token = await wanted(here, user, email.upper())
    assert (await profile(here, user)).email == user.email
    changed = await here.emails.confirm(token, HERE)

    assert (changed.email, changed.email_confirmed) == (email, True)
    (notice,) = await here.events(EmailChanged, user.id)
    assert (notice.user_email, notice.recipient_confirmed) == (user.email, False)
    with pytest.raises(TokenInvalid):
        await here.sessions.principal(caller.token)
    assert (await here.signed_in(changed)).email == email
    with pytest.raises(ResetTokenInvalid):
        await here.changes.reset(reset.token, NEW_PASSWORD, HERE)


async def test_change_needs_the_password_and_is_limited_like_logins(
    database: Database, passwords: Passwords
) -> None:
    process = Process(database, passwords, Rate(3, 60))
    user = await process.registered()
    caller = await process.signed_in(user)
    for _ in range(2):
        with pytest.raises(WrongPassword) as refusal:
            await process.emails.change(caller, caller.user_id, fresh_email(), "a guess", HERE)
        assert [field.pointer for field in refusal.value.errors] == ["/password"]
    with pytest.raises(TooManyLogins):
        await process.emails.change(caller, caller.user_id, fresh_email(), PASSWORD, HERE)


async def test_only_ones_own_address_can_be_changed(here: Process) -> None:
    user, admin = await here.registered(), await here.somebody("admin")
    with pytest.raises(NotFound):
        await here.emails.change(admin, str(user.id), fresh_email(), PASSWORD, HERE)


async def test_address_of_somebody_else_is_refused_now_and_later(here: Process) -> None:
    user, other, email = await here.registered(), await here.registered(), fresh_email()
    with pytest.raises(EmailTaken):
        await wanted(here, user, other.email)
    token = await wanted(here, user, email)
    await here.registered(email=email)
    with pytest.raises(EmailTaken):
        await here.emails.confirm(token, HERE)

    assert (await profile(here, user)).email == user.email


async def test_confirmed_address_needs_no_new_token(here: Process) -> None:
    user = await here.registered()
    await here.emails.confirm(await welcomed(here, user), HERE)
    with pytest.raises(InvalidInput) as refusal:
        await wanted(here, user, user.email)

    assert [field.pointer for field in refusal.value.errors] == ["/email"]


async def test_newest_token_counts_and_of_many_uses_one(here: Process, neighbour: Process) -> None:
    user = await here.registered()
    first = await welcomed(here, user)
    token = await wanted(here, user, fresh_email())
    with pytest.raises(ConfirmationTokenInvalid):
        await here.emails.confirm(first, HERE)
    uses = [process.emails.confirm(token, HERE) for process in (here, neighbour) for _ in range(4)]
    outcomes = await asyncio.gather(*uses, return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConfirmationTokenInvalid"] * 7 + ["User"]


async def test_confirmations_are_limited_per_network_and_mailbox(database: Database, passwords: Passwords) -> None:
    process = Process(database, passwords, public_rate=Rate(3, 60))
    for _ in range(3):
        with pytest.raises(ConfirmationTokenInvalid):
            await process.emails.confirm("a guess", HERE)
    with pytest.raises(TooManyRequests):
        await process.emails.confirm("a guess", HERE)
    user, email = await process.registered(), fresh_email()
    for _ in range(5):
        await wanted(process, user, email)
    with pytest.raises(TooManyRequests):
        await wanted(process, user, email)
