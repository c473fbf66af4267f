"""The sender, which claims mails from the ledger, sends them and records the outcome.

It records ``claimed`` before anything is sent and ``data`` just before the final dot. After a crash, only mails in
state ``data`` are doubtful, and none of those that the sender's journal has noted as accepted. The ledger makes
sure that a doubtful mail is resent at most once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from purveyor.kit import tracing
from purveyor.kit.clock import now
from purveyor.kit.coalescer import Gathering
from purveyor.kit.errors import Unavailable
from purveyor.kit.failpoints import failpoint
from purveyor.kit.metrics import MAILS, ORDER_TO_MAIL_SECONDS
from purveyor.kit.poll import MORE, Poll
from purveyor.kit.retry import RetrySchedule, retry
from purveyor.roles.email.contract import SUPERSEDED
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
from purveyor.roles.email.turns import FIRST

log = logging.getLogger(__name__)

_POLL_S = 1.0
_LATER = RetrySchedule(first_s=2.0, longest_s=900.0, jitter=0.0)
_MAX_ATTEMPTS = 40
_GRACE_S = 15.0
_RECORD_WITHIN_S = 0.02
"""Seconds that an accepted mail, which the journal has noted, waits for others to be marked by one statement."""
_LEDGER_AWAY = RetrySchedule(first_s=0.5, longest_s=0.5, jitter=0.0)
_LEDGER_REFUSES = RetrySchedule(first_s=0.5, longest_s=60.0, jitter=0.0)

_Record = Callable[[], Awaitable[None]]


class Sender:
    """Sends the mails of a ledger; any number of senders may run in any number of processes.

    ``settled`` is called after an outcome was recorded, with the mail's kind, or with "" if there may be several.
    """

    def __init__(
        self,
        ledger: Ledger,
        mailer: Mailer,
        policy: DoubtPolicy,
        *,
        journals: Journals,
        settled: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._mailer = mailer
        self._policy: DoubtPolicy = policy
        self._journals = journals
        self._settled = settled
        self._journal = Journal(None)
        self._poll = Poll(_POLL_S)
        self._accepted = Gathering(_RECORD_WITHIN_S)
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Claim due mails now, or as soon as half of the slots are free."""
        if self._has_room():
            self._poll.wake()

    async def run(self) -> None:
        """Send until cancelled, then finish current mails within 15 s."""
        async with self._ledger.ownership() as owner:
            with self._journals.opened() as self._journal:
                await self._run(owner)

    async def _run(self, owner: Owner) -> None:
        self._take_over_at = 0.0
        try:
            await self._poll.run(partial(self._work, owner))
        except Exception:
            # Unrecorded mails would be sent again, so wait as long as the ledger needs.
            if self._tasks:
                await asyncio.wait(self._tasks)
            raise
        finally:
            await self._finish()

    async def _work(self, owner: Owner) -> float | None:
        if not owner.is_alive():
            raise Unavailable("The lease of this mail sender has expired.")
        time = asyncio.get_running_loop().time()
        if time >= self._take_over_at:
            self._take_over_at = time + _POLL_S
            await self._take_over()
        if not self._has_room():
            return None
        free = self._mailer.slots - len(self._tasks)
        claims = await self._ledger.claim(owner.name, free)
        for claim in claims:
            task = asyncio.create_task(self._deliver(claim))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        return MORE if len(claims) == free else None

    def _has_room(self) -> bool:
        # What is in hand keeps the mailer busy, and a larger claim costs less.
        return len(self._tasks) <= self._mailer.slots / 2

    async def _take_over(self) -> None:
        """Record the journals of dead senders, then free their mails."""
        gone = await self._ledger.gone()
        if adopted := await self._journals.adopt(self._ledger, gone):
            log.warning("recorded what a sender's journal knew", extra={"notes": adopted})
            self._settled("")
        if gone and (taken_over := await self._ledger.take_over(gone, self._policy)):
            log.warning("took over mails of a sender that is gone", extra={"mails": taken_over})
            self._settled("")

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery died; its mail waits until this process ends", exc_info=error)

    async def _finish(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _deliver(self, claim: Claim) -> None:
        """Send a mail and record the outcome, with retries for as long as this process lives.

        Errors of the ledger, such as a read-only database after a failover, do not end it, because no other sender
        takes the mail of a living one.
        """
        tracing.traceparent.set(claim.traceparent)  # for the rest of this task
        record = self._drop(claim) if claim.superseded_by else await self._send(claim)
        if record is None:
            return
        mail = {"event_id": claim.event_id}

        def away(error: Exception, failures: int, _pause_s: float) -> None:
            if failures == 1:
                log.warning("what became of a mail cannot be recorded yet", extra=mail | {"why": str(error)})

        def refused(error: Exception, _failures: int, pause_s: float) -> None:
            extra = mail | {"again_in_s": pause_s}
            log.error("what became of a mail cannot be recorded yet", exc_info=error, extra=extra)

        record_when_up = partial(retry, record, _LEDGER_AWAY, on=Unavailable, failed=away)
        await retry(record_when_up, _LEDGER_REFUSES, on=Exception, failed=refused)
        self._settled(claim.kind)

    def _drop(self, claim: Claim) -> _Record:
        MAILS.labels(claim.kind, "superseded").inc()
        return partial(self._ledger.mark_failed, claim, reply="", error=f"{SUPERSEDED}{claim.superseded_by}")

    async def _send(self, claim: Claim) -> _Record | None:
        """Send a mail; return how to record the outcome, ``None`` if another sender has taken the mail."""
        failpoint("sender.claimed")
        try:
            reply = await self._hand_over(claim)
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
        if claim.kind == FIRST and not claim.resends:
            ORDER_TO_MAIL_SECONDS.observe(max(0.0, (now() - claim.created_at).total_seconds()))
        return partial(self._mark_sent, claim, reply)

    async def _hand_over(self, claim: Claim) -> str:
        again = claim.attempt > 1 or claim.resends > 0
        about: tracing.Attributes = {
            "mail.kind": claim.kind,
            "mail.attempt": claim.attempt,
            "messaging.message.id": claim.event_id,
        }
        with tracing.span("send mail", "client", about, again=again, since=claim.created_at) as span:
            try:
                reply = await self._mailer.send(claim, partial(self._mark_data, claim))
            except (Refused, NotNow) as error:
                span.add(_smtp_code(str(error)))
                raise
            span.add(_smtp_code(reply))
            return reply

    async def _mark_sent(self, claim: Claim, reply: str) -> None:
        await self._accepted.join()
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
        """Record a bug of the mailer: the mail is doubtful in state ``data``, else not sent."""
        await self._ledger.mark_doubtful(claim, repr(error), self._policy)
        await self._postpone(claim, error)()  # no effect if the line above has changed the state


def _smtp_code(reply: str) -> dict[str, int]:
    """The code of an SMTP reply as an attribute. Its text may hold an address and is left out."""
    code, _, _ = reply.partition(" ")
    return {"smtp.response.status_code": int(code)} if code.isascii() and code.isdigit() else {}
