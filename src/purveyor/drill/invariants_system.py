"""The invariants of refusals, secrets and resources: I9 to I11."""

from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus

from purveyor.drill.facts import Attempt, Facts, Injected, Sample

REFUSED_WITHIN_S = 4.0
"""2.5 s is the promise; the rest is for a machine that does everything at once: load, drill and servers."""
_MORE_DESCRIPTORS = 5
_MORE_MEMORY = 1.2
_MEMORY_SLACK = 24 * 1024 * 1024
_LIVED_S = 20.0


def refusals_in_order(facts: Facts) -> Iterator[str]:
    """I9: no 5xx but 503, and that with Retry-After and in time; silence is worse than a late 503.

    A process that was itself hit by a fault is excused from its beginning until it takes work again.
    """
    outages: defaultdict[str, list[Injected]] = defaultdict(list)
    for fault in facts.injected:
        outages[fault.target].append(fault)
    for purchase in facts.purchases:
        for attempt in purchase.attempts:
            what = f"{attempt.kind} {attempt.number} of key {attempt.key} at {attempt.process}"
            if attempt.status == HTTPStatus.SERVICE_UNAVAILABLE:
                if not attempt.retry_after:
                    yield f"{what}: 503 without Retry-After"
                if attempt.elapsed_s > REFUSED_WITHIN_S and not _was_hit(attempt, outages[attempt.process]):
                    yield f"{what}: 503 after {attempt.elapsed_s:.1f} s"
            elif attempt.error == "TimeoutError" and not _was_hit(attempt, outages[attempt.process]):
                yield f"{what}: no answer in {attempt.elapsed_s:.1f} s"
            elif attempt.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                yield f"{what}: {attempt.status}"


def _was_hit(attempt: Attempt, outages: list[Injected]) -> bool:
    ended_at = attempt.sent_at + attempt.elapsed_s
    return any(fault.began_at < ended_at and fault.ready_at > attempt.sent_at for fault in outages)


def nothing_leaked(facts: Facts) -> Iterator[str]:
    """I10: the canaries are nowhere."""
    yield from facts.leaks


def resources_return(facts: Facts) -> Iterator[str]:
    """I11: at rest no process has more descriptors or memory than early in its life, and no transaction is stuck.

    Early is the first third; a process that lived for less than 20 s is not judged.
    """
    if facts.stuck_transactions:
        yield f"{facts.stuck_transactions} connections keep a transaction open and idle"
    by_process: defaultdict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in facts.samples:
        by_process[sample.process, sample.pid].append(sample)
    last_at = max((sample.at for sample in facts.samples), default=0.0)
    for (name, pid), samples in by_process.items():
        last, life_s = samples[-1], samples[-1].at - samples[0].at
        if last.at < last_at or life_s < _LIVED_S:
            continue  # it ended before the rest, or began shortly before
        early = [sample for sample in samples if sample.at - samples[0].at <= life_s / 3]
        descriptors = max(sample.descriptors for sample in early)
        if last.descriptors > descriptors + _MORE_DESCRIPTORS:
            yield f"{name} (process {pid}): {last.descriptors} descriptors at rest, {descriptors} early on"
        memory = max(sample.memory for sample in early)
        if last.memory > memory * _MORE_MEMORY + _MEMORY_SLACK:
            yield f"{name} (process {pid}): {_mib(last.memory)} at rest, {_mib(memory)} early on"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
