"""The events of role email have ids that no version of it may change."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from purveyor.kit.events.message import Cause, Envelope
from purveyor.roles.email.contract import MailDataErased, MailDataExported, MailRecord
from purveyor.roles.email.events import answer_to, sent_event, settled_event
from purveyor.roles.email.ports import Claim, Report

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RECORD = MailRecord(
    event_id="01890a5d-ac96-774b-bcce-b302099a8059",
    kind="order.created",
    order_number=12345,
    recipient="user@example.com",
    subject="Your order 12345",
    message_id="<1@shop.test>",
    state="sent",
    attempts=1,
    resends=0,
    smtp_reply="250 ok",
    error="",
    created_at=MOMENT,
    updated_at=MOMENT,
)
QUESTION = Envelope(
    id=UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    type="user.erased",
    body=b"{}",
    occurred_at=MOMENT,
    subject="a user",
    correlation_id="r-1",
    traceparent=TRACE,
)


def test_settled_mail_keeps_the_id_of_its_outcome_and_the_cause_of_its_event() -> None:
    sent = settled_event(Report(RECORD, "an order", Cause(correlation_id="r-1", traceparent=TRACE)))

    assert str(sent.id) == "0d138f9a-819d-5944-b70e-fd1bda24bc7e"
    assert sent.body == (
        b'{"event_id":"01890a5d-ac96-774b-bcce-b302099a8059","kind":"order.created","recipient":"user@example.com",'
        b'"state":"sent","attempts":1,"resends":0,"smtp_reply":"250 ok","error":""}'
    )
    assert (sent.type, sent.subject, sent.occurred_at) == ("mail.settled", "an order", MOMENT)
    assert (sent.correlation_id, sent.traceparent) == ("r-1", TRACE)


def test_event_of_a_claim_is_that_of_its_record() -> None:
    told = settled_event(Report(RECORD, "an order", Cause(correlation_id="r-1", traceparent=TRACE)))
    claim = Claim(
        event_id=RECORD.event_id,
        kind=RECORD.kind,
        recipient=RECORD.recipient,
        owner="7",
        attempt=RECORD.attempts,
        message_id=RECORD.message_id,
        message=b"",
        created_at=MOMENT,
        order_id="an order",
        request_id="r-1",
        traceparent=TRACE,
    )
    sent = sent_event(claim, RECORD.smtp_reply)
    assert msgspec.structs.replace(sent, occurred_at=MOMENT) == told


def test_answers_keep_the_ids_that_follow_from_their_question() -> None:
    erased = answer_to(QUESTION, MailDataErased(user_id="a user"))
    part = answer_to(QUESTION, MailDataExported(export_id="e", part=1, parts=2, document="[]"), "1/2")

    assert str(erased.id) == "7235c269-c375-5362-9326-268c349006a1"
    assert str(part.id) == "5a0b85fd-5d0b-5d22-9174-5e413b00bec5"
    for answer in (erased, part):
        assert (answer.subject, answer.occurred_at) == ("a user", MOMENT)
        assert (answer.correlation_id, answer.traceparent) == ("r-1", TRACE)
