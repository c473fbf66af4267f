"""Every invariant holds for observations in which all went well, and is violated when they are spoiled."""

from collections.abc import Callable, Sequence

import msgspec
import pytest

from drill.samples import BEGAN, attempt, changed, fault, good_observations, samples
from purveyor_drill.checker import check
from purveyor_drill.observations import CLIENT, Observations, Operation, OrderHistory, Sample


def violated(observed: Observations) -> set[str]:
    return {verdict.code for verdict in check(observed) if not verdict.holds}


def test_good_observations_hold():
    assert violated(good_observations()) == set()


def test_an_unknown_outcome_may_be_stored_or_not():
    observed = good_observations()
    for purchase, status in zip(observed.purchases, (0, 503, 201), strict=True):
        purchase.attempts = [attempt(purchase.key, status, retry_after=True)]
    del observed.orders[0], observed.events[0], observed.ledger[0], observed.mails[0]
    assert violated(observed) == set()


def lose_order(observed: Observations) -> None:
    del observed.orders[0], observed.events[0], observed.ledger[0], observed.mails[0]


def double_order(observed: Observations) -> None:
    observed.orders.append(observed.orders[0])


def store_a_refused_order(observed: Observations) -> None:
    observed.purchases[0].attempts = [attempt("key-0", 422)]


def store_what_nobody_ordered(observed: Observations) -> None:
    del observed.purchases[0]


def answer_with_another_order(observed: Observations) -> None:
    observed.purchases[0].order_id = "order-9"


def hide_an_order(observed: Observations) -> None:
    observed.purchases[0].attempts.append(attempt("key-0", 404, kind="get"))


def lose_event(observed: Observations) -> None:
    del observed.events[0]


def double_event(observed: Observations) -> None:
    observed.events.append(observed.events[0])


def event_without_order(observed: Observations) -> None:
    changed(observed.events, 0, subject="order-9")


def keep_event_back(observed: Observations) -> None:
    changed(observed.events, 0, published_at=None)


def leave_a_dead_letter(observed: Observations) -> None:
    observed.waiting = {"order.created.dead": 1}


def leave_a_mail_in_hand(observed: Observations) -> None:
    changed(observed.ledger, 0, state="retry")


def never_rest(observed: Observations) -> None:
    observed.settled_in_s = None


def lose_record(observed: Observations) -> None:
    del observed.ledger[0], observed.mails[0]


def lose_mail(observed: Observations) -> None:
    del observed.mails[0]


def fail_mail(observed: Observations) -> None:
    changed(observed.ledger, 0, state="failed")
    del observed.mails[0]


def park_although_told_to_resend(observed: Observations) -> None:
    changed(observed.ledger, 0, state="unknown")


def send_an_unexplained_mail(observed: Observations) -> None:
    changed(observed.mails, 0, message_id="<unexplained@shop>")


def record_without_event(observed: Observations) -> None:
    changed(observed.ledger, 0, event_id="event-9")


def double_mail_unrecorded(observed: Observations) -> None:
    observed.mails.append(observed.mails[0])


def double_mail_with_other_bytes(observed: Observations) -> None:
    changed(observed.ledger, 0, resends=1)
    observed.mails.append(observed.mails[0])
    changed(observed.mails, -1, digest="other")


def double_more_than_were_in_doubt(observed: Observations) -> None:
    for place, mail in enumerate(list(observed.mails)):
        changed(observed.ledger, place, resends=1)
        observed.mails.append(mail)


def double_mail_although_told_to_park(observed: Observations) -> None:
    observed.policy = "park"
    changed(observed.ledger, 0, resends=1)
    observed.mails.append(observed.mails[0])


def double_record(observed: Observations) -> None:
    observed.ledger.append(observed.ledger[0])


def welcome(observed: Observations, customers: Sequence[int]) -> None:
    """Records and mails of welcome; their events were published and forgotten."""
    for place, customer in enumerate(customers):
        record = msgspec.structs.replace(
            observed.ledger[customer],
            event_id=f"user-{place}",
            kind="user.registered",
            message_id=f"<user-{place}@shop>",
        )
        observed.ledger.append(record)
        mail = observed.mails[customer]
        observed.mails.append(msgspec.structs.replace(mail, message_id=record.message_id, amounts=frozenset()))


def forget_a_customer(observed: Observations) -> None:
    welcome(observed, [0, 1])


def welcome_a_customer_twice(observed: Observations) -> None:
    welcome(observed, [0, 1, 2, 2])


