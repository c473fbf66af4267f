"""The figures of a benchmark: medians, ratios, and reasons why a run is invalid."""

import statistics
from collections.abc import Callable, Mapping, Sequence

import msgspec

from purveyor_drill.bench.load import Result

CLOSED, HALF = "orders, closed loop", "orders, half load"
"""The measurements of ``POST /api/orders/``. The second sends orders at half of the rate of the first."""


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One load on one target."""

    result: Result
    cpu_ms: Mapping[str, float]
    """CPU time per answer by part of the stack, until what waited afterwards was done."""
    foreign: float
    """Share of the machine that other processes used during the load, 0 to 1."""
    outbox_s: float | None = None
    """Seconds from the end of the load until the outbox was empty, or until the time for it was over."""
    emails_s: float | None = None
    """Seconds until the last email was accepted, or until the time for it was over; ``None`` if not waited for."""
    events_left: int = 0
    """Events in the outbox when the time for it was over."""
    emails_left: int = 0
    """Emails that were not accepted when the time for it was over."""

    @property
    def total_cpu_ms(self) -> float:
        return sum(self.cpu_ms.values())

    @property
    def emails_per_second(self) -> float:
        """Accepted emails per second, over the load and what came after it."""
        seconds = self.result.seconds + (self.emails_s or 0.0)
        return max(0, self.result.succeeded - self.emails_left) / seconds if seconds else 0.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A whole benchmark. Sequences have one value per round."""

    at: str
    """RFC 3339."""
    version: str
    cores: int
    disk: str
    """The file system of the databases; empty if it is not known."""
    durable: bool
    """The file system is on a disk, and PostgreSQL flushes each commit to it."""
    connections: int
    slots: Mapping[str, Mapping[str, Sequence[Slot]]]
    """By measurement and target."""
    relayed: Mapping[str, Sequence[float]]
    """Events per second from a backlog, by target."""
    backlog_emails: Sequence[float]
    """Emails per second of one worker from a backlog."""
    backlog_left: int
    """Emails of such a backlog that were not accepted in time."""
    start_s: Mapping[str, Sequence[float]]
    """Seconds from the start of the processes until all are ready, by target."""
    memory_mb: Mapping[str, Mapping[str, float]]
    """By target and part, after all loads."""
    ceiling: Sequence[float]
    """Orders per second that PostgreSQL alone takes from pgbench; empty if it was not measured."""


def median_of(slots: Sequence[Slot], figure: Callable[[Slot], float]) -> float:
    """The median over the rounds."""
    return statistics.median(map(figure, slots))


def rate(slot: Slot) -> float:
    """Answers of success per second."""
    return slot.result.per_second


def ratios(ours: Sequence[Slot], theirs: Sequence[Slot]) -> list[float]:
    """The ratio of the rates in each round, so that a slow drift of the machine cancels out.

    Empty if the peer answered nothing.
    """
    pairs = zip(ours, theirs, strict=True)
    return [rate(our) / rate(their) for our, their in pairs if rate(their)]


def cpu_by_part(slots: Sequence[Slot]) -> dict[str, float]:
    """The median CPU milliseconds per answer of each part, largest first."""
    names = {name for slot in slots for name in slot.cpu_ms}
    found = {name: median_of(slots, lambda slot, part=name: slot.cpu_ms.get(part, 0.0)) for name in names}  # type: ignore[misc]
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def faults_of(slots: Sequence[Slot]) -> list[str]:
    """Why the slots of one target in one measurement do not count; empty if they do."""
    found = []
    if failed := sum(slot.result.failed for slot in slots):
        found.append(f"{failed} requests failed")
    if any(slot.result.succeeded == 0 for slot in slots):
        found.append("a round had no answer")
    if events := max(slot.events_left for slot in slots):
        found.append(f"{events} events were still in the outbox")
    if emails := max(slot.emails_left for slot in slots):
        found.append(f"{emails} emails were still not accepted")
    return found


def faults(run: Run) -> list[str]:
    """Why the run is invalid; empty if it is valid."""
    found = [
        f"{measurement}, {target}: {fault}"
        for measurement, targets in run.slots.items()
        for target, slots in targets.items()
        for fault in faults_of(slots)
    ]
    if run.backlog_left:
        found.append(f"{run.backlog_left} emails of a backlog were still not accepted")
    if not run.durable:
        found.append(f"the databases are in memory ({run.disk}): give a folder on a disk with --folder")
    return found


def foreign(run: Run) -> float:
    """The median share of the machine that other processes used, 0 to 1."""
    shares = [slot.foreign for targets in run.slots.values() for slots in targets.values() for slot in slots]
    return statistics.median(shares) if shares else 0.0
