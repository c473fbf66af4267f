"""How long things are kept: the text of a mail after it was sent, and what addresses were erased."""

import asyncio
import logging

from purveyor.roles.email.erasure import REMEMBERED_DAYS
from purveyor.roles.email.ports import Ledger

log = logging.getLogger(__name__)

_EVERY_S = 600.0
_BATCH = 200
_PAUSE_S = 0.1


class Retention:
    """Empties the messages of mails that were sent ``keep_days`` ago; 0: keeps them for ever.

    The records stay: they keep events that are delivered again from being mailed again.
    """

    def __init__(self, ledger: Ledger, keep_days: int) -> None:
        self._ledger = ledger
        self._keep_days = keep_days

    async def run(self) -> None:
        """Look every 10 minutes, until cancelled. In batches, so that nobody waits long for a lock."""
        while True:
            await self._ledger.forget_erased(REMEMBERED_DAYS)
            if emptied := await self.sweep():
                log.info("messages of sent mails emptied", extra={"mails": emptied, "keep_days": self._keep_days})
            await asyncio.sleep(_EVERY_S)

    async def sweep(self) -> int:
        """Empty all that is due; how many. Raises ``Unavailable``."""
        emptied = 0
        while self._keep_days and (batch := await self._ledger.empty_sent(self._keep_days, _BATCH)):
            emptied += batch
            await asyncio.sleep(_PAUSE_S)
        return emptied