def wrong_total(observed: Observations) -> None:
    changed(observed.orders, 0, total=2599)


def wrong_event_total(observed: Observations) -> None:
    changed(observed.events, 0, body=observed.events[0].body.replace(b"25.98", b"25.979999"))


def wrong_mail_total(observed: Observations) -> None:
    changed(observed.mails, 0, amounts=frozenset({1299}))


def other_quantities(observed: Observations) -> None:
    observed.purchases[0].quantities = {7: 3}


def replay_differently(observed: Observations) -> None:
    observed.purchases[0].attempts.append(attempt("key-0", 201, kind="repeat", replayed=True, digest="other"))


def replay_unmarked(observed: Observations) -> None:
    observed.purchases[0].attempts.append(attempt("key-0", 201, kind="repeat"))


def answer_500(observed: Observations) -> None:
    observed.purchases[0].attempts.append(attempt("key-0", 500))


def answer_503_bare(observed: Observations) -> None:
    observed.purchases[0].attempts.append(attempt("key-0", 503))


def answer_503_late(observed: Observations) -> None:
    observed.purchases[0].attempts.append(attempt("key-0", 503, retry_after=True, elapsed_s=5.0))


def waited(process: str, seconds: list[float]) -> list[Sample]:
    return samples([20] * len(seconds), [10**8] * len(seconds), process=process, waited_s=seconds)


def answer_503_late_with_processors_free(observed: Observations) -> None:
    observed.purchases[0].attempts.append(
        attempt("key-0", 503, retry_after=True, sent_at=BEGAN + 11, elapsed_s=2.6)
    )
    observed.samples = waited("orders-1", [0.0, 9.0, 9.05]) + waited("orders-2", [0.0, 9.0, 18.0])


def answer_503_later_than_the_wait_explains(observed: Observations) -> None:
    observed.purchases[0].attempts.append(
        attempt("key-0", 503, retry_after=True, sent_at=BEGAN + 11, elapsed_s=3.6)
    )
    observed.samples = waited("orders-1", [0.0, 9.0, 10.0]) + waited(CLIENT, [0.0, 9.0, 9.05])


def answer_503_late_however_long_the_wait(observed: Observations) -> None:
    observed.purchases[0].attempts.append(
        attempt("key-0", 503, retry_after=True, sent_at=BEGAN + 11, elapsed_s=4.1)
    )
    observed.samples = waited("orders-1", [0.0, 0.0, 9.0]) + waited(CLIENT, [0.0, 0.0, 9.0])


def never_answer(observed: Observations) -> None:
    observed.purchases[0].attempts.append(attempt("key-0", 0, error="TimeoutError", elapsed_s=6.0))


def leak(observed: Observations) -> None:
    observed.leaks = ["JWT_SECRET in the log of front"]


def leak_descriptors(observed: Observations) -> None:
    observed.samples = samples([20, 25, 30, 31], [10**8] * 4)


def leak_memory(observed: Observations) -> None:
    observed.samples = samples([20] * 4, [10**8, 10**8, 10**8, 2 * 10**8])


def stick(observed: Observations) -> None:
    observed.stuck_transactions = 1


def lose_a_change(observed: Observations) -> None:
    order = observed.orders[0].id
    observed.operations = [operation(order, status=200, version=2, state="paid")]
    observed.histories = [OrderHistory(order_id=order, version=1, payment_status="unpaid", changes=())]


def answer_a_change_with_500(observed: Observations) -> None:
    observed.operations = [operation("order-0", status=500)]


def operation(order_id: str, **answer: object) -> Operation:
    """A change of version 1."""
    return Operation(
        id="drill-1",
        client="writer-1",
        kind="change",
        order_id=order_id,
        process="orders-1",
        sent_at=BEGAN,
        ended_at=BEGAN + 0.01,
        base=1,
        sets="paid",
        **answer,
    )


