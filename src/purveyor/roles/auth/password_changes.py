"""Change a password, and reset a forgotten one."""

import hashlib
import logging
import secrets
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from purveyor.kit import security_log
from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Connection, Database
from purveyor.kit.errors import TokenInvalid
from purveyor.kit.events.message import Cause, Envelope
from purveyor.kit.events.outbox import emit
from purveyor.kit.limits.memory import Decision
from purveyor.roles.auth import model
from purveyor.roles.auth.admission import Admission, count_mail
from purveyor.roles.auth.contract import (
    PasswordChanged,
    PasswordResetRequested,
    Principal,
    ResetTokenInvalid,
    WrongPassword,
)
from purveyor.roles.auth.model import Credentials, User, about
from purveyor.roles.auth.passwords import Passwords, Verdict, Work
from purveyor.roles.auth.revocations import end_sessions, revoke_account
from purveyor.roles.auth.sessions import Sessions
from purveyor.roles.auth.store import USER_COLUMNS, user_of
from purveyor.roles.auth.throttle import Throttle

log = logging.getLogger(__name__)
_RESET_LIFETIME = timedelta(minutes=30)


class PasswordChanges:
    """The use cases of passwords. ``committed`` is called after an event was stored and wakes the relay."""

    def __init__(
        self,
        store: "PasswordStore",
        passwords: Passwords,
        sessions: Sessions,
        throttle: Throttle,
        *,
        admission: Admission,
        password_min_length: int,
        committed: Callable[[], None],
    ) -> None:
        self._admission = admission
        self._store = store
        self._passwords = passwords
        self._sessions = sessions
        self._throttle = throttle
        self._min_length = password_min_length
        self._committed = committed

    async def change(self, caller: Principal, current: str, new: str, network: str) -> Decision:
        """Replace the caller's password; their other sessions end.

        Attempts are limited like logins; returns how many are left. Raises
        ``WrongPassword``, ``InvalidInput``, ``TooManyLogins``.
        """
        token = self._sessions.read(caller.token)
        model.check_password(new, self._min_length, "/new_password")
        known = await self._store.find(token.user_id)
        if known is None:
            raise TokenInvalid
        async with self._throttle.attempt(known.user.email, network) as limit:
            if await self._passwords.check(current, known.password_hash, Work.CHANGE) is Verdict.WRONG:
                raise WrongPassword
            new_hash = await self._passwords.hash(new, Work.CHANGE)
            if not await self._store.change(known, new_hash, token.session_id):
                raise WrongPassword  # changed by someone else during the check
        self._committed()
        await self._sessions.heed_revocations()
        security_log.record("password.changed", subject=caller.user_id, actor=caller.user_id, by="password")
        return limit

    async def forgot(self, email: str, network: str) -> None:
        """Note that somebody asks for a reset token. Raises ``TooManyRequests`` for a network's flood of wishes.

        ``send_tokens`` looks later whether the account exists, so that the caller cannot tell by the time this or
        what comes next takes.
        """
        await self._admission.admit("forgot", network)
        await self._store.note_wish(model.account_name(email), Cause.current())

    async def send_tokens(self) -> None:
        """Mail a token for each wish about an account, at most 3 an hour."""
        while wishes := await self._store.grant_wishes(_granted):
            log.debug("password resets handled", extra={"wishes": wishes})
            self._committed()

    async def reset(self, token: str, password: str, network: str) -> None:
        """Set a new password and end all sessions.

        Raises ``ResetTokenInvalid``, ``InvalidInput``, ``TooManyRequests``.
        """
        model.check_password(password, self._min_length)
        await self._admission.admit("reset", network)
        if not await self._store.can_reset(_hash(token)):  # before the expensive hash
            raise ResetTokenInvalid
        user = await self._store.reset(_hash(token), await self._passwords.hash(password, Work.CHANGE))
        if user is None:
            raise ResetTokenInvalid
        self._committed()
        await self._throttle.forgive(user.email, network)
        await self._sessions.heed_revocations()
        security_log.record("password.changed", subject=str(user.id), actor=str(user.id), by="reset")


def _granted(user: User, cause: Cause) -> tuple[bytes, Envelope]:
    """The hash of a new token, and the event that carries it."""
    token = secrets.token_urlsafe(32)
    event = PasswordResetRequested(
        user_id=str(user.id),
        user_email=user.email,
        user_name=user.name,
        token=token,
        expires_at=now() + _RESET_LIFETIME,
        recipient_confirmed=user.email_confirmed,
    )
    return _hash(token), about(user, event, cause)


def _changed(user: User) -> Envelope:
    event = PasswordChanged(
        user_id=str(user.id),
        user_email=user.email,
        user_name=user.name,
        recipient_confirmed=user.email_confirmed,
    )
    return about(user, event)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


_RESETS_PER_HOUR = 3
_BATCH = 100
_WORKS = "r.token_hash = $1 and r.used_at is null and r.created_at > now() - interval '30 minutes'"


