"""The audit of role email: events without a mail, and mails in the hands of senders that are gone."""

from purveyor.roles.email.contract import ClaimsFound, EventIds, RecoverClaims, WhichUnrecorded
from purveyor.roles.email.journal import Journals
from purveyor.roles.email.ports import DoubtPolicy, Ledger


class Audit:
    """Answers ``app reconcile``."""

    def __init__(self, ledger: Ledger, journals: Journals, policy: DoubtPolicy) -> None:
        self._ledger = ledger
        self._journals = journals
        self._policy: DoubtPolicy = policy

    async def which_unrecorded(self, ask: WhichUnrecorded) -> EventIds:
        """See ``WhichUnrecorded``."""
        if not ask.event_ids:
            return EventIds(event_ids=())
        # An event has one mail, so that as many records as events are all that there can be.
        found = await self._ledger.list("", ask.event_ids, len(ask.event_ids))
        recorded = {mail.event_id for mail in found}
        return EventIds(event_ids=tuple(one for one in ask.event_ids if one not in recorded))

    async def recover(self, ask: RecoverClaims) -> ClaimsFound:
        """See ``RecoverClaims``."""
        gone = tuple(await self._ledger.gone())
        if not ask.apply or not gone:
            return ClaimsFound(senders=gone, mails=0)
        adopted = await self._journals.adopt(self._ledger, gone)
        return ClaimsFound(senders=gone, mails=adopted + await self._ledger.take_over(gone, self._policy))
