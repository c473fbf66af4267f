"""Change a password, and reset a forgotten one."""

import hashlib
import secrets
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Connection, Database
from purveyor.kit.errors import TokenInvalid
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import emit
from purveyor.kit.ids import new_id
from purveyor.kit.limits.memory import Decision
from purveyor.roles.auth import model
from purveyor.roles.auth.contract import (
    PasswordChanged,
    PasswordResetRequested,
    Principal,
    ResetTokenInvalid,
    WrongPassword,
)
from purveyor.roles.auth.model import Credentials, User, about
from purveyor.roles.auth.passwords import Passwords, Verdict
from purveyor.roles.auth.revocations import end_sessions, revoke_account
from purveyor.roles.auth.sessions import Sessions
from purveyor.roles.auth.store import USER_COLUMNS, user_of
from purveyor.roles.auth.throttle import Throttle

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
        password_min_length: int,
        committed: Callable[[], None],
    ) -> None:
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
            if await self._passwords.check(current, known.password_hash) is Verdict.WRONG:
                raise WrongPassword
            if not await self._store.change(known, await self._passwords.hash(new), token.session_id):
                raise WrongPassword  # changed by someone else during the check
        self._committed()
        await self._sessions.heed_revocations()
        return limit

    async def forgot(self, email: str) -> None:
        """Mail a reset token if there is an account with this address, at most 3 an hour.

        The caller cannot tell whether the account exists, not even by the time this takes.
        """
        user = await self._store.find_owner(model.account_name(email))
        token = secrets.token_urlsafe(32)
        event = about(user, _reset_requested(user, token)) if user else None
        if await self._store.request_reset(user, _hash(token), event):
            self._committed()

    async def reset(self, token: str, password: str) -> None:
        """Set a new password and end all sessions. Raises ``ResetTokenInvalid``, ``InvalidInput``."""
        model.check_password(password, self._min_length)
        if not await self._store.can_reset(_hash(token)):  # before the expensive hash
            raise ResetTokenInvalid
        user = await self._store.reset(_hash(token), await self._passwords.hash(password))
        if user is None:
            raise ResetTokenInvalid
        self._committed()
        await self._throttle.forgive(user.email)
        await self._sessions.heed_revocations()


def _reset_requested(user: User, token: str) -> PasswordResetRequested:
    return PasswordResetRequested(
        user_id=str(user.id),
        user_email=user.email,
        user_name=user.name,
        token=token,
        expires_at=now() + _RESET_LIFETIME,
    )


def _changed(user: User) -> Envelope:
    return about(user, PasswordChanged(user_id=str(user.id), user_email=user.email, user_name=user.name))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


_RESETS_PER_HOUR = 3
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

    async def find_owner(self, email: str) -> User | None:
        """The account with this email address."""
        row = await self._database.fetchrow(
            f"select {USER_COLUMNS} from auth.users u where u.email = $1",  # noqa: S608 - our columns
            email,
        )
        return None if row is None else user_of(row)

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

    async def request_reset(self, user: User | None, token_hash: bytes, event: Envelope | None) -> bool:
        """Store a token and emit the event that carries it; whether a mail will be sent.

        An account gets at most 3 tokens an hour. Without a user the same work is done, so that it takes as long.
        """
        user_id = user.id if user else new_id()
        async with self._database.transaction() as connection:
            known = await connection.fetchval(
                "select true from auth.users where id = $1 for no key update", user_id
            )
            so_far = await connection.fetchval(
                """
                select count(*) from auth.password_resets
                where user_id = $1 and created_at > now() - interval '1 hour'""",
                user_id,
            )
            granted = bool(known) and so_far < _RESETS_PER_HOUR and event is not None
            await connection.execute(
                "insert into auth.password_resets (token_hash, user_id) values ($1, $2)",
                token_hash,
                user_id if granted else None,
            )
            if granted and event is not None:
                await emit(connection, "auth", event)
        return granted

    async def can_reset(self, token_hash: bytes) -> bool:
        """Whether a token works now."""
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
        """Delete old tokens, which no longer count against the limit either."""
        return await self._database.purge("auth.password_resets", "created_at < now() - interval '1 hour'")


async def _use_up_resets(connection: Connection, user_id: UUID) -> None:
    await connection.execute(
        "update auth.password_resets set used_at = now() where user_id = $1 and used_at is null", user_id
    )
