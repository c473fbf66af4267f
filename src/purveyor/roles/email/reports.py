"""Tells the role of an order what became of its mails: the ledger is the outbox, ``mail.settled`` the event."""

import asyncio
import logging
from collections.abc import Sequence
from uuid import NAMESPACE_URL, UUID, uuid5

from purveyor.kit.events.message import Cause, Envelope
from purveyor.kit.events.transport import EventTransport
from purveyor.roles.email.contract import MailRecord, MailSettled
from purveyor.roles.email.ports import Ledger, Report

log = logging.getLogger(__name__)

BATCH = 100
POLL_S = 1.0
_LONGEST_PAUSE_S = 60.0


class Reports:
    """Publishes what the ledger has not reported yet, at least once; any number may, in any number of processes.

    Two that publish the same report give it the same event id.
    """

    def __init__(self, ledger: Ledger, events: EventTransport) -> None:
        self._ledger = ledger
        self._events = events
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Say that a mail was settled: a hint for speed, the poll is the guarantee."""
        self._woken.set()

    async def run(self) -> None:
        """Report until cancelled; while the transport is away, with growing pauses."""
        pause_s = POLL_S
        while True:
            self._woken.clear()
            reports = await self._ledger.unreported(BATCH)
            if await self._publish(reports) < len(reports):
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
                continue
            pause_s = POLL_S
            if len(reports) < BATCH:
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._woken.wait()
                except TimeoutError:
                    continue

    async def _publish(self, reports: Sequence[Report]) -> int:
        """Publish them and note which of them arrived; how many."""
        if not reports:
            return 0
        outcomes = await self._events.publish([_envelope(report) for report in reports])
        arrived = [report for report, error in zip(reports, outcomes, strict=True) if error is None]
        if arrived:
            await self._ledger.mark_reported(arrived)
        if why := next((error for error in outcomes if error is not None), None):
            extra = {"reports": len(reports) - len(arrived), "reason": str(why)}
            log.warning("what became of mails is not reported, will try again", extra=extra)
        return len(arrived)


def _envelope(report: Report) -> Envelope:
    record = report.record
    event = MailSettled(**{name: getattr(record, name) for name in MailSettled.__struct_fields__})
    return Envelope.about(
        event,
        id=_event_id(record),
        subject=report.order_id,
        at=record.updated_at,
        caused_by=Cause(correlation_id=report.request_id),
    )


def _event_id(record: MailRecord) -> UUID:
    """The same for each report of the same outcome, so that consumers see that it is one."""
    outcome = (record.event_id, record.kind, record.recipient, record.state, str(record.resends))
    return uuid5(NAMESPACE_URL, "purveyor:" + ":".join((MailSettled.type, *outcome)))
