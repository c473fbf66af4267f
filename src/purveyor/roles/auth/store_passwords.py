"""The SQL of passwords and of the tokens to reset them. Whatever is locked, the account's row is locked first."""

from uuid import UUID

from purveyor.kit.ids import new_id
from purveyor.kit.message import Envelope
from purveyor.kit.postgres import Connection, Database
from purveyor.roles.auth.model import User
from purveyor.roles.auth.ports import Credentials
from purveyor.roles.auth.store import USER_COLUMNS, user_of
from purveyor.roles.auth.store_outbox import emit
from purveyor.roles.auth.store_revocations import end_sessions, revoke_account

_RESETS_PER_HOUR = 3

_WORKS = "r.token_hash = $1 and r.used_at is null and r.created_at > now() - interval '30 minutes'"


class PostgresPasswords:
    """Satisfies ``PasswordBook``; ``token_lifetime_s`` is an access token's, in seconds."""

    def __init__(self, database: Database, token_lifetime_s: int) -> None:
        self._database = database
        self._token_lifetime_s = token_lifetime_s

    async def find(self, user_id: UUID) -> Credentials | None:
        """See ``PasswordBook``."""
        row = await self._database.fetchrow(
            f"select {USER_COLUMNS}, u.password_hash from auth.users u where u.id = $1",  # noqa: S608 - our columns
            user_id,
        )
        return None if row is None else Credentials(user_of(row), row["password_hash"])

    async def find_owner(self, email: str) -> User | None:
        """See ``PasswordBook``."""
        row = await self._database.fetchrow(
            f"select {USER_COLUMNS} from auth.users u where u.email = $1",  # noqa: S608 - our columns
            email,
        )
        return None if row is None else user_of(row)

    async def change(self, known: Credentials, new_hash: str, kept_session: UUID) -> bool:
        """See ``PasswordBook``."""
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
        return bool(changed)

    async def request_reset(self, user: User | None, token_hash: bytes, event: Envelope | None) -> bool:
        """See ``PasswordBook``. For an address without an account the same is done for one that does not exist."""
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
                await emit(connection, event)
        return granted

    async def can_reset(self, token_hash: bytes) -> bool:
        """See ``PasswordBook``."""
        found = await self._database.fetchval(
            f"select true from auth.password_resets r where {_WORKS} and r.user_id is not null",  # noqa: S608
            token_hash,
        )
        return bool(found)

    async def reset(self, token_hash: bytes, new_hash: str) -> User | None:
        """See ``PasswordBook``. Of two at once the second waits for the first one's lock, and finds it used up."""
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
        return user_of(row)

    async def purge(self) -> int:
        """Delete the tokens that no longer count for anything."""
        return await self._database.purge("auth.password_resets", "created_at < now() - interval '1 hour'")


async def _use_up_resets(connection: Connection, user_id: UUID) -> None:
    await connection.execute(
        "update auth.password_resets set used_at = now() where user_id = $1 and used_at is null", user_id
    )