SPOILT: dict[str, list[Callable[[Observations], None]]] = {
    "I1": [
        lose_order,
        double_order,
        store_a_refused_order,
        store_what_nobody_ordered,
        answer_with_another_order,
        hide_an_order,
    ],
    "I2": [lose_event, double_event, event_without_order],
    "I3": [keep_event_back, leave_a_dead_letter, leave_a_mail_in_hand, never_rest],
    "I4": [
        lose_record,
        lose_mail,
        fail_mail,
        park_although_told_to_resend,
        send_an_unexplained_mail,
        record_without_event,
        forget_a_customer,
    ],
    "I5": [
        double_mail_unrecorded,
        double_mail_with_other_bytes,
        double_more_than_were_in_doubt,
        double_mail_although_told_to_park,
    ],
    "I6": [double_record, welcome_a_customer_twice],
    "I7": [wrong_total, wrong_event_total, wrong_mail_total, other_quantities],
    "I8": [replay_differently, replay_unmarked],
    "I9": [
        answer_500,
        answer_503_bare,
        answer_503_late,
        answer_503_late_with_processors_free,
        answer_503_later_than_the_wait_explains,
        answer_503_late_however_long_the_wait,
        never_answer,
        answer_a_change_with_500,
    ],
    "I10": [leak],
    "I11": [leak_descriptors, leak_memory, stick],
    "I12": [lose_a_change],
}


@pytest.mark.parametrize(
    ("code", "spoil"),
    [(code, spoil) for code, spoilers in SPOILT.items() for spoil in spoilers],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_spoiled_observations_are_found(code, spoil):
    observed = good_observations()
    spoil(observed)
    assert code in violated(observed)


def test_a_violation_names_what_to_trace():
    observed = good_observations()
    lose_record(observed)
    (verdict,) = [verdict for verdict in check(observed) if verdict.code == "I4"]
    assert "order-0" in verdict.examples[0]


def test_mails_of_welcome_need_no_event_any_more():
    observed = good_observations()
    welcome(observed, [0, 1, 2])
    assert violated(observed) == set()


def test_a_recorded_resend_within_the_bound_is_allowed():
    observed = good_observations()
    changed(observed.ledger, 0, resends=1)
    observed.mails.append(observed.mails[0])
    assert violated(observed) == set()


def test_a_parked_mail_is_not_lost():
    observed = good_observations()
    observed.policy = "park"
    changed(observed.ledger, 0, state="unknown")
    del observed.mails[0]
    assert violated(observed) == set()


def test_a_mail_that_was_in_doubt_twice_is_not_lost():
    observed = good_observations()
    changed(observed.ledger, 0, state="unknown", attempts=2, resends=1)
    observed.mails.append(observed.mails[0])
    assert violated(observed) == set()


def test_a_process_that_was_hit_itself_is_excused():
    observed = good_observations()
    late = attempt("key-0", 503, retry_after=True, sent_at=BEGAN + 2, elapsed_s=5.0)
    observed.purchases[0].attempts.append(late)
    observed.injected.append(fault("freeze", "orders-1", BEGAN + 1, BEGAN + 6, BEGAN + 6))
    assert violated(observed) == set()


def test_a_refusal_is_late_only_beyond_the_wait_for_a_processor():
    observed = good_observations()
    late = attempt("key-0", 503, retry_after=True, sent_at=BEGAN + 11, elapsed_s=3.6)
    observed.purchases[0].attempts.append(late)
    observed.samples = waited("orders-1", [0.0, 0.0, 0.8]) + waited(CLIENT, [0.0, 0.0, 0.4])
    assert violated(observed) == set()


@pytest.mark.parametrize(("elapsed_s", "late"), [(3.9, False), (4.1, True)])
def test_where_nobody_counts_the_wait_1_5_s_stand_for_it(elapsed_s: float, late: bool):
    observed = good_observations()
    observed.purchases[0].attempts.append(
        attempt("key-0", 503, retry_after=True, sent_at=BEGAN + 11, elapsed_s=elapsed_s)
    )
    observed.samples = waited(CLIENT, [0.0, 0.0, 0.3])
    assert violated(observed) == ({"I9"} if late else set())


def test_each_process_of_the_last_look_is_judged():
    observed = good_observations()
    observed.samples = samples([20, 25, 30, 31], [10**8] * 4, process="orders-1") + samples([20] * 4, [10**8] * 4)
    assert violated(observed) == {"I11"}


def test_the_drill_itself_is_not_judged():
    observed = good_observations()
    observed.samples = samples([20, 90, 90, 90], [10**8] * 4, process=CLIENT)
    assert violated(observed) == set()


def test_a_process_that_ended_before_the_rest_is_not_judged():
    observed = good_observations()
    observed.samples = samples([20, 90, 90, 90], [10**8] * 4)
    observed.samples.append(observed.samples[-1].__class__("mails", 2, BEGAN + 60, 10, 10**7))
    assert violated(observed) == set()
