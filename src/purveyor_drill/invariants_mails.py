"""The invariants of events, the mail ledger and the mails: I3 to I6."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from purveyor_drill.invariants_orders import CREATED
from purveyor_drill.observations import Facts, LedgerRow

_FINAL = {"sent", "failed", "unknown"}
_ORDER_KINDS = "order."
_WELCOME = "user.registered"
"""Its events name people, so their outbox forgets them once they are published: the customers tell instead."""


def nothing_in_hand(facts: Facts) -> Iterator[str]:
    """I3: every event is published, every queue empty, every mail in a final state, and nothing a dead letter."""
    for event in facts.events:
        if event.published_at is None:
            yield f"event {event.id} of {event.subject} ({event.type}) was not published"
    for queue, number in facts.waiting.items():
        yield f"{number} messages are left in {queue}"
    for record in facts.ledger:
        if record.state not in _FINAL:
            yield f"the mail of event {record.event_id} is still {record.state} after {record.attempts} attempts"
    if facts.settled_in_s is None:
        yield "the system had not come to rest when the drill stopped waiting"


def none_lost(facts: Facts) -> Iterator[str]:
    """I4: events and ledger one to one, what is sent is in the sink, what is in the sink has an event.

    A mail that is parked as ``unknown`` is not lost; with ``resend`` it has to be re-sent before, and so in doubt
    twice. One that ``failed`` is lost, since the sink refuses none for good.
    """
    events = {event.id for event in facts.events}
    created = {event.id: event.subject for event in facts.events if event.type == CREATED}
    confirmed = {record.event_id for record in facts.ledger if record.kind == CREATED}
    taken = {mail.message_id for mail in facts.mails}
    for event in created.keys() - confirmed:
        yield f"event {event} of order {created[event]} has no record in the mail ledger"
    for record in facts.ledger:
        if record.event_id not in events and record.kind.startswith(_ORDER_KINDS):
            yield f"the mail ledger has a record of event {record.event_id}, which is in no outbox"
        if record.state == "sent" and record.message_id not in taken:
            yield f"the mail of event {record.event_id} is sent by the ledger, but never arrived"
        if record.state == "failed":
            yield f"the mail of event {record.event_id} has failed, and no drill refuses one for good"
        if record.state == "unknown" and facts.policy == "resend" and not record.resends:
            yield f"the mail of event {record.event_id} is unknown, and was not re-sent as the policy says"
    welcomed = {record.recipient for record in facts.ledger if record.kind == _WELCOME}
    for customer in {purchase.email for purchase in facts.purchases} - welcomed if welcomed else ():
        yield f"{customer} was registered, and has no record of a mail that says so"
    for ghost in taken - {record.message_id for record in facts.ledger}:
        yield f"mail {ghost} arrived without a record in the ledger"


def duplicates_bounded(facts: Facts) -> Iterator[str]:
    """I5: no mail came more often than the ledger says it was handed over, none with other bytes.

    All together, not more than were in doubt when senders died or answers were cut off; with ``park`` none.
    """
    copies = Counter(mail.message_id for mail in facts.mails)
    records = {record.message_id: record for record in facts.ledger}
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for mail in facts.mails:
        digests[mail.message_id].add(mail.digest)
    for message_id, number in copies.items():
        record = records.get(message_id)
        if record is None:
            continue  # a ghost: see I4
        if number - 1 > record.resends:
            yield f"{_of(record)} came {number} times; the ledger knows of {record.resends} re-sends"
        if facts.policy == "park" and number > 1:
            yield f"{_of(record)} came {number} times, and the policy is to park"
        if len(digests[message_id]) > 1:
            yield f"{_of(record)} came with {len(digests[message_id])} different contents"
    doubled, bound = duplicates(facts), sum(doubt.mails for doubt in facts.doubts)
    if doubled > bound:
        yield f"{doubled} mails were doubled; at most {bound} were in doubt"


def duplicates(facts: Facts) -> int:
    """How many mails came beyond the first of each."""
    return len(facts.mails) - len({mail.message_id for mail in facts.mails})


def one_record(facts: Facts) -> Iterator[str]:
    """I6: one ledger record per event, kind and recipient; one mail per event of an order, one welcome each."""
    records = Counter((record.event_id, record.kind, record.recipient) for record in facts.ledger)
    for (event, kind, recipient), number in records.items():
        if number > 1:
            yield f"event {event} has {number} records for {kind} to {recipient}"
    of_orders = Counter(record.event_id for record in facts.ledger if record.kind.startswith(_ORDER_KINDS))
    for event, number in of_orders.items():
        if number > 1:
            yield f"event {event} has {number} records of mails"
    welcomes = Counter(record.recipient for record in facts.ledger if record.kind == _WELCOME)
    for customer, number in welcomes.items():
        if number > 1:
            yield f"{customer} has {number} records of a mail of welcome"


def _of(record: LedgerRow) -> str:
    return f"the mail of event {record.event_id} to {record.recipient}"
