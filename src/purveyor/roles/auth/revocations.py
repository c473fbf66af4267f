"""Which access tokens no longer work: kept in memory, so that checking a token costs no query."""

import asyncio
import logging
import time
from datetime import datetime
from uuid import UUID

from purveyor.kit.errors import Unavailable
from purveyor.roles.auth.ports import RevocationList
from purveyor.roles.auth.tokens import AccessToken

log = logging.getLogger(__name__)

POLL_S = 1.0
_PRUNE_EVERY_S = 60.0
_NOTHING = (0, 0.0)


class Revocations:
    """What this process knows of revoked tokens. ``run`` keeps it no more than about a second old.

    While the database is away nothing new is heard; an access token lives for 10 minutes at most.
    """

    def __init__(self, table: RevocationList) -> None:
        self._table = table
        self._known: dict[UUID, tuple[int, float]] = {}
        self._heard: datetime | None = None
        self._prune_at = 0.0

    def cover(self, token: AccessToken) -> bool:
        """Whether the token was revoked: with its session, or with all that its holder had before some moment."""
        return any(
            token.version < self._known.get(subject, _NOTHING)[0] for subject in (token.session_id, token.user_id)
        )

    async def sync(self) -> None:
        """Read what is new. After a revocation in this process: it counts here at once."""
        try:
            for found in await self._table.since(self._heard):
                self._known[found.id] = (found.version, found.expires_at.timestamp())
                self._heard = max(found.revoked_at, self._heard or found.revoked_at)
        except Unavailable as away:
            log.warning("revoked tokens cannot be read: %s", away)
        self._prune()

    async def run(self) -> None:
        """Read what is new until cancelled."""
        while True:
            await self.sync()
            await asyncio.sleep(POLL_S)

    def _prune(self) -> None:
        now = time.time()
        if now >= self._prune_at:
            self._prune_at = now + _PRUNE_EVERY_S
            self._known = {key: kept for key, kept in self._known.items() if kept[1] > now}
