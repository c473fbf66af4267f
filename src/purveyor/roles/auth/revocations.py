"""Revoked access tokens, kept in memory so that checking a token costs no query."""

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from purveyor.kit.db.postgres import Connection, Database
from purveyor.kit.errors import Unavailable
from purveyor.roles.auth.tokens import AccessToken

log = logging.getLogger(__name__)
POLL_S = 1.0
_PRUNE_EVERY_S = 60.0
_NOTHING = (0, 0.0)
EVERY_VERSION = 2**31 - 1
"""In a revocation: tokens of every version."""


class Revocation(msgspec.Struct, frozen=True):
    """Revokes access tokens of a session or an account (``id`` is either's) below a version."""

    id: UUID
    version: int
    revoked_at: datetime
    expires_at: datetime


class Revocations:
    """The revocations that this process knows. ``run`` refreshes them every second.

    While the database is away, new revocations are missed. An access token lives for 10 minutes at most.
    """

    def __init__(self, store: "RevocationStore") -> None:
        self._store = store
        self._known: dict[UUID, tuple[int, float]] = {}
        self._heard: datetime | None = None
        self._prune_at = 0.0

    def cover(self, token: AccessToken) -> bool:
        """Return whether the token was revoked, with its session or by its version."""
        return any(
            token.version < self._known.get(subject, _NOTHING)[0] for subject in (token.session_id, token.user_id)
        )

    async def sync(self) -> None:
        """Read new revocations. Called after a revocation in this process, so that it counts here at once."""
        try:
            for found in await self._store.since(self._heard):
                self._known[found.id] = (found.version, found.expires_at.timestamp())
                self._heard = max(found.revoked_at, self._heard or found.revoked_at)
        except Unavailable as away:
            log.warning("revoked tokens cannot be read: %s", away)
        self._prune()

    async def run(self) -> None:
        """Read new revocations until cancelled."""
        while True:
            await self.sync()
            await asyncio.sleep(POLL_S)

    def _prune(self) -> None:
        now = time.time()
        if now >= self._prune_at:
            self._prune_at = now + _PRUNE_EVERY_S
            self._known = {key: kept for key, kept in self._known.items() if kept[1] > now}


AGAIN = """
    on conflict (id) do update set version = greatest(revocations.version, excluded.version),
        revoked_at = clock_timestamp(), expires_at = excluded.expires_at"""
"""The end of an insert into ``auth.revocations``: an earlier revocation is renewed."""
LEEWAY_S = 60.0
"""Seconds for which a revocation outlives the access token, because clocks differ."""


class RevocationStore:
    """Stores revocations for as long as the access tokens could work otherwise."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def since(self, moment: datetime | None) -> Sequence[Revocation]:
        """Revocations since shortly before this moment; all of them without one.

        The overlap of 30 s finds those of transactions that committed late: none takes that long.
        """
        rows = await self._database.fetch(
            """
            select id, version, revoked_at, expires_at from auth.revocations
            where expires_at > now() and ($1::timestamptz is null or revoked_at > $1 - interval '30 seconds')""",
            moment,
        )
        return [Revocation(row["id"], row["version"], row["revoked_at"], row["expires_at"]) for row in rows]

    async def purge(self) -> int:
        """Delete revocations of expired tokens."""
        return await self._database.purge("auth.revocations", "expires_at < now()")


async def end_sessions(connection: Connection, user_id: UUID, token_lifetime_s: int, kept: UUID | None) -> None:
    """End all sessions of an account but one, and revoke their access tokens."""
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
    """Revoke an account's access tokens below a version."""
    await connection.execute(
        f"""
        insert into auth.revocations (id, version, expires_at)
        values ($1, $2, now() + make_interval(secs => $3)) {AGAIN}""",  # noqa: S608 - constants
        user_id,
        below,
        token_lifetime_s + LEEWAY_S,
    )
