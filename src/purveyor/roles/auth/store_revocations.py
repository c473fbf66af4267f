"""The SQL that takes access tokens back, part of whatever transaction is the reason for it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from purveyor.kit.postgres import Connection, Database
from purveyor.roles.auth.ports import EVERY_VERSION, Revocation

AGAIN = """
    on conflict (id) do update set version = greatest(revocations.version, excluded.version),
        revoked_at = clock_timestamp(), expires_at = excluded.expires_at"""
"""The end of an insert into ``auth.revocations``: what was revoked before is told anew."""

LEEWAY_S = 60.0
"""How much longer than an access token lives its revocation is kept: clocks may differ."""


class PostgresRevocations:
    """Satisfies ``RevocationList``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def since(self, moment: datetime | None) -> Sequence[Revocation]:
        """See ``RevocationList``. No transaction takes 30 s: none is missed that was committed late."""
        rows = await self._database.fetch(
            """
            select id, version, revoked_at, expires_at from auth.revocations
            where expires_at > now() and ($1::timestamptz is null or revoked_at > $1 - interval '30 seconds')""",
            moment,
        )
        return [Revocation(row["id"], row["version"], row["revoked_at"], row["expires_at"]) for row in rows]

    async def purge(self) -> int:
        """Forget those whose tokens have expired."""
        return await self._database.purge("auth.revocations", "expires_at < now()")


async def end_sessions(connection: Connection, user_id: UUID, token_lifetime_s: int, kept: UUID | None) -> None:
    """End the account's sessions but one, and revoke the access tokens that they may still have."""
    await connection.execute(
        f"""
        with ended as (
            delete from auth.sessions where user_id = $1 and id is distinct from $2 returning id, refreshed_at
        )
        insert into auth.revocations (id, version, expires_at)
        select id, {EVERY_VERSION}, now() + make_interval(secs => $3)
        from ended where refreshed_at > now() - make_interval(secs => $3) {AGAIN}""",  # noqa: S608 - constants
        user_id,
        kept,
        token_lifetime_s + LEEWAY_S,
    )


async def revoke_account(connection: Connection, user_id: UUID, token_lifetime_s: int, below: int) -> None:
    """Revoke the account's access tokens with a version below this one."""
    await connection.execute(
        f"""
        insert into auth.revocations (id, version, expires_at)
        values ($1, $2, now() + make_interval(secs => $3)) {AGAIN}""",  # noqa: S608 - constants
        user_id,
        below,
        token_lifetime_s + LEEWAY_S,
    )
