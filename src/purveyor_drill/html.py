"""The report as one HTML page that needs nothing else: no script, no font, no request."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template

from purveyor_drill.chart import timeline
from purveyor_drill.measures import Figures, Spread
from purveyor_drill.report import Report
from purveyor_drill.wording import headline, promises

_PAGE = Path(__file__).with_name("report_page.html")


def page(report: Report) -> str:
    """The whole page."""
    figures = report.figures
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(
        verdict="proven" if report.proven else "violated",
        headline=escape(headline(report)),
        finished=f"{datetime.fromtimestamp(report.finished_at, UTC):%Y-%m-%d %H:%M} UTC",
        shape=escape(report.run.shape),
        command=escape(report.run.command),
        seed=report.run.seed,
        tiles="\n".join(
            f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
            for name, value in promises(figures)
        ),
        chart=timeline(report),
        invariants=_rows(
            (verdict.code, verdict.title, "holds" if verdict.holds else f"{verdict.violations} violations")
            for verdict in report.verdicts
        ),
        examples=_examples(report),
        recovery=_rows(
            (name, figures.faults.get(name, 0), *_spread(spread)) for name, spread in figures.recovery.items()
        ),
        latency=_rows((name, *_spread(spread)) for name, spread in _latencies(figures)),
        doubled=_rows(sorted(figures.duplicates_by_cause.items())) or _rows([("none", 0)]),
    )


def _examples(report: Report) -> str:
    blocks = [
        f"<details open><summary>{verdict.code}: {escape(verdict.title)}</summary><ul>"
        + "".join(f"<li><code>{escape(example)}</code></li>" for example in verdict.examples)
        + "</ul></details>"
        for verdict in report.verdicts
        if not verdict.holds
    ]
    return "".join(blocks)


def _latencies(figures: Figures) -> Sequence[tuple[str, Spread]]:
    return (
        ("order: due until its 201, faults and retries included", figures.order_latency),
        ("event: order until the broker's confirm", figures.event_latency),
        ("mail: order until the mail was taken", figures.mail_latency),
    )


def _spread(spread: Spread) -> tuple[str, ...]:
    return (str(spread.count), *(f"{value:.2f} s" for value in (spread.median, spread.p99, spread.longest)))


def _rows(rows: Iterable[Sequence[object]]) -> str:
    return "\n".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
