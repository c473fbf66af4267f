"""Notices events that were published and then vanished, whichever broker lost them."""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta

from purveyor.kit.clock import now
from purveyor.kit.errors import Unavailable
from purveyor.kit.events.outbox import Outbox
from purveyor.kit.events.transport import DeadLetter
from purveyor.kit.ids import first_id_of
from purveyor.kit.metrics import EVENTS_UNACCOUNTED
from purveyor.roles.email.contract import Email

log = logging.getLogger(__name__)

IN_TRANSIT = timedelta(minutes=5)
"""Younger events may still be on their way."""
OVERLAP = timedelta(minutes=10)
"""Each look reaches back so far beyond the one before, for events whose publishing was delayed."""
FIRST_LOOK = timedelta(hours=1)
_PAGE = 500


class UnaccountedEvents:
    """Compares published events with the mail ledger, and exports how many it lacks.

    ``app reconcile --apply`` publishes them again. While role email is down nothing is known, and the gauge stays.
    """

    def __init__(
        self,
        outbox: Outbox,
        email: Email,
        dead_letters: Callable[[], Awaitable[Sequence[DeadLetter]]],
        types: Sequence[str],
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._outbox, self._email, self._dead_letters = outbox, email, dead_letters
        self._types, self._clock = types, clock
        self._since = clock() - FIRST_LOOK
        self._known: set[str] = set()

    async def look(self) -> None:
        """Examine what was published since the last look, and what was missing then."""
        until = self._clock() - IN_TRANSIT
        try:
            missing = await self._unrecorded(sorted(self._known))
            after = str(first_id_of(self._since))
            while page := await self._outbox.published(self._types, until, after, _PAGE):
                missing |= await self._unrecorded(page)
                after = page[-1]
            if missing:
                missing -= {letter.event_id for letter in await self._dead_letters()}
        except Unavailable as away:
            log.info("unaccounted events not examined", extra={"reason": away.detail})
            return
        self._since = until - OVERLAP
        self._report(missing)

    async def _unrecorded(self, event_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(event_ids), _PAGE):
            found.update(await self._email.unrecorded(event_ids[start : start + _PAGE]))
        return found

    def _report(self, missing: Collection[str]) -> None:
        if new := set(missing) - self._known:
            log.error(
                "events vanished, run app reconcile",
                extra={"events": len(new), "event_ids": sorted(new)[:10]},
            )
        self._known = set(missing)
        EVENTS_UNACCOUNTED.set(len(missing))
