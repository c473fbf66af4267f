"""The sender: takes mails from the ledger, hands each over, and records what became of it.

``claimed`` is recorded before anything is sent and ``data`` just before the final dot, so that after a crash
only mails at ``data`` are doubtful; and of those, none that the sender's journal knows to be accepted. For doubt
a mail is re-sent once at most: the ledger keeps count.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from purveyor.kit.errors import Unavailable
from purveyor.kit.failpoints import failpoint
from purveyor.kit.metrics import MAILS
from purveyor.kit.poll import MORE, Poll
from purveyor.kit.retry import RetrySchedule, retry
from purveyor.roles.email.journal import Journal, Journals
from purveyor.roles.email.ports import (
    Claim,
    ClaimLost,
    Doubtful,
    DoubtPolicy,
    Ledger,
    Mailer,
    NotNow,
    Owner,
    Refused,
)

log = logging.getLogger(__name__)

_POLL_S = 1.0
_LATER = RetrySchedule(first_s=2.0, longest_s=900.0, jitter=0.0)
_MAX_ATTEMPTS = 40
_GRACE_S = 15.0
_LEDGER_AWAY = RetrySchedule(first_s=0.5, longest_s=0.5, jitter=0.0)
_LEDGER_REFUSES = RetrySchedule(first_s=0.5, longest_s=60.0, jitter=0.0)

_Record = Callable[[], Awaitable[None]]


class Sender:
    """Works a ledger until it is cancelled; any number may, in any number of processes.

    ``settled`` is called when something was recorded of a mail: it wakes who reports.
    """

    def __init__(
        self,
        ledger: Ledger,
        mailer: Mailer,
        policy: DoubtPolicy,
        *,
        journals: Journals,
        settled: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._mailer = mailer
        self._policy: DoubtPolicy = policy
        self._journals = journals
        self._settled = settled
        self._journal = Journal(None)
        self._poll = Poll(_POLL_S)
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Say that a mail was recorded: a hint for speed, the poll is the guarantee."""
        self._poll.wake()

    async def run(self) -> None:
        """Send until cancelled; then finish what is in hand, within 15 s."""
        async with self._ledger.ownership() as owner:
            with self._journals.opened() as self._journal:
                await self._run(owner)

    async def _run(self, owner: Owner) -> None:
        self._take_over_at = 0.0
        try:
            await self._poll.run(partial(self._work, owner))
        except Exception:
            # What was handed over has to be recorded, or it is sent again: however long the ledger refuses it.
            if self._tasks:
                await asyncio.wait(self._tasks)
            raise
        finally:
            await self._finish()

    async def _work(self, owner: Owner) -> float | None:
        if not owner.is_alive():
            raise Unavailable("The lease of this mail sender has expired.")
        now = asyncio.get_running_loop().time()
        if now >= self._take_over_at:
            self._take_over_at = now + _POLL_S
            await self._take_over()
        free = self._mailer.slots - len(self._tasks)
        claims = await self._ledger.claim(owner.name, free) if free else ()
        for claim in claims:
            task = asyncio.create_task(self._deliver(claim))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        return MORE if free and len(claims) == free else None

    async def _take_over(self) -> None:
        """Free the mails of senders that are gone, once what their journals know is recorded."""
        gone = await self._ledger.gone()
        if adopted := await self._journals.adopt(self._ledger, gone):
            log.warning("recorded what a sender's journal knew", extra={"notes": adopted})
            self._settled()
        if gone and (taken_over := await self._ledger.take_over(gone, self._policy)):
            log.warning("took over mails of a sender that is gone", extra={"mails": taken_over})
            self._settled()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._poll.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery died; its mail waits until this process ends", exc_info=error)

    async def _finish(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _deliver(self, claim: Claim) -> None:
        """Hand a mail over, and record what became of it, for as long as this process lives.

        Nobody else would: a sender that lives keeps its mails. So no error of the ledger ends it, such as that of
        a database that is read-only after a failover.
        """
        record = await self._hand_over(claim)
        if record is None:
            return
        about = {"event_id": claim.event_id}

        def away(error: Exception, failures: int, _pause_s: float) -> None:
            if failures == 1:
                log.warning("what became of a mail cannot be recorded yet", extra=about | {"why": str(error)})

        def refused(error: Exception, _failures: int, pause_s: float) -> None:
            extra = about | {"again_in_s": pause_s}
            log.error("what became of a mail cannot be recorded yet", exc_info=error, extra=extra)

        once_there = partial(retry, record, _LEDGER_AWAY, on=Unavailable, failed=away)
        await retry(once_there, _LEDGER_REFUSES, on=Exception, failed=refused)
        self._settled()

    async def _hand_over(self, claim: Claim) -> _Record | None:
        """Try to send; how to record what became of it, ``None`` when the mail is another sender's now."""
        failpoint("sender.claimed")
        try:
            reply = await self._mailer.send(claim, partial(self._mark_data, claim))
        except ClaimLost:
            log.warning("another sender has taken over", extra={"event_id": claim.event_id})
            return None
        except Refused as error:
            MAILS.labels(claim.kind, "failed").inc()
            log.warning("mail refused", extra={"event_id": claim.event_id, "reply": str(error)})
            return partial(self._ledger.mark_failed, claim, reply=str(error), error="refused by the server")
        except (NotNow, Unavailable) as error:
            return self._postpone(claim, error)
        except Doubtful as error:
            MAILS.labels(claim.kind, "doubtful").inc()
            log.warning("a mail is doubtful", extra={"event_id": claim.event_id, "why": str(error)})
            return partial(self._ledger.mark_doubtful, claim, str(error), self._policy)
        except Exception as error:
            log.exception("a delivery died", extra={"event_id": claim.event_id})
            return partial(self._release, claim, error)
        failpoint("sender.accepted")
        self._journal.accepted(claim, reply)
        failpoint("sender.journaled")
        MAILS.labels(claim.kind, "sent").inc()
        return partial(self._mark_sent, claim, reply)

    async def _mark_sent(self, claim: Claim, reply: str) -> None:
        await self._ledger.mark_sent(claim, reply)
        self._journal.recorded(claim)

    async def _mark_data(self, claim: Claim) -> None:
        failpoint("sender.before_data")
        await self._ledger.mark_data(claim)
        failpoint("sender.at_data")

    def _postpone(self, claim: Claim, error: Exception) -> _Record:
        if claim.attempt >= _MAX_ATTEMPTS:
            MAILS.labels(claim.kind, "failed").inc()
            why = f"given up after {claim.attempt} attempts"
            return partial(self._ledger.mark_failed, claim, reply=str(error), error=why)
        MAILS.labels(claim.kind, "retry").inc()
        pause_s = _LATER.pause_s(claim.attempt)
        log.warning("mail not sent, will try again", extra={"event_id": claim.event_id, "why": str(error)})
        return partial(self._ledger.mark_retry, claim, reply=str(error), error="not sent", pause_s=pause_s)

    async def _release(self, claim: Claim, error: Exception) -> None:
        """After a fault of the mailer's own: doubtful if the mail is at ``data``, else certainly not sent."""
        await self._ledger.mark_doubtful(claim, repr(error), self._policy)
        await self._postpone(claim, error)()  # changes nothing where the line above has settled it
