"""The figures of a drill: recovery times, latencies, rates, duplicates; computed from the facts alone."""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from purveyor_drill.invariants_mails import duplicates
from purveyor_drill.invariants_orders import CREATED
from purveyor_drill.observations import Facts, Injected

_SERVERS = {"postgres", "embedded", "rabbitmq", "redis", "mongodb", "smtp"}
_PROCESS_ACTIONS = {"kill", "term"}


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Some durations in seconds, summed up."""

    count: int
    median: float
    p99: float
    longest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Nearest rank; all zero for no values."""
        ordered = sorted(values)
        if not ordered:
            return cls(count=0, median=0.0, p99=0.0, longest=0.0)
        rank = [ordered[math.ceil(part * len(ordered)) - 1] for part in (0.5, 0.99)]
        return cls(count=len(ordered), median=rank[0], p99=rank[1], longest=ordered[-1])


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the report shows beside the verdicts."""

    orders_sent: int
    orders_accepted: int
    orders_refused: int
    orders_unknown: int
    orders_stored: int
    orders_lost: int
    orders_doubled: int
    mails_taken: int
    mails_lost: int
    mails_unknown: int
    mails_doubled: int
    sender_deaths: int
    duplicates_per_death: float
    duplicates_bound: int
    duplicates_by_cause: dict[str, int]
    """Each duplicate counted for the last thing before it that put mails in doubt."""
    faults: dict[str, int]
    recovery: dict[str, Spread]
    """By fault: from when it was lifted until the hop that it had hit worked, where nothing else was amiss."""
    order_latency: Spread
    """From when an order was due until its 201."""
    event_latency: Spread
    """From the order until its event was confirmed."""
    mail_latency: Spread
    """From the order until its mail was taken."""
    settled_in_s: float | None
    own_deaths: int
    skipped: int
    """Faults that were left out because their target was not up again yet."""


def measure(facts: Facts) -> Figures:
    """Compute every figure."""
    outcomes = Counter(purchase.outcome for purchase in facts.purchases)
    keys = Counter(order.key for order in facts.orders)
    accepted = [purchase for purchase in facts.purchases if purchase.outcome == "ok"]
    created = {event.id: event for event in facts.events if event.type == CREATED}
    records = {record.event_id: record for record in facts.ledger if record.kind == CREATED}
    taken = {mail.message_id for mail in facts.mails}
    states = Counter(record.state for record in records.values())
    parked = {event for event, record in records.items() if record.state in {"unknown", "failed"}}
    arrived = {event for event, record in records.items() if record.message_id in taken}
    deaths = sum(doubt.sender_died for doubt in facts.doubts)
    doubled = duplicates(facts)
    return Figures(
        orders_sent=len(facts.purchases),
        orders_accepted=outcomes["ok"],
        orders_refused=outcomes["fail"],
        orders_unknown=outcomes["info"],
        orders_stored=len(facts.orders),
        orders_lost=sum(keys[purchase.key] == 0 for purchase in accepted),
        orders_doubled=sum(number - 1 for number in keys.values()),
        mails_taken=len(facts.mails),
        mails_lost=len(created.keys() - arrived - parked),
        mails_unknown=states["unknown"],
        mails_doubled=doubled,
        sender_deaths=deaths,
        duplicates_per_death=doubled / deaths if deaths else 0.0,
        duplicates_bound=sum(doubt.mails for doubt in facts.doubts),
        duplicates_by_cause=_by_cause(facts),
        faults=dict(Counter(f"{fault.action} {fault.target}" for fault in facts.injected)),
        recovery=_recovery(facts),
        order_latency=Spread.of(p.accepted_at - p.due_at for p in accepted if p.accepted_at),
        event_latency=Spread.of(e.published_at - e.occurred_at for e in created.values() if e.published_at),
        mail_latency=Spread.of(_mail_delays(facts)),
        settled_in_s=facts.settled_in_s,
        own_deaths=len(facts.own_deaths),
        skipped=facts.skipped,
    )


def _mail_delays(facts: Facts) -> Iterable[float]:
    first: dict[str, float] = {}
    for mail in facts.mails:
        first.setdefault(mail.message_id, mail.at)
    occurred = {event.id: event.occurred_at for event in facts.events if event.type == CREATED}
    for record in facts.ledger:
        if record.event_id in occurred and record.message_id in first:
            yield first[record.message_id] - occurred[record.event_id]


def _by_cause(facts: Facts) -> dict[str, int]:
    doubts = sorted(facts.doubts, key=lambda doubt: doubt.at)
    moments = [doubt.at for doubt in doubts]
    causes: Counter[str] = Counter()
    seen: set[str] = set()
    for mail in facts.mails:
        if mail.message_id in seen:
            place = bisect_left(moments, mail.at)
            causes[doubts[place - 1].cause if place else "nothing"] += 1
        seen.add(mail.message_id)
    return dict(causes)


def _recovery(facts: Facts) -> dict[str, Spread]:
    successes = _successes(facts)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for fault in facts.injected:
        back_at = _back_at(fault, successes)
        if back_at is not None and not fault.error and not _disturbed(fault, back_at, facts.injected):
            found[f"{fault.action} {fault.target}"].append(back_at - fault.ended_at)
    return {name: Spread.of(values) for name, values in sorted(found.items())}


def _back_at(fault: Injected, successes: Mapping[str, Sequence[float]]) -> float | None:
    """When what was hit worked again: its hop's first success, or its own word where peers did its work."""
    hop = _hop(fault, successes)
    if fault.action in _PROCESS_ACTIONS and hop != fault.target and fault.target not in _SERVERS:
        return fault.ready_at
    moments = successes[hop]
    place = bisect_left(moments, fault.ended_at)
    return moments[place] if place < len(moments) else None


def _disturbed(fault: Injected, moment: float, others: Sequence[Injected]) -> bool:
    """Whether another fault held until the hop worked: then it is not known whose recovery that was.

    A fault of one process counts only where it is the same process: it has peers, or its own line.
    """
    for other in others:
        if other is fault or not (other.began_at < moment and other.ready_at > fault.ended_at):
            continue
        if other.target == fault.target or other.target.startswith("link to ") or other.target in _SERVERS:
            return True
    return False


def _successes(facts: Facts) -> Mapping[str, Sequence[float]]:
    """When each hop was seen to work: each process of role orders, the events, the mails."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for purchase in facts.purchases:
        for attempt in purchase.attempts:
            if attempt.status in {200, 201}:
                moment = attempt.sent_at + attempt.elapsed_s
                found["orders"].append(moment)
                found[attempt.process].append(moment)
    found["events"] = [event.published_at for event in facts.events if event.published_at]
    found["mails"] = [mail.at for mail in facts.mails]
    return defaultdict(list, {hop: sorted(moments) for hop, moments in found.items()})


def _hop(fault: Injected, successes: Mapping[str, Sequence[float]]) -> str:
    """Which hop shows that what was hit works again."""
    target = fault.target.removeprefix("link to ")
    if target in successes and fault.action in {*_PROCESS_ACTIONS, "freeze"}:
        return target
    if target == "rabbitmq":
        return "events"
    return "mails" if target.startswith(("mail", "smtp", "mongodb")) else "orders"


def per_second(moments: Iterable[float], began_at: float, seconds: int) -> list[int]:
    """How many fall into each second from ``began_at``."""
    counts = Counter(int(moment - began_at) for moment in moments if moment >= began_at)
    return [counts[second] for second in range(seconds)]
