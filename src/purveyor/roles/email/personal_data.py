"""What role email does when a person wants their data, or is erased: it answers with events.

The role has no outbox, and maybe no PostgreSQL: the answers are published while the question is handled, and a
question whose answer was not confirmed is delivered again. Their ids follow from the question's.
"""

import logging
from collections.abc import Sequence
from uuid import UUID, uuid5

import msgspec

from purveyor.kit.message import Envelope, Event
from purveyor.kit.transport import EventTransport
from purveyor.roles.auth.contract import PasswordResetRequested, UserErased, UserExportRequested
from purveyor.roles.email.contract import MailDataErased, MailDataExported, MailRecord
from purveyor.roles.email.mime import text_of
from purveyor.roles.email.ports import Ledger

log = logging.getLogger(__name__)

PART_RECORDS = 100


class PersonalData:
    """Answers for the mails of a person: all that went, or was to go, to their address."""

    def __init__(self, ledger: Ledger, events: EventTransport) -> None:
        self._ledger = ledger
        self._events = events

    async def erase(self, event: UserErased, envelope: Envelope) -> None:
        """Wipe the person's mails, those that wait unsent too, and say so."""
        erased = await self._ledger.erase(event.user_email)
        log.info("mails erased", extra={"mails": erased, "user_id": event.user_id})
        await self._answer(MailDataErased(user_id=event.user_id), envelope)

    async def export(self, event: UserExportRequested, envelope: Envelope) -> None:
        """Answer with the person's mails, in parts of 100 at most; one empty part where there is none."""
        records = await self._ledger.of_recipient(event.user_email)
        parts = max(1, -(-len(records) // PART_RECORDS))
        for part in range(1, parts + 1):
            answer = MailDataExported(
                export_id=event.export_id,
                part=part,
                parts=parts,
                document=await self._document(records[(part - 1) * PART_RECORDS : part * PART_RECORDS]),
            )
            await self._answer(answer, envelope, f"{part}/{parts}")

    async def _document(self, records: Sequence[MailRecord]) -> str:
        mails = [msgspec.to_builtins(record) | {"text": await self._text(record)} for record in records]
        return msgspec.json.encode(mails).decode()

    async def _text(self, record: MailRecord) -> str:
        # Whoever holds a stolen session could ask for an export, and would find the token of a new password in it.
        if record.kind == PasswordResetRequested.type:
            return ""
        found = await self._ledger.find(record.event_id)
        return text_of(found[1]) if found else ""

    async def _answer(self, answer: Event, question: Envelope, detail: str = "") -> None:
        """Publish an answer; raises what kept it from being confirmed."""
        envelope = Envelope(
            id=_answer_id(question, answer, detail),
            type=answer.type,
            body=msgspec.json.encode(answer),
            occurred_at=question.occurred_at,
            subject=question.subject,
            correlation_id=question.correlation_id,
            traceparent=question.traceparent,
        )
        (error,) = await self._events.publish([envelope])
        if error is not None:
            raise error


def _answer_id(question: Envelope, answer: Event, detail: str) -> UUID:
    """The same however often the question is delivered, so that consumers see that it is one answer."""
    return uuid5(question.id, f"{answer.type}:{detail}")
