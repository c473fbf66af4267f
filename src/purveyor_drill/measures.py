"""The figures of a drill: recovery times, latencies, rates, duplicates; computed from the observations alone."""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from purveyor_drill.invariants_mails import duplicates
from purveyor_drill.invariants_orders import CREATED
from purveyor_drill.observations import Injected, Observations, Operation, OperationKind, Outcome

_SERVERS = {"postgres", "embedded", "rabbitmq", "nats", "redis", "mongodb", "smtp"}
_PROCESS_ACTIONS = {"kill", "term"}


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A summary of durations in seconds."""

    count: int
    median: float
    p99: float
    longest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """By nearest rank; all zero for no values."""
        ordered = sorted(values)
        if not ordered:
            return cls(count=0, median=0.0, p99=0.0, longest=0.0)
        rank = [ordered[math.ceil(part * len(ordered)) - 1] for part in (0.5, 0.99)]
        return cls(count=len(ordered), median=rank[0], p99=rank[1], longest=ordered[-1])


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a report, besides the verdicts."""

    orders_sent: int
    orders_accepted: int
    orders_refused: int
    orders_unknown: int
    orders_stored: int
    orders_lost: int
    orders_duplicated: int
    changes_done: int
    changes_refused: int
    changes_unknown: int
    changes_unknown_stored: int
    """Changes with an unknown outcome that the order's history contains."""
    reads_done: int
    mails_taken: int
    mails_lost: int
    mails_unknown: int
    mails_duplicated: int
    sender_deaths: int
    duplicates_per_death: float
    duplicates_bound: int
    duplicates_by_cause: dict[str, int]
    """Each duplicate counts for the last event before it that put mails in doubt."""
    faults: dict[str, int]
    recovery: dict[str, Spread]
    """By fault: from its end until its hop worked again, if no other fault was in the way."""
    order_latency: Spread
    """From when an order was due until its 201."""
    event_latency: Spread
    """From an order until the confirmation of its event."""
    mail_latency: Spread
    """From an order until its mail was received."""
    settled_in_s: float | None
    own_deaths: int
    skipped: int
    """Faults that were skipped because their target was still down."""


def measure(observed: Observations) -> Figures:
    """Compute every figure."""
    outcomes = Counter(purchase.outcome for purchase in observed.purchases)
    keys = Counter(order.key for order in observed.orders)
    accepted = [purchase for purchase in observed.purchases if purchase.outcome == "ok"]
    created = {event.id: event for event in observed.events if event.type == CREATED}
    records = {record.event_id: record for record in observed.ledger if record.kind == CREATED}
    taken = {mail.message_id for mail in observed.mails}
    states = Counter(record.state for record in records.values())
    parked = {event for event, record in records.items() if record.state in {"unknown", "failed"}}
    arrived = {event for event, record in records.items() if record.message_id in taken}
    deaths = sum(doubt.sender_died for doubt in observed.doubts)
    duplicated = duplicates(observed)
    changes = _outcomes(observed.operations, "change")
    return Figures(
        orders_sent=len(observed.purchases),
        orders_accepted=outcomes["ok"],
        orders_refused=outcomes["fail"],
        orders_unknown=outcomes["info"],
        orders_stored=len(observed.orders),
        orders_lost=sum(keys[purchase.key] == 0 for purchase in accepted),
        orders_duplicated=sum(number - 1 for number in keys.values()),
        changes_done=len(changes["ok"]),
        changes_refused=len(changes["fail"]),
        changes_unknown=len(changes["info"]),
        changes_unknown_stored=len(
            changes["info"] & {name for history in observed.histories for name in history.changes}
        ),
        reads_done=len(_outcomes(observed.operations, "read")["ok"]),
        mails_taken=len(observed.mails),
        mails_lost=len(created.keys() - arrived - parked),
        mails_unknown=states["unknown"],
        mails_duplicated=duplicated,
        sender_deaths=deaths,
        duplicates_per_death=duplicated / deaths if deaths else 0.0,
        duplicates_bound=sum(doubt.mails for doubt in observed.doubts),
        duplicates_by_cause=_by_cause(observed),
        faults=dict(Counter(f"{fault.action} {fault.target}" for fault in observed.injected)),
        recovery=_recovery(observed),
        order_latency=Spread.of(p.accepted_at - p.due_at for p in accepted if p.accepted_at),
        event_latency=Spread.of(e.published_at - e.occurred_at for e in created.values() if e.published_at),
        mail_latency=Spread.of(_mail_delays(observed)),
        settled_in_s=observed.settled_in_s,
        own_deaths=len(observed.own_deaths),
        skipped=observed.skipped,
    )


