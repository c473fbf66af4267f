"""Terminal output of a drill: a live line while it runs, tables at the end; plain lines without a terminal."""

from pathlib import Path
from typing import Self

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from purveyor_drill.report import Report
from purveyor_drill.runner import Progress

_PLAIN_EVERY_S = 5.0


class ProgressLine:
    """Shows the progress; an ``Observer``. Without a terminal: a line for each stage, and one every 5 s."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds
        self._status = console.status("") if console.is_terminal else None
        self._stage = ""
        self._plain_at = 0.0

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def __call__(self, progress: Progress) -> None:
        text = progress.stage
        if progress.sent:
            text = (
                f"{progress.elapsed_s:.0f} of {self._seconds:.0f} s   {progress.sent} orders, {progress.accepted} "
                f"accepted, {progress.mails} mails, {progress.faults} faults  {progress.latest}"
            )
        if self._status:
            self._status.update(Text(text, overflow="ellipsis", no_wrap=True))
        elif progress.stage != self._stage or progress.elapsed_s >= self._plain_at:
            self._console.print(text, soft_wrap=True, markup=False)
            self._plain_at = progress.elapsed_s + _PLAIN_EVERY_S
        self._stage = progress.stage


def show(report: Report, files: list[Path], console: Console) -> None:
    """Print the tables of a finished drill."""
    style = "bold green" if report.proven else "bold red"
    console.print(Group(_invariants(report), "", _figures(report), "", _recovery(report), ""))
    for verdict in report.verdicts:
        for example in verdict.examples:
            console.print(Text(f"{verdict.code}: {example}", style="red"), soft_wrap=True)
    console.print(Text(report.headline, style=style), soft_wrap=True)
    console.print(f"seed {report.run.seed}; repeat with: {report.run.command}", soft_wrap=True, markup=False)
    console.print(f"report: {', '.join(map(str, files))}", soft_wrap=True, markup=False)


def _table(*columns: str) -> Table:
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _invariants(report: Report) -> Table:
    shown = _table("", "What must hold", "Result")
    for verdict in report.verdicts:
        result = Text("holds", "green") if verdict.holds else Text(f"{verdict.violations} violations", "red")
        shown.add_row(verdict.code, verdict.title, result)
    return shown


def _figures(report: Report) -> Table:
    shown = _table("Figure", "")
    for name, value in report.summary:
        shown.add_row(name, value)
    return shown


def _recovery(report: Report) -> Table:
    shown = _table("Fault", "Injected", "Recovery median", "p99", "longest")
    for name, number in sorted(report.figures.faults.items()):
        spread = report.figures.recovery.get(name)
        times = (
            [f"{value:.2f} s" for value in (spread.median, spread.p99, spread.longest)] if spread else ["-"] * 3
        )
        shown.add_row(name, str(number), *times)
    return shown
