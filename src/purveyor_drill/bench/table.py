"""The figures of a benchmark as text."""

import statistics
from collections.abc import Iterator, Mapping, Sequence

from purveyor_drill.bench.results import (
    CLOSED,
    HALF,
    Run,
    Slot,
    cpu_by_part,
    faults,
    faults_of,
    foreign,
    median_of,
    rate,
    ratios,
)
from purveyor_drill.bench.targets import PEER

_QUIET = 0.1
_NAME = 34
_HEADS = ("per s", "p50 ms", "p99 ms", "x peer", "(range)", "CPU ms", "outbox s", "emails s")
_WIDTHS = (9, 9, 9, 8, 14, 9, 10, 10)


def render_table(run: Run) -> str:
    """All figures, and at the end whether the run is valid."""
    return "\n".join(_lines(run))


def _lines(run: Run) -> Iterator[str]:
    rounds = max((len(slots) for targets in run.slots.values() for slots in targets.values()), default=0)
    yield (
        f"Purveyor {run.version}, {run.at}: {run.cores} cores, databases on {run.disk or 'an unknown disk'}, "
        f"{run.connections} connections, medians of {rounds} {'round' if rounds == 1 else 'rounds'}."
    )
    share = foreign(run)
    advice = "" if share <= _QUIET else " The machine was not quiet: compare ratios, not rates."
    yield f"Other processes used {share:.0%} of the machine.{advice}"
    for measurement, targets in run.slots.items():
        yield ""
        yield measurement.ljust(_NAME) + _cells(_HEADS)
        for name, slots in targets.items():
            yield f"  {name}".ljust(_NAME) + _cells(
                _figures(slots, targets.get(PEER, ()) if measurement != HALF else ())
            )
            for fault in faults_of(slots):
                yield f"    INVALID: {fault}"
    yield ""
    yield from _rest(run)
    yield ""
    problems = faults(run)
    yield "The run is valid." if not problems else "The run is INVALID:"
    yield from (f"  {problem}" for problem in problems)


def _cells(texts: Sequence[str]) -> str:
    return "".join(text.rjust(width) for text, width in zip(texts, _WIDTHS, strict=True)).rstrip()


def _figures(slots: Sequence[Slot], peer: Sequence[Slot]) -> list[str]:
    found = ratios(slots, peer) if peer else []
    return [
        f"{median_of(slots, rate):.0f}",
        f"{median_of(slots, lambda slot: slot.result.latency.median) * 1000:.1f}",
        f"{median_of(slots, lambda slot: slot.result.latency.p99) * 1000:.1f}",
        f"{statistics.median(found):.1f}" if found else "-",
        f"({min(found):.1f}-{max(found):.1f})" if found else "",
        f"{median_of(slots, lambda slot: slot.total_cpu_ms):.2f}",
        _wait([slot.outbox_s for slot in slots], left=any(slot.events_left for slot in slots)),
        _wait([slot.emails_s for slot in slots], left=any(slot.emails_left for slot in slots)),
    ]


def _wait(values: Sequence[float | None], *, left: bool) -> str:
    """``left``: something was left at the end of a wait, so that the figure is a lower bound."""
    known = [value for value in values if value is not None]
    return f"{'>' if left else ''}{statistics.median(known):.1f}" if known else "-"


def _rest(run: Run) -> Iterator[str]:
    orders = run.slots.get(CLOSED, {})
    yield "CPU ms per order until its email is accepted (peer: until it is answered, it sends no email)"
    for name, slots in orders.items():
        parts = ", ".join(f"{part} {value:.2f}" for part, value in cpu_by_part(slots).items())
        yield f"  {name}".ljust(_NAME) + f"{median_of(slots, lambda slot: slot.total_cpu_ms):.2f} = {parts}"
    yield "Emails per second"
    for name, slots in orders.items():
        if any(slot.emails_s is not None for slot in slots):
            figure = median_of(slots, lambda slot: slot.emails_per_second)
            yield f"  {name}".ljust(_NAME) + f"{figure:.0f}, over the load and what came after it"
    if run.backlog_emails:
        yield f"  {'one worker, from a backlog'.ljust(_NAME - 2)}{statistics.median(run.backlog_emails):.0f}"
    yield from _medians("Events per second from a backlog", run.relayed, "{:.0f}")
    yield from _medians("Start until ready, s", run.start_s, "{:.2f}")
    yield "Memory after the loads, MB (proportional set size)"
    for name, parts_mb in run.memory_mb.items():
        yield f"  {name}".ljust(_NAME) + ", ".join(f"{part} {value:.0f}" for part, value in parts_mb.items())
    yield from _share(run)


def _medians(title: str, figures: Mapping[str, Sequence[float]], form: str) -> Iterator[str]:
    if figures:
        yield title
    for name, values in figures.items():
        yield f"  {name}".ljust(_NAME) + form.format(statistics.median(values))


def _share(run: Run) -> Iterator[str]:
    yield "Orders per second of PostgreSQL alone (pgbench, one statement per order)"
    if not run.ceiling:
        yield "  not measured: pgbench was not found"
        return
    best = statistics.median(run.ceiling)
    yield f"  {'pgbench'.ljust(_NAME - 2)}{best:.0f}"
    for name, slots in run.slots.get(CLOSED, {}).items():
        yield f"  {name}".ljust(_NAME) + f"{median_of(slots, rate) / best:.1%} of it"
