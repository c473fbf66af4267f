"""The SQL of sessions."""

from collections.abc import Sequence
from uuid import UUID

from purveyor.kit.postgres import Database
from purveyor.roles.auth.ports import EVERY_VERSION, Credentials, Holder, NewestToken, Session
from purveyor.roles.auth.store import USER_COLUMNS, user_of
from purveyor.roles.auth.store_revocations import AGAIN, LEEWAY_S


class PostgresSessions:
    """Satisfies ``SessionBook``; ``token_lifetime_s`` is an access token's, in seconds."""

    def __init__(self, database: Database, token_lifetime_s: int) -> None:
        self._database = database
        self._remember_s = token_lifetime_s + LEEWAY_S

    async def find_credentials(self, email: str) -> Credentials | None:
        """See ``SessionBook``."""
        row = await self._database.fetchrow(
            f"select {USER_COLUMNS}, u.password_hash from auth.users u where u.email = $1",  # noqa: S608 - our columns
            email,
        )
        return None if row is None else Credentials(user_of(row), row["password_hash"])

    async def open(
        self, session: Session, refresh_hash: bytes, known: Credentials, new_password_hash: str | None
    ) -> Holder | None:
        """See ``SessionBook``. The lock makes a log-in and a new password follow one another."""
        row = await self._database.fetchrow(
            f"""
            with account as (
                select {USER_COLUMNS}, u.token_version from auth.users u
                where u.id = $1 and u.password_hash = $2 for no key update
            ), expired as (
                delete from auth.sessions where user_id = $1 and expires_at < now()
            ), rehashed as (
                update auth.users u set password_hash = $3 from account
                where u.id = account.id and $3::text is not null
            ), opened as (
                insert into auth.sessions (id, user_id, refresh_hash, created_at, expires_at)
                select $4, id, $5, $6, $7 from account
            )
            select * from account""",  # noqa: S608 - our columns
            known.user.id,
            known.password_hash,
            new_password_hash,
            session.id,
            refresh_hash,
            session.created_at,
            session.expires_at,
        )
        return None if row is None else Holder(user_of(row), row["token_version"])

    async def rotate(self, session_id: UUID, generation: int, old_hash: bytes, new_hash: bytes) -> Holder | None:
        """See ``SessionBook``. Of many at once the first one's update counts: the others' find nothing."""
        row = await self._database.fetchrow(
            f"""
            with rotated as (
                update auth.sessions set generation = generation + 1, refresh_hash = $4, refreshed_at = now()
                where id = $1 and generation = $2 and refresh_hash = $3 and expires_at > now()
                returning user_id
            )
            select {USER_COLUMNS}, u.token_version from rotated join auth.users u on u.id = user_id""",  # noqa: S608
            session_id,
            generation,
            old_hash,
            new_hash,
        )
        return None if row is None else Holder(user_of(row), row["token_version"])

    async def newest(self, session_id: UUID) -> NewestToken | None:
        """See ``SessionBook``."""
        row = await self._database.fetchrow(
            f"""
            select s.generation, s.refresh_hash, s.refreshed_at > now() - interval '10 seconds' as recent,
                {USER_COLUMNS}, u.token_version
            from auth.sessions s join auth.users u on u.id = s.user_id
            where s.id = $1 and s.expires_at > now()""",  # noqa: S608 - our columns
            session_id,
        )
        if row is None:
            return None
        holder = Holder(user_of(row), row["token_version"])
        return NewestToken(holder, row["generation"], row["refresh_hash"], row["recent"])

    async def end(self, session_id: UUID) -> None:
        """See ``SessionBook``."""
        await self._database.execute(
            f"""
            with ended as (delete from auth.sessions where id = $1)
            insert into auth.revocations (id, version, expires_at)
            values ($1, {EVERY_VERSION}, now() + make_interval(secs => $2)) {AGAIN}""",  # noqa: S608 - constants
            session_id,
            self._remember_s,
        )

    async def all(self, user_id: UUID) -> Sequence[Session]:
        """See ``SessionBook``."""
        rows = await self._database.fetch(
            """
            select id, created_at, refreshed_at, expires_at from auth.sessions
            where user_id = $1 and expires_at > now() order by id""",
            user_id,
        )
        return [Session(**row) for row in rows]

    async def purge(self) -> int:
        """Delete the sessions that have expired."""
        return await self._database.purge("auth.sessions", "expires_at < now()")
