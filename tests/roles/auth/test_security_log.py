"""The log of security events: what happened, to whom, by whom and from which network."""

import logging
from collections.abc import Awaitable, Callable

import pytest

from purveyor.kit import security_log
from purveyor.roles.auth.contract import InvalidCredentials, SetAccess
from purveyor.roles.auth.model import User
from roles.auth.samples import HERE, NEW_PASSWORD, PASSWORD, Process, fresh_email
from roles.auth.test_email_addresses import wanted
from roles.auth.test_password_changes import forgotten

NETWORK = "203.0.113.7"


async def guess(here: Process, user: User) -> str:
    with pytest.raises(InvalidCredentials):
        await here.logged_in(user, "wrong password")
    return ""


async def promote(here: Process, user: User) -> str:
    admin = await here.somebody("admin")
    await here.auth.change_access(admin, str(user.id), "staff")
    return admin.user_id


async def block(here: Process, user: User) -> str:
    admin = await here.somebody("admin")
    await here.auth.change_access(admin, str(user.id), None, blocked=True)
    return admin.user_id


async def promote_from_the_console(here: Process, user: User) -> str:
    await here.auth.set_access(SetAccess(email=user.email, access="staff"))
    return "console"


async def change_password(here: Process, user: User) -> str:
    await here.changes.change(await here.signed_in(user), PASSWORD, NEW_PASSWORD, HERE)
    return str(user.id)


async def reset_password(here: Process, user: User) -> str:
    await here.changes.reset(await forgotten(here, user), NEW_PASSWORD, HERE)
    return str(user.id)


async def change_email(here: Process, user: User) -> str:
    await here.emails.confirm(await wanted(here, user, fresh_email()), HERE)
    return str(user.id)


async def export(here: Process, user: User) -> str:
    await here.privacy.export(await here.signed_in(user), str(user.id), wait_s=0)
    return str(user.id)


async def erase(here: Process, user: User) -> str:
    admin = await here.somebody("admin")
    await here.privacy.erase(admin, str(user.id))
    return admin.user_id


STEPS: list[tuple[str, Callable[[Process, User], Awaitable[str]]]] = [
    ("login.failed", guess),
    ("access.changed", promote),
    ("access.changed", block),
    ("access.changed", promote_from_the_console),
    ("password.changed", change_password),
    ("password.changed", reset_password),
    ("email.changed", change_email),
    ("export", export),
    ("erased", erase),
]


@pytest.mark.parametrize(("event", "step"), STEPS, ids=[step.__name__ for _, step in STEPS])
async def test_event_is_logged_once_with_network_subject_and_actor(
    here: Process,
    caplog: pytest.LogCaptureFixture,
    event: str,
    step: Callable[[Process, User], Awaitable[str]],
) -> None:
    user = await here.registered()
    security_log.network.set(NETWORK)
    with caplog.at_level(logging.INFO, logger=security_log.log.name):
        actor = await step(here, user)

    (record,) = [record for record in caplog.records if record.name == security_log.log.name]
    assert record.getMessage() == event
    assert (record.network, record.subject, record.actor) == (  # type: ignore[attr-defined]
        NETWORK,
        str(user.id),
        actor,
    )


async def test_address_without_account_is_logged_as_its_hash(
    here: Process, caplog: pytest.LogCaptureFixture
) -> None:
    address = fresh_email()
    with caplog.at_level(logging.INFO, logger=security_log.log.name), pytest.raises(InvalidCredentials):
        await here.sessions.log_in(address.upper(), PASSWORD, HERE)

    (record,) = [record for record in caplog.records if record.name == security_log.log.name]
    assert record.subject == security_log.unknown_subject(address)  # type: ignore[attr-defined]
    assert address not in caplog.text.lower()
