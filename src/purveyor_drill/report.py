"""The result of a drill as one value, and where it is written: ``report.json`` and ``report.html``."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from purveyor_drill.checker import Verdict, check
from purveyor_drill.measures import Figures, measure, per_second
from purveyor_drill.observations import Facts, Injected
from purveyor_drill.schedule import Fault

_MIN_CELLS = 1


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; with it the drill can be repeated."""

    shape: str
    seconds: float
    rate: float
    seed: int
    policy: str
    ledger: str
    only: tuple[str, ...] = ()
    use_settings: bool = False

    @property
    def command(self) -> str:
        """The command line that gives the same load and the same schedule."""
        words = (
            f"app drill --shape {self.shape} --seconds {self.seconds:g} --rate {self.rate:g} --seed {self.seed}"
        )
        words += f" --mail-doubtful {self.policy} --ledger {self.ledger}"
        words += " --use-settings" if self.use_settings else ""
        return f"{words} --only {','.join(self.only)}" if self.only else words


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
    """Accepted, in each second from ``began_at``."""
    mails_per_second: tuple[int, ...]


def judge(run: Run, schedule: Sequence[Fault], facts: Facts) -> Report:
    """Check the facts and sum them up."""
    verdicts = check(facts)
    accepted = [moment for purchase in facts.purchases if (moment := purchase.accepted_at)]
    mails = [mail.at for mail in facts.mails]
    last = max([*accepted, *mails, facts.began_at])
    seconds = max(_MIN_CELLS, int(last - facts.began_at) + 1)
    return Report(
        run=run,
        finished_at=time.time(),
        proven=all(verdict.holds for verdict in verdicts),
        verdicts=tuple(verdicts),
        figures=measure(facts),
        schedule=tuple(schedule),
        injected=tuple(sorted(facts.injected, key=lambda fault: fault.began_at)),
        began_at=facts.began_at,
        orders_per_second=tuple(per_second(accepted, facts.began_at, seconds)),
        mails_per_second=tuple(per_second(mails, facts.began_at, seconds)),
    )


def write(report: Report, folder: Path) -> Sequence[Path]:
    """Write both files; their paths."""
    from purveyor_drill.html import page

    data, shown = folder / "report.json", folder / "report.html"
    data.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    shown.write_text(page(report), encoding="utf-8")
    return data, shown
