"""Confirm the email address of an account, and change it."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import asyncpg

from purveyor.kit import security_log
from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Connection, Database
from purveyor.kit.errors import NotFound
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import emit
from purveyor.kit.limits.memory import Decision
from purveyor.kit.text import invalid
from purveyor.roles.auth import model
from purveyor.roles.auth.admission import Admission, require_mail
from purveyor.roles.auth.confirmation import LIFETIME_DAYS, ConfirmationToken, hash_of, store_token
from purveyor.roles.auth.contract import (
    ConfirmationTokenInvalid,
    EmailChanged,
    EmailConfirmationRequested,
    EmailConfirmed,
    EmailTaken,
    Principal,
    WrongPassword,
)
from purveyor.roles.auth.model import NO_ACCOUNT, Credentials, User, about, visible
from purveyor.roles.auth.passwords import Passwords, Verdict, Work
from purveyor.roles.auth.revocations import revoke_account
from purveyor.roles.auth.sessions import Sessions
from purveyor.roles.auth.store import USER_COLUMNS, user_of
from purveyor.roles.auth.throttle import Throttle


class EmailAddresses:
    """The use cases of email addresses. ``committed`` is called after an event was stored and wakes the relay."""

    def __init__(
        self,
        store: "EmailStore",
        passwords: Passwords,
        sessions: Sessions,
        throttle: Throttle,
        *,
        admission: Admission,
        committed: Callable[[], None],
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._throttle = throttle
        self._admission = admission
        self._committed = committed

    async def change(self, caller: Principal, user_id: str, email: str, password: str, network: str) -> Decision:
        """Send a confirmation to an address, which then becomes the caller's own. It may be the current one.

        Attempts are limited like logins; returns how many are left. Raises ``NotFound``, ``InvalidInput``,
        ``WrongPassword``, ``EmailTaken``, ``TooManyLogins`` and ``TooManyRequests``.
        """
        owner = visible(caller, user_id)
        address = model.normal_email(email)
        known = await self._store.find(owner)
        if known.user.email == address and known.user.email_confirmed:
            raise invalid("/email", "is your address already, and it is confirmed")
        async with self._throttle.attempt(known.user.email, network) as limit:
            if await self._passwords.check(password, known.password_hash, Work.CHANGE) is Verdict.WRONG:
                raise WrongPassword(errors=[_WRONG])
        token = ConfirmationToken()
        await self._store.request(known.user, address, token, _requested(known.user, address, token.text))
        self._committed()
        return limit

    async def confirm(self, token: str, network: str) -> User:
        """Confirm the address that a token was sent to; a new one replaces the account's.

        Raises ``ConfirmationTokenInvalid``, ``TooManyRequests``, and ``EmailTaken`` if the address was registered
        since.
        """
        await self._admission.admit("confirm", network)
        before, after = await self._store.confirm(hash_of(token))
        self._committed()
        if before.email != after.email:
            await self._sessions.heed_revocations()
            security_log.record("email.changed", subject=str(after.id), actor=str(after.id))
        return after


_WRONG = invalid("/password", "is not the current password").errors[0]


def _requested(user: User, address: str, token: str) -> Envelope:
    event = EmailConfirmationRequested(
        user_id=str(user.id),
        user_email=address,
        user_name=user.name,
        token=token,
        expires_at=now() + timedelta(days=LIFETIME_DAYS),
    )
    return about(user, event)


class EmailStore:
    """Stores confirmations of addresses. ``token_lifetime_s`` is the lifetime of an access token, in seconds."""

    def __init__(self, database: Database, token_lifetime_s: int) -> None:
        self._database = database
        self._token_lifetime_s = token_lifetime_s

    async def find(self, user_id: UUID) -> Credentials:
        """An account with its password. Raises ``NotFound``."""
        row = await self._database.fetchrow(
            f"select {USER_COLUMNS}, u.password_hash from auth.users u where u.id = $1",  # noqa: S608 - our columns
            user_id,
        )
        if row is None:
            raise NotFound(NO_ACCOUNT)
        return Credentials(user_of(row), row["password_hash"])

    async def request(self, user: User, email: str, token: ConfirmationToken, event: Envelope) -> None:
        """Store a token for an address and emit the event that carries it.

        Raises ``EmailTaken``, and ``TooManyRequests`` for too many mails to a mailbox.
        """
        async with self._database.transaction() as connection:
            if await connection.fetchval(
                "select true from auth.users where email = $1 and id <> $2", email, user.id
            ):
                raise EmailTaken
            await require_mail(connection, email)
            await store_token(connection, user.id, email, token)
            await emit(connection, "auth", event)

    async def confirm(self, token_hash: bytes) -> tuple[User, User]:
        """Use a token and emit ``EmailConfirmed``; the account before and after.

        A new address ends reset tokens that went to the old one.

        Raises ``ConfirmationTokenInvalid`` and ``EmailTaken``.
        """
        try:
            async with self._database.transaction() as connection:
                row = await connection.fetchrow(
                    f"""
                    with used as (
                        delete from auth.email_confirmations
                        where token_hash = $1 and created_at > now() - interval '{LIFETIME_DAYS} days'
                        returning user_id, email
                    )
                    select {USER_COLUMNS}, used.email as confirmed
                    from used join auth.users u on u.id = used.user_id for no key update of u""",  # noqa: S608 - our columns
                    token_hash,
                )
                if row is None:
                    raise ConfirmationTokenInvalid
                before = user_of(row)
                return before, await self._set_confirmed(connection, before, row["confirmed"])
        except asyncpg.UniqueViolationError as error:
            raise EmailTaken from error

    async def _set_confirmed(self, connection: Connection, before: User, email: str) -> User:
        row = await connection.fetchrow(
            f"""
            update auth.users u set email = $2, email_confirmed_at = now(), updated_at = now(),
                token_version = token_version + (email <> $2)::int
            where u.id = $1 returning {USER_COLUMNS}, u.token_version""",  # noqa: S608 - our columns
            before.id,
            email,
        )
        after = user_of(row)
        confirmed = EmailConfirmed(user_id=str(after.id), user_email=after.email)
        await emit(connection, "auth", about(after, confirmed))
        if before.email != email:
            await revoke_account(connection, before.id, self._token_lifetime_s, row["token_version"])
            await connection.execute(
                "update auth.password_resets set used_at = now() where user_id = $1 and used_at is null", before.id
            )
            notice = EmailChanged(
                user_id=str(before.id),
                user_email=before.email,
                user_name=before.name,
                recipient_confirmed=before.email_confirmed,
            )
            await emit(connection, "auth", about(after, notice))
        return after

    async def purge(self) -> int:
        """Delete expired tokens."""
        return await self._database.purge(
            "auth.email_confirmations", f"created_at < now() - interval '{LIFETIME_DAYS} days'"
        )
