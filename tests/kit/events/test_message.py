"""Envelopes: what is filled in around an event."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from purveyor.kit import log, tracing
from purveyor.kit.clock import now
from purveyor.kit.events.message import Cause, Envelope, Event, encode
from purveyor.kit.ids import new_id

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STABLE = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


class Paid(Event, frozen=True):
    """Something was paid."""

    type: ClassVar = "test.paid"

    amount: Decimal


def test_envelope_takes_new_id_current_time_and_the_cause_in_hand() -> None:
    request_id, trace = log.request_id.set("request 1"), tracing.traceparent.set(TRACE)
    least, before = new_id(), now()
    try:
        made = Envelope.about(Paid(amount=Decimal("1.50")), subject="order 1")
    finally:
        log.request_id.reset(request_id)
        tracing.traceparent.reset(trace)

    assert least < made.id < new_id()
    assert before <= made.occurred_at <= now()
    assert (made.type, made.body, made.subject, made.sequence) == ("test.paid", b'{"amount":1.50}', "order 1", 0)
    assert (made.correlation_id, made.traceparent) == ("request 1", TRACE)
    assert (made.currency, made.language) == ("", "")


def test_given_cause_wins_over_the_one_in_hand() -> None:
    request_id = log.request_id.set("another request")
    try:
        made = Envelope.about(
            Paid(amount=Decimal(1)), subject="", caused_by=Cause(correlation_id="request 1", traceparent=TRACE)
        )
    finally:
        log.request_id.reset(request_id)

    assert (made.correlation_id, made.traceparent) == ("request 1", TRACE)


def test_envelope_is_the_cause_of_the_answer_to_it() -> None:
    question = Envelope.about(
        Paid(amount=Decimal(1)), subject="a", caused_by=Cause(correlation_id="request 1", traceparent=TRACE)
    )
    answer = Envelope.about(
        Paid(amount=Decimal(2)),
        subject="b",
        sequence=3,
        caused_by=question,
        id=STABLE,
        at=MOMENT,
        currency="EUR",
        language="de",
    )

    assert (answer.correlation_id, answer.traceparent) == ("request 1", TRACE)
    assert (answer.id, answer.occurred_at, answer.sequence) == (STABLE, MOMENT, 3)
    assert (answer.currency, answer.language) == ("EUR", "de")


def test_decimals_are_numbers_as_exact_as_they_were() -> None:
    assert encode({"amount": Decimal("10.10")}) == b'{"amount":10.10}'
