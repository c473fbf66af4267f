"""The use cases of role email: record a mail for each event, and inspect, resend and resolve mails."""

import logging
from collections.abc import Callable
from uuid import UUID

from purveyor.kit.caller import asking_role
from purveyor.kit.errors import Conflict, NotFound
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import Undeliverable
from purveyor.kit.ids import stable_id
from purveyor.kit.recipient import mailbox_digest
from purveyor.roles.auth.contract import EmailConfirmed
from purveyor.roles.email.contract import (
    ClaimsFound,
    EventIds,
    ListMails,
    MailRecord,
    MailRecords,
    MailShown,
    RecoverClaims,
    ResendMail,
    ResolveMail,
    ShowMail,
    WhichUnrecorded,
)
from purveyor.roles.email.journal import Journals
from purveyor.roles.email.letters import Addressed, Letters, MailedEvent, OrderEvent
from purveyor.roles.email.mime import compose, message_id, sender_parts
from purveyor.roles.email.ports import Account, DoubtPolicy, Ledger, NewMail
from purveyor.roles.email.privacy import happened_at
from purveyor.roles.email.rendering import Renderer

log = logging.getLogger(__name__)


class Mails:
    """Records mails in the ledger and wakes the sender by ``recorded``."""

    def __init__(
        self,
        ledger: Ledger,
        renderer: Renderer,
        letters: Letters,
        sender: str,
        recorded: Callable[[], None],
        *,
        reply_to: str = "",
    ) -> None:
        self._ledger = ledger
        self._renderer = renderer
        self._letters = letters
        self._sender = sender
        self._reply_to = reply_to
        self._recorded = recorded
        self._domain = sender_parts(sender)[1].rpartition("@")[2]

    async def write(self, event: MailedEvent, envelope: Envelope) -> None:
        """Record the mails of an event once, however often it is delivered.

        Raises ``Undeliverable`` for an event that cannot become a mail.
        """
        event_id = _event_id(event, envelope)
        try:
            # The notices come first: the shop hears of an order even if the customer's address is invalid.
            for notice in self._letters.to_shop(event, envelope):
                notice_id = stable_id(f"{notice.kind}:{notice.recipient}", event_id)
                await self._ledger.record(self._mail(notice_id, notice, event, envelope))
            mail = self._mail(event_id, self._letters.to_person(event, envelope), event, envelope)
        except ValueError as error:
            raise Undeliverable(str(error)) from error
        await self._ledger.record(mail)
        self._recorded()

    def _mail(self, event_id: UUID, mail: Addressed, event: MailedEvent, envelope: Envelope) -> NewMail:
        is_notice = mail.kind != event.type
        ident = message_id(event_id, self._domain)
        rendered = self._renderer.render(mail.kind, mail.letter, mail.language)
        parts = {
            "message_id": ident,
            "sender": self._sender,
            "recipient": mail.recipient,
            "date": envelope.occurred_at,
            "rendered": rendered,
            "request_id": envelope.correlation_id,
            "reply_to": self._reply_to,
        }
        try:
            message = compose(recipient_name=mail.name, **parts)  # type: ignore[arg-type]
        except ValueError:  # the name is not valid in a header
            message = compose(recipient_name="", **parts)  # type: ignore[arg-type]
        return NewMail(
            event_id=str(event_id),
            kind=mail.kind,
            order_number=event.order_number if isinstance(event, OrderEvent) else None,
            recipient=mail.recipient,
            subject=rendered.subject,
            message_id=ident,
            message=message,
            created_at=happened_at(envelope),
            # Customers read the outcomes of an order's mails, so that of a notice is not reported.
            order_id=envelope.subject if isinstance(event, OrderEvent) and not is_notice else "",
            sequence=0 if is_notice else _place(event, envelope),
            user_id="" if is_notice else event.user_id,
            mailbox="" if is_notice or event.recipient_confirmed else mailbox_digest(event.user_email),
            request_id=envelope.correlation_id,
            traceparent=envelope.traceparent,
        )

    async def release(self, event: EmailConfirmed, _: Envelope) -> None:
        """Send the mails that were held because the address was not confirmed."""
        released = await self._ledger.release(Account(event.user_id, event.user_email))
        if released:
            log.info("emails released, their address is confirmed", extra={"mails": released})
            self._recorded()

    async def list(self, ask: ListMails) -> MailRecords:
        return MailRecords(mails=tuple(await self._ledger.list(ask.state, ask.event_ids, ask.limit)))

    async def show(self, ask: ShowMail) -> MailShown:
        record, message = await self._find(ask.event_id)
        return MailShown(record=record, message=message.decode("utf-8", "replace"))

    async def resend(self, ask: ResendMail) -> MailRecord:
        log.info("email is resent on request", extra={"event_id": ask.event_id, "asked_by": asking_role.get()})
        changed = await self._ledger.resend(ask.event_id)
        no_text = "can no longer be sent, because its text was deleted"
        return await self._changed(ask.event_id, changed, "is being sent right now", no_text)

    async def resolve(self, ask: ResolveMail) -> MailRecord:
        return await self._changed(
            ask.event_id, await self._ledger.resolve(ask.event_id, sent=ask.sent), "is not in state unknown"
        )

    async def _changed(self, event_id: str, changed: bool, why_not: str, no_text: str = "") -> MailRecord:  # noqa: FBT001
        record, message = await self._find(event_id)
        if not changed:
            why = why_not if message else no_text or why_not
            why = why if record.recipient else "was erased with its recipient's account"
            raise Conflict(f"The email for event {event_id} {why}. Its state is {record.state}.")
        self._recorded()
        return record

    async def _find(self, event_id: str) -> tuple[MailRecord, bytes]:
        found = await self._ledger.find(event_id)
        if found is None:
            raise NotFound(f"There is no email for event {event_id}.")
        return found


def _place(event: MailedEvent, envelope: Envelope) -> int:
    """Return the place among the mails of an order; 0 for a foreign event without order or sequence."""
    return max(0, envelope.sequence) if isinstance(event, OrderEvent) and envelope.subject else 0


def _event_id(event: MailedEvent, envelope: Envelope) -> UUID:
    """Return the event's id, or one from the order number or the body for a foreign event without an id."""
    if envelope.id.int:
        return envelope.id
    key = str(event.order_number) if isinstance(event, OrderEvent) else envelope.body.hex()
    return stable_id(f"purveyor:{event.type}:{key}")


class Audit:
    """Answers ``app reconcile``."""

    def __init__(self, ledger: Ledger, journals: Journals, policy: DoubtPolicy) -> None:
        self._ledger = ledger
        self._journals = journals
        self._policy: DoubtPolicy = policy

    async def which_unrecorded(self, ask: WhichUnrecorded) -> EventIds:
        if not ask.event_ids:
            return EventIds(event_ids=())
        # An event has at most one mail, so the limit is the number of events.
        found = await self._ledger.list("", ask.event_ids, len(ask.event_ids))
        recorded = {mail.event_id for mail in found}
        return EventIds(event_ids=tuple(one for one in ask.event_ids if one not in recorded))

    async def recover(self, ask: RecoverClaims) -> ClaimsFound:
        gone = tuple(await self._ledger.gone())
        if not ask.apply or not gone:
            return ClaimsFound(senders=gone, mails=0)
        adopted = await self._journals.adopt(self._ledger, gone)
        return ClaimsFound(senders=gone, mails=adopted + await self._ledger.take_over(gone, self._policy))
