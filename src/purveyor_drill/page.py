"""A report in files: ``report.json``, and ``report.html`` without any script, font or request."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import msgspec

from purveyor_drill.observations import Injected
from purveyor_drill.report import Report

_WIDTH, _LEFT, _RIGHT = 960, 120, 950
_TOP, _BOTTOM, _LANES, _LANE = 24, 204, 226, 16
_POINTS = 400
_MIN_WIDTH = 2.0
_TICKS = 8
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def write(report: Report, folder: Path) -> Sequence[Path]:
    """Write both files; their paths."""
    data, page = folder / "report.json", folder / "report.html"
    data.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report_page.html")
    finished = f"{datetime.fromtimestamp(report.finished_at, UTC):%Y-%m-%d %H:%M} UTC"
    page.write_text(template.render(report=report, finished=finished, chart=Chart(report)), encoding="utf-8")
    return data, page


class Chart:
    """Layout of the timeline: a plot of rates, and below it a lane of faults for each target."""

    width, left, right, top, bottom = _WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM

    def __init__(self, report: Report) -> None:
        self._began_at = report.began_at
        self._seconds = max(len(report.orders_per_second), 1)
        orders, mails = _means(report.orders_per_second), _means(report.mails_per_second)
        self._highest = max([*orders, *mails, 1.0])
        self.curves = {"mails": self._curve(mails), "orders": self._curve(orders)}
        self.levels = [
            (f"{_BOTTOM - (_BOTTOM - _TOP) * part:.1f}", f"{self._highest * part:.0f}") for part in (0, 0.5, 1)
        ]
        step = next((step for step in _STEPS if self._seconds / step <= _TICKS), _STEPS[-1])
        self.ticks = [
            (f"{self._x(second / self._seconds):.1f}", _clock(second))
            for second in range(0, self._seconds + 1, step)
        ]
        targets = sorted({fault.target for fault in report.injected})
        self.lanes = [
            (target, _LANES + place * _LANE, [f for f in report.injected if f.target == target])
            for place, target in enumerate(targets)
        ]
        self.height = _LANES + _LANE * len(targets) + 8

    def span(self, fault: Injected) -> tuple[str, str]:
        """The beginning and the width of a fault's mark."""
        begin, end = (
            self._x((moment - self._began_at) / self._seconds) for moment in (fault.began_at, fault.ready_at)
        )
        return f"{begin:.1f}", f"{max(_MIN_WIDTH, end - begin):.1f}"

    def describe(self, fault: Injected) -> str:
        """The tool tip of a fault's mark."""
        name = f"{fault.action} {fault.target} {fault.detail}".strip()
        began, lasted_s = _clock(int(fault.began_at - self._began_at)), fault.ready_at - fault.began_at
        return f"{name}, at {began} for {lasted_s:.1f} s"

    def _x(self, part: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(max(part, 0.0), 1.0)

    def _curve(self, values: Sequence[float]) -> str:
        scale = (_BOTTOM - _TOP) / self._highest
        return " ".join(
            f"{self._x((place + 0.5) / len(values)):.1f},{_BOTTOM - scale * value:.1f}"
            for place, value in enumerate(values)
        )


def _means(counts: Sequence[int]) -> list[float]:
    """At most 400 points: an hour has more seconds than the chart has pixels."""
    step = max(1, -(-len(counts) // _POINTS))
    chunks = [counts[place : place + step] for place in range(0, len(counts), step)]
    return [sum(chunk) / len(chunk) for chunk in chunks]


def _clock(second: int) -> str:
    return f"{second // 60}:{second % 60:02d}"