def _outcomes(operations: Iterable[Operation], kind: OperationKind) -> Mapping[Outcome, set[str]]:
    """The ids of all operations of a kind, by outcome."""
    found: defaultdict[Outcome, set[str]] = defaultdict(set)
    for operation in operations:
        if operation.kind == kind:
            found[operation.outcome].add(operation.id)
    return found


def _mail_delays(observed: Observations) -> Iterable[float]:
    first: dict[str, float] = {}
    for mail in observed.mails:
        first.setdefault(mail.message_id, mail.at)
    occurred = {event.id: event.occurred_at for event in observed.events if event.type == CREATED}
    for record in observed.ledger:
        if record.event_id in occurred and record.message_id in first:
            yield first[record.message_id] - occurred[record.event_id]


def _by_cause(observed: Observations) -> dict[str, int]:
    doubts = sorted(observed.doubts, key=lambda doubt: doubt.at)
    moments = [doubt.at for doubt in doubts]
    causes: Counter[str] = Counter()
    seen: set[str] = set()
    for mail in observed.mails:
        if mail.message_id in seen:
            place = bisect_left(moments, mail.at)
            causes[doubts[place - 1].cause if place else "nothing"] += 1
        seen.add(mail.message_id)
    return dict(causes)


def _recovery(observed: Observations) -> dict[str, Spread]:
    successes = _successes(observed)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for fault in observed.injected:
        back_at = _back_at(fault, successes)
        if back_at is not None and not fault.error and not _disturbed(fault, back_at, observed.injected):
            found[f"{fault.action} {fault.target}"].append(back_at - fault.ended_at)
    return {name: Spread.of(values) for name, values in sorted(found.items())}


def _back_at(fault: Injected, successes: Mapping[str, Sequence[float]]) -> float | None:
    """The first success of the hop after a fault; for a process with peers, when it was ready again."""
    hop = _hop(fault, successes)
    if fault.action in _PROCESS_ACTIONS and hop != fault.target and fault.target not in _SERVERS:
        return fault.ready_at
    moments = successes[hop]
    place = bisect_left(moments, fault.ended_at)
    return moments[place] if place < len(moments) else None


def _disturbed(fault: Injected, moment: float, others: Sequence[Injected]) -> bool:
    """Return whether another fault was active before the hop worked, so that the recovery may be that one's.

    Faults of other processes do not count.
    """
    for other in others:
        if other is fault or not (other.began_at < moment and other.ready_at > fault.ended_at):
            continue
        if other.target == fault.target or other.target.startswith("link to ") or other.target in _SERVERS:
            return True
    return False


def _successes(observed: Observations) -> Mapping[str, Sequence[float]]:
    """Return the times at which each hop worked: each process of role orders, the events, the emails."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for purchase in observed.purchases:
        for attempt in purchase.attempts:
            if attempt.status in {200, 201}:
                moment = attempt.sent_at + attempt.elapsed_s
                found["orders"].append(moment)
                found[attempt.process].append(moment)
    found["events"] = [event.published_at for event in observed.events if event.published_at]
    found["mails"] = [mail.at for mail in observed.mails]
    return defaultdict(list, {hop: sorted(moments) for hop, moments in found.items()})


def _hop(fault: Injected, successes: Mapping[str, Sequence[float]]) -> str:
    """The hop that shows whether the target of a fault works."""
    target = fault.target.removeprefix("link to ")
    if target in successes and fault.action in {*_PROCESS_ACTIONS, "freeze"}:
        return target
    if target in {"rabbitmq", "nats"}:
        return "events"
    return "mails" if target.startswith(("mail", "smtp", "mongodb")) else "orders"


def per_second(moments: Iterable[float], began_at: float, seconds: int) -> list[int]:
    """Count the moments in each second from ``began_at``."""
    counts = Counter(int(moment - began_at) for moment in moments if moment >= began_at)
    return [counts[second] for second in range(seconds)]
