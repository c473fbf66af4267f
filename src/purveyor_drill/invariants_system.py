"""The invariants of refusals, secrets and resources: I9 to I11."""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from http import HTTPStatus

from purveyor_drill.observations import CLIENT, Attempt, Injected, Observations, Operation, Sample

REFUSED_WITHIN_S = 2.5
_MOST_EXCUSED_S = 1.5
"""The longest excused wait for a processor; assumed where the system does not count such waits."""
_MORE_DESCRIPTORS = 5
_MORE_MEMORY = 1.2
_MEMORY_SLACK = 24 * 1024 * 1024
_LIVED_S = 20.0


def refusals_in_order(observed: Observations) -> Iterator[str]:
    """I9: no 5xx other than 503, and that with Retry-After and in time.

    In time means 2.5 s, plus the time for which the process and the drill waited for a processor, at most 1.5 s:
    one machine runs load, drill and servers. A process is excused while a fault affects it, until it is ready.
    """
    outages: defaultdict[str, list[Injected]] = defaultdict(list)
    for fault in observed.injected:
        outages[fault.target].append(fault)
    waits = _Waits(observed.samples)
    for what, attempt in _requests(observed):
        if attempt.status == HTTPStatus.SERVICE_UNAVAILABLE:
            if not attempt.retry_after:
                yield f"{what}: 503 without Retry-After"
            if _is_late(attempt, waits) and not _was_hit(attempt, outages[attempt.process]):
                yield f"{what}: 503 after {attempt.elapsed_s:.1f} s"
        elif attempt.error == "TimeoutError":
            if _is_late(attempt, waits) and not _was_hit(attempt, outages[attempt.process]):
                yield f"{what}: no answer in {attempt.elapsed_s:.1f} s"
        elif attempt.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            yield f"{what}: {attempt.status}"


def _requests(observed: Observations) -> Iterator[tuple[str, Attempt | Operation]]:
    """Every request of the drill, each with its name."""
    for purchase in observed.purchases:
        for attempt in purchase.attempts:
            yield f"{attempt.kind} {attempt.number} of key {attempt.key} at {attempt.process}", attempt
    for operation in observed.operations:
        yield f"{operation.kind} {operation.id} of order {operation.order_id} at {operation.process}", operation


class _Waits:
    """Time that processes waited for a processor, according to their samples."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._known: defaultdict[str, dict[int, list[tuple[float, float]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for sample in samples:
            if sample.waited_s is not None:
                self._known[sample.process][sample.pid].append((sample.at, sample.waited_s))

    def during(self, process: str, since: float, until: float) -> float | None:
        """In seconds, from the sample before to the one after; ``None`` if not counted."""
        spans = []
        for counted in self._known[process].values():
            first = max(0, bisect_right(counted, (since, math.inf)) - 1)
            last = min(len(counted) - 1, bisect_left(counted, (until, 0.0)))
            if first < last:
                spans.append(counted[last][1] - counted[first][1])
        return sum(spans) if spans else None


def _is_late(attempt: Attempt | Operation, waits: _Waits) -> bool:
    ended_at = attempt.sent_at + attempt.elapsed_s
    own_s = waits.during(attempt.process, attempt.sent_at, ended_at)
    waited_s = (
        _MOST_EXCUSED_S if own_s is None else own_s + (waits.during(CLIENT, attempt.sent_at, ended_at) or 0.0)
    )
    return attempt.elapsed_s > REFUSED_WITHIN_S + min(waited_s, _MOST_EXCUSED_S)


def _was_hit(attempt: Attempt | Operation, outages: list[Injected]) -> bool:
    ended_at = attempt.sent_at + attempt.elapsed_s
    return any(fault.began_at < ended_at and fault.ready_at > attempt.sent_at for fault in outages)


def nothing_leaked(observed: Observations) -> Iterator[str]:
    """I10: no canary shows up anywhere."""
    yield from observed.leaks


def resources_return(observed: Observations) -> Iterator[str]:
    """I11: at rest no process has more descriptors or memory than early in its life; no transaction is stuck."""
    if observed.stuck_transactions:
        yield f"{observed.stuck_transactions} connections keep a transaction open and idle"
    yield from still_held(observed.samples)


def still_held(samples: Iterable[Sample]) -> Iterator[str]:
    """Find resources that the last processes hold beyond the first third of their lives.

    Processes younger than 20 s are not judged.
    """
    by_process: defaultdict[tuple[str, int], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.process != CLIENT:
            by_process[sample.process, sample.pid].append(sample)
    last_at = max((lived[-1].at for lived in by_process.values()), default=0.0)
    for (name, pid), lived in by_process.items():
        last, life_s = lived[-1], lived[-1].at - lived[0].at
        if last.at < last_at or life_s < _LIVED_S:
            continue  # it has ended, or is too young
        early = [sample for sample in lived if sample.at - lived[0].at <= life_s / 3]
        descriptors = max(sample.descriptors for sample in early)
        if last.descriptors > descriptors + _MORE_DESCRIPTORS:
            yield f"{name} (process {pid}): {last.descriptors} descriptors at rest, {descriptors} early on"
        memory = max(sample.memory for sample in early)
        if last.memory > memory * _MORE_MEMORY + _MEMORY_SLACK:
            yield f"{name} (process {pid}): {_mib(last.memory)} at rest, {_mib(memory)} early on"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
