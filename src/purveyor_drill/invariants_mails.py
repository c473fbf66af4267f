"""The invariants of events, the mail ledger and the mails: I3 to I6."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from purveyor_drill.invariants_orders import CREATED
from purveyor_drill.observations import FINAL, LedgerRow, Observations

_ORDER_KINDS = "order."
_WELCOME = "user.registered"
"""Its events name people, so their outbox deletes them once published: the check starts from the customers."""


def nothing_in_hand(observed: Observations) -> Iterator[str]:
    """I3: every event is published, every queue empty, every mail in a final state, nothing dead-lettered."""
    for event in observed.events:
        if event.published_at is None:
            yield f"event {event.id} of {event.subject} ({event.type}) was not published"
    for queue, number in observed.waiting.items():
        yield f"{number} messages are left in {queue}"
    for record in observed.ledger:
        if record.state not in FINAL:
            yield f"the mail of event {record.event_id} is still {record.state} after {record.attempts} attempts"
    if observed.settled_in_s is None:
        yield "work was still pending when the drill stopped waiting"


def none_lost(observed: Observations) -> Iterator[str]:
    """I4: events and ledger match one to one, every sent mail is in the sink, every mail there has an event.

    A mail parked as ``unknown`` is not lost; with ``resend`` it must have been re-sent, and so in doubt twice.
    A ``failed`` mail is lost, because the sink refuses none permanently.
    """
    events = {event.id for event in observed.events}
    created = {event.id: event.subject for event in observed.events if event.type == CREATED}
    confirmed = {record.event_id for record in observed.ledger if record.kind == CREATED}
    taken = {mail.message_id for mail in observed.mails}
    for event in created.keys() - confirmed:
        yield f"event {event} of order {created[event]} has no record in the mail ledger"
    for record in observed.ledger:
        if record.event_id not in events and record.kind.startswith(_ORDER_KINDS):
            yield f"the mail ledger has a record of event {record.event_id}, which is in no outbox"
        if record.state == "sent" and record.message_id not in taken:
            yield f"the mail of event {record.event_id} is sent according to the ledger, but never arrived"
        if record.state == "failed":
            yield f"the mail of event {record.event_id} has failed, but no drill refuses a mail permanently"
        if record.state == "unknown" and observed.policy == "resend" and not record.resends:
            yield f"the mail of event {record.event_id} is unknown, but was not re-sent as the policy demands"
    welcomed = {record.recipient for record in observed.ledger if record.kind == _WELCOME}
    for customer in {purchase.email for purchase in observed.purchases} - welcomed if welcomed else ():
        yield f"{customer} was registered, but the ledger has no record of a welcome mail"
    for unexplained in taken - {record.message_id for record in observed.ledger}:
        yield f"mail {unexplained} arrived without a record in the ledger"


def duplicates_bounded(observed: Observations) -> Iterator[str]:
    """I5: no mail arrived more often than the ledger says it was handed over, or with different bytes.

    In total no more than were in doubt when senders died or answers were cut off; with ``park`` none.
    """
    copies = Counter(mail.message_id for mail in observed.mails)
    records = {record.message_id: record for record in observed.ledger}
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for mail in observed.mails:
        digests[mail.message_id].add(mail.digest)
    for message_id, number in copies.items():
        record = records.get(message_id)
        if record is None:
            continue  # I4 reports it
        if number - 1 > record.resends:
            yield f"{_of(record)} arrived {number} times; the ledger records {record.resends} re-sends"
        if observed.policy == "park" and number > 1:
            yield f"{_of(record)} arrived {number} times, but the policy is to park"
        if len(digests[message_id]) > 1:
            yield f"{_of(record)} arrived with {len(digests[message_id])} different contents"
    duplicated, bound = duplicates(observed), sum(doubt.mails for doubt in observed.doubts)
    if duplicated > bound:
        yield f"{duplicated} mails were duplicated; at most {bound} were in doubt"


def duplicates(observed: Observations) -> int:
    """Count the emails that arrived beyond the first of each."""
    return len(observed.mails) - len({mail.message_id for mail in observed.mails})


def one_record(observed: Observations) -> Iterator[str]:
    """I6: one ledger record per event, kind and recipient; one mail per event of an order, one welcome each."""
    records = Counter((record.event_id, record.kind, record.recipient) for record in observed.ledger)
    for (event, kind, recipient), number in records.items():
        if number > 1:
            yield f"event {event} has {number} records for {kind} to {recipient}"
    of_orders = Counter(record.event_id for record in observed.ledger if record.kind.startswith(_ORDER_KINDS))
    for event, number in of_orders.items():
        if number > 1:
            yield f"event {event} has {number} records of mails"
    welcomes = Counter(record.recipient for record in observed.ledger if record.kind == _WELCOME)
    for customer, number in welcomes.items():
        if number > 1:
            yield f"{customer} has {number} records of a welcome mail"


def _of(record: LedgerRow) -> str:
    return f"the mail of event {record.event_id} to {record.recipient}"