class PasswordStore:
    """Stores passwords and reset tokens. ``token_lifetime_s`` is the lifetime of an access token, in seconds."""

    def __init__(self, database: Database, token_lifetime_s: int) -> None:
        self._database = database
        self._token_lifetime_s = token_lifetime_s

    async def find(self, user_id: UUID) -> Credentials | None:
        """The account with this id."""
        row = await self._database.fetchrow(
            f"select {USER_COLUMNS}, u.password_hash from auth.users u where u.id = $1",  # noqa: S608 - our columns
            user_id,
        )
        return None if row is None else Credentials(user_of(row), row["password_hash"])

    async def change(self, known: Credentials, new_hash: str, kept_session: UUID) -> bool:
        """Replace a password and end all other sessions; ``False`` when it is not the checked one any more."""
        user_id = known.user.id
        async with self._database.transaction() as connection:
            changed = await connection.fetchval(
                """
                update auth.users set password_hash = $3, updated_at = now() where id = $1 and password_hash = $2
                returning true""",
                user_id,
                known.password_hash,
                new_hash,
            )
            if changed:
                await end_sessions(connection, user_id, self._token_lifetime_s, kept_session)
                await _use_up_resets(connection, user_id)
                await emit(connection, "auth", _changed(known.user))
        return bool(changed)

    async def note_wish(self, email: str, cause: Cause) -> None:
        """Store that a token is wanted for this address. Of the wishes that wait, an address has one."""
        await self._database.execute(
            """
            insert into auth.reset_wishes (email, correlation_id, traceparent) values ($1, $2, $3)
            on conflict (email) do nothing""",
            email,
            cause.correlation_id,
            cause.traceparent,
        )

    async def grant_wishes(self, grant: Callable[[User, Cause], tuple[bytes, Envelope]]) -> int:
        """Handle a batch of wishes; how many. Those of accounts get a token and the event that carries it.

        An account gets at most 3 tokens an hour, and a mailbox no more mails than anybody can cause.
        """
        async with self._database.transaction() as connection:
            wishes = await connection.fetch(
                f"""
                delete from auth.reset_wishes where email in (
                    select email from auth.reset_wishes order by at limit {_BATCH} for update skip locked
                )
                returning email, correlation_id, traceparent"""  # noqa: S608 - our own number
            )
            for wish in wishes:
                cause = Cause(correlation_id=wish["correlation_id"], traceparent=wish["traceparent"])
                await self._grant(connection, wish["email"], cause, grant)
        return len(wishes)

    async def _grant(
        self,
        connection: Connection,
        email: str,
        cause: Cause,
        grant: Callable[[User, Cause], tuple[bytes, Envelope]],
    ) -> None:
        row = await connection.fetchrow(
            f"""
            select {USER_COLUMNS} from auth.users u
            where u.email = $1 and (
                select count(*) from auth.password_resets r
                where r.user_id = u.id and r.created_at > now() - interval '1 hour'
            ) < {_RESETS_PER_HOUR} for no key update""",  # noqa: S608 - our columns and number
            email,
        )
        if row is None or not await count_mail(connection, email):
            return
        user = user_of(row)
        token_hash, event = grant(user, cause)
        await connection.execute(
            "insert into auth.password_resets (token_hash, user_id) values ($1, $2)", token_hash, user.id
        )
        await emit(connection, "auth", event)

    async def can_reset(self, token_hash: bytes) -> bool:
        """Return whether a token works now."""
        found = await self._database.fetchval(
            f"select true from auth.password_resets r where {_WORKS} and r.user_id is not null",  # noqa: S608
            token_hash,
        )
        return bool(found)

    async def reset(self, token_hash: bytes, new_hash: str) -> User | None:
        """Use a token: set the password and end all sessions. ``None`` when the token does not work.

        The second of two concurrent calls waits for the lock of the first and finds the token used.
        """
        async with self._database.transaction() as connection:
            user_id = await connection.fetchval(
                """
                select u.id from auth.users u
                where u.id = (select user_id from auth.password_resets where token_hash = $1) for no key update""",
                token_hash,
            )
            works = await connection.fetchval(
                f"select true from auth.password_resets r where {_WORKS} and r.user_id = $2",  # noqa: S608 - ours
                token_hash,
                user_id,
            )
            if not works:
                return None
            row = await connection.fetchrow(
                f"""
                update auth.users u set password_hash = $2, token_version = token_version + 1, updated_at = now()
                where u.id = $1 returning {USER_COLUMNS}, u.token_version""",  # noqa: S608 - our columns
                user_id,
                new_hash,
            )
            await end_sessions(connection, user_id, self._token_lifetime_s, None)
            await revoke_account(connection, user_id, self._token_lifetime_s, row["token_version"])
            await _use_up_resets(connection, user_id)
            await emit(connection, "auth", _changed(user_of(row)))
        return user_of(row)

    async def purge(self) -> int:
        """Delete old tokens and counted mails, which no longer count against a limit either."""
        await self._database.purge("auth.mailings", "at < now() - interval '1 hour'")
        return await self._database.purge("auth.password_resets", "created_at < now() - interval '1 hour'")


async def _use_up_resets(connection: Connection, user_id: UUID) -> None:
    await connection.execute(
        "update auth.password_resets set used_at = now() where user_id = $1 and used_at is null", user_id
    )
