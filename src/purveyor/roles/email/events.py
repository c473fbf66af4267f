"""The events of role email. Their ids are derived from their facts, so that duplicates are recognized."""

from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.ids import stable_id
from purveyor.roles.email.contract import MailSettled
from purveyor.roles.email.ports import Report


def settled_event(report: Report) -> Envelope:
    """Return the ``mail.settled`` of a record, with an id per state and resend."""
    record = report.record
    event = MailSettled(**{name: getattr(record, name) for name in MailSettled.__struct_fields__})
    outcome = (record.event_id, record.kind, record.recipient, record.state, str(record.resends))
    return Envelope.about(
        event,
        id=stable_id("purveyor:" + ":".join((event.type, *outcome))),
        subject=report.order_id,
        at=record.updated_at,
        caused_by=report.cause,
    )


def answer_to(question: Envelope, answer: Event, detail: str = "") -> Envelope:
    """Return an answer to another role's event; ``detail`` distinguishes several answers."""
    return Envelope.about(
        answer,
        id=stable_id(f"{answer.type}:{detail}", question.id),
        subject=question.subject,
        at=question.occurred_at,
        caused_by=question,
    )
