"""The result of a drill as one value."""

import time
from collections.abc import Sequence

import msgspec

from purveyor_drill.checker import Verdict, check
from purveyor_drill.measures import Figures, measure, per_second
from purveyor_drill.observations import Injected, Observations, Policy
from purveyor_drill.schedule import Action, Fault
from purveyor_drill.testbed import Broker, Ledger, ShapeName


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a drill, with which it can be repeated."""

    shape: ShapeName
    seconds: float
    rate: float
    seed: int
    policy: Policy
    ledger: Ledger
    broker: Broker = "rabbitmq"
    only: tuple[Action, ...] = ()
    use_settings: bool = False

    @property
    def command(self) -> str:
        """The command line for the same load and the same schedule."""
        command = (
            f"app drill --shape {self.shape} --seconds {self.seconds:g} --rate {self.rate:g} --seed {self.seed}"
            f" --mail-doubtful {self.policy} --ledger {self.ledger}"
        )
        command += f" --broker {self.broker}" if self.broker != "rabbitmq" else ""
        command += " --use-settings" if self.use_settings else ""
        return f"{command} --only {','.join(self.only)}" if self.only else command


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A drill's result."""

    run: Run
    finished_at: float
    proven: bool
    verdicts: tuple[Verdict, ...]
    figures: Figures
    schedule: tuple[Fault, ...]
    injected: tuple[Injected, ...]
    began_at: float
    orders_per_second: tuple[int, ...]
    """Accepted orders in each second from ``began_at``."""
    mails_per_second: tuple[int, ...]

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        faults, accepted = sum(self.figures.faults.values()), self.figures.orders_accepted
        if self.proven:
            return f"Proven: {faults} faults, {accepted} orders accepted, every invariant holds"
        broken = ", ".join(verdict.code for verdict in self.verdicts if not verdict.holds)
        return f"Violated: {broken}, after {faults} faults and {accepted} accepted orders"

    @property
    def summary(self) -> Sequence[tuple[str, str]]:
        """The figures that the guarantees are about, each with its name."""
        figures = self.figures
        per_death = f"{figures.duplicates_per_death:.2f}" if figures.sender_deaths else "no sender died"
        settled = "never" if figures.settled_in_s is None else f"{figures.settled_in_s:.1f} s"
        stored = figures.changes_unknown_stored
        return (
            ("faults injected", str(sum(figures.faults.values()))),
            ("faults skipped, target still down", str(figures.skipped)),
            ("orders sent", str(figures.orders_sent)),
            ("orders accepted", str(figures.orders_accepted)),
            ("orders with an unknown outcome", str(figures.orders_unknown)),
            ("orders lost", str(figures.orders_lost)),
            ("orders duplicated", str(figures.orders_duplicated)),
            ("order changes with If-Match", str(figures.changes_done)),
            ("order changes refused", str(figures.changes_refused)),
            ("order changes with an unknown outcome", f"{figures.changes_unknown} ({stored} stored)"),
            ("order reads beside them", str(figures.reads_done)),
            ("mails received", str(figures.mails_taken)),
            ("mails lost", str(figures.mails_lost)),
            ("mails parked as unknown", str(figures.mails_unknown)),
            ("mails duplicated", f"{figures.mails_duplicated} (at most {figures.duplicates_bound} in doubt)"),
            ("sender deaths", str(figures.sender_deaths)),
            ("duplicates per sender death", per_death),
            ("processes that ended by themselves", str(figures.own_deaths)),
            ("settled after the load", settled),
        )


def judge(run: Run, schedule: Sequence[Fault], observed: Observations) -> Report:
    """Check the observations and sum them up."""
    verdicts = check(observed)
    accepted = [moment for purchase in observed.purchases if (moment := purchase.accepted_at)]
    mails = [mail.at for mail in observed.mails]
    seconds = int(max([*accepted, *mails, observed.began_at]) - observed.began_at) + 1
    return Report(
        run=run,
        finished_at=time.time(),
        proven=all(verdict.holds for verdict in verdicts),
        verdicts=tuple(verdicts),
        figures=measure(observed),
        schedule=tuple(schedule),
        injected=tuple(sorted(observed.injected, key=lambda fault: fault.began_at)),
        began_at=observed.began_at,
        orders_per_second=tuple(per_second(accepted, observed.began_at, seconds)),
        mails_per_second=tuple(per_second(mails, observed.began_at, seconds)),
    )
