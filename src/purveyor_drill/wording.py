"""How a report's main figures are worded, in the terminal and on the page alike."""

from collections.abc import Sequence

from purveyor_drill.measures import Figures
from purveyor_drill.report import Report


def headline(report: Report) -> str:
    """The result in one sentence."""
    figures = report.figures
    faults = sum(figures.faults.values())
    if report.proven:
        return f"Proven: {faults} faults, {figures.orders_accepted} orders accepted, every invariant holds"
    broken = ", ".join(verdict.code for verdict in report.verdicts if not verdict.holds)
    return f"Violated: {broken}, after {faults} faults and {figures.orders_accepted} accepted orders"


def promises(figures: Figures) -> Sequence[tuple[str, str]]:
    """The figures that the promise is about, each with its name."""
    per_death = f"{figures.duplicates_per_death:.2f}" if figures.sender_deaths else "no sender died"
    settled = "never" if figures.settled_in_s is None else f"{figures.settled_in_s:.1f} s"
    return (
        ("faults injected", str(sum(figures.faults.values()))),
        ("faults left out, target not up yet", str(figures.skipped)),
        ("orders sent", str(figures.orders_sent)),
        ("orders accepted", str(figures.orders_accepted)),
        ("orders with an unknown outcome", str(figures.orders_unknown)),
        ("orders lost", str(figures.orders_lost)),
        ("orders doubled", str(figures.orders_doubled)),
        ("mails taken", str(figures.mails_taken)),
        ("mails lost", str(figures.mails_lost)),
        ("mails parked as unknown", str(figures.mails_unknown)),
        ("mails doubled", f"{figures.mails_doubled} (at most {figures.duplicates_bound} in doubt)"),
        ("sender deaths", str(figures.sender_deaths)),
        ("duplicates per sender death", per_death),
        ("processes that ended by themselves", str(figures.own_deaths)),
        ("at rest after the load", settled),
    )
