"""The events of role email. Their ids are derived from their facts, so that duplicates are recognized."""

from datetime import datetime

from purveyor.kit.clock import now
from purveyor.kit.events.message import Cause, Envelope, Event
from purveyor.kit.ids import stable_id
from purveyor.roles.email.contract import MailSettled
from purveyor.roles.email.ports import Claim, Report


def settled_event(report: Report) -> Envelope:
    """Return the ``mail.settled`` of a record, with an id per state and resend."""
    record = report.record
    event = MailSettled(**{name: getattr(record, name) for name in MailSettled.__struct_fields__})
    return _envelope(event, report.order_id, report.cause, record.updated_at)


def sent_event(claim: Claim, reply: str) -> Envelope:
    """Return the ``mail.settled`` of a claimed mail that the server has accepted now."""
    event = MailSettled(
        event_id=claim.event_id,
        kind=claim.kind,
        recipient=claim.recipient,
        state="sent",
        attempts=claim.attempt,
        resends=claim.resends,
        smtp_reply=reply,
        error="",
    )
    cause = Cause(correlation_id=claim.request_id, traceparent=claim.traceparent)
    return _envelope(event, claim.order_id, cause, now())


def _envelope(event: MailSettled, order_id: str, cause: Cause, at: datetime) -> Envelope:
    outcome = (event.event_id, event.kind, event.recipient, event.state, str(event.resends))
    ident = stable_id("purveyor:" + ":".join((event.type, *outcome)))
    return Envelope.about(event, id=ident, subject=order_id, at=at, caused_by=cause)


def answer_to(question: Envelope, answer: Event, detail: str = "") -> Envelope:
    """Return an answer to another role's event; ``detail`` distinguishes several answers."""
    return Envelope.about(
        answer,
        id=stable_id(f"{answer.type}:{detail}", question.id),
        subject=question.subject,
        at=question.occurred_at,
        caused_by=question,
    )
