"""The timeline as an inline SVG: orders and mails per second, and under them every fault on its target's line."""

from collections.abc import Sequence
from html import escape

from purveyor_drill.observations import Injected
from purveyor_drill.report import Report

_WIDTH, _LEFT, _RIGHT = 960, 120, 10
_PLOT_HEIGHT, _TOP, _LANE, _AXIS = 180, 24, 16, 22
_POINTS = 400
_LEAST_WIDTH = 2.0
_TICKS = 8
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def timeline(report: Report) -> str:
    """The chart; colours come from the page's style sheet."""
    lanes = list(dict.fromkeys(sorted(fault.target for fault in report.injected)))
    seconds = max(len(report.orders_per_second), 1)
    height = _TOP + _PLOT_HEIGHT + _AXIS + _LANE * len(lanes) + 8
    orders, mails = _thinned(report.orders_per_second), _thinned(report.mails_per_second)
    highest = max([*orders, *mails, 1.0])
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="chart-title">',
        '<title id="chart-title">Accepted orders and mails per second, and the faults</title>',
        *_axes(seconds, highest),
        _curve(mails, highest, "mails"),
        _curve(orders, highest, "orders"),
        f'<text x="{_LEFT}" y="14" class="legend orders">accepted orders / s</text>',
        f'<text x="{_LEFT + 150}" y="14" class="legend mails">mails / s</text>',
    ]
    first_lane = _TOP + _PLOT_HEIGHT + _AXIS
    for place, lane in enumerate(lanes):
        y = first_lane + place * _LANE
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 11}" class="lane">{escape(lane)}</text>')
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y + 14}" y2="{y + 14}" class="grid"/>')
        parts += [_mark(f, y, report.began_at, seconds) for f in report.injected if f.target == lane]
    return "\n".join([*parts, "</svg>"])


def _thinned(counts: Sequence[int]) -> list[float]:
    """At most so many points, each the mean of some seconds: an hour has more seconds than the chart pixels."""
    step = max(1, -(-len(counts) // _POINTS))
    chunks = [counts[place : place + step] for place in range(0, len(counts), step)]
    return [sum(chunk) / len(chunk) for chunk in chunks]


def _x(second: float, seconds: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(max(second / seconds, 0.0), 1.0)


def _curve(values: Sequence[float], highest: float, name: str) -> str:
    bottom = _TOP + _PLOT_HEIGHT
    points = [
        f"{_x(place + 0.5, len(values)):.1f},{bottom - _PLOT_HEIGHT * value / highest:.1f}"
        for place, value in enumerate(values)
    ]
    return f'<polyline class="curve {name}" points="{" ".join(points)}"/>'


def _axes(seconds: int, highest: float) -> list[str]:
    bottom = _TOP + _PLOT_HEIGHT
    step = next((step for step in _STEPS if seconds / step <= _TICKS), _STEPS[-1])
    parts = []
    for second in range(0, seconds + 1, step):
        x = _x(second, seconds)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" class="tick">{_time(second)}</text>')
    for part in (0.0, 0.5, 1.0):
        y = bottom - _PLOT_HEIGHT * part
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" class="lane">{highest * part:.0f}</text>')
    return parts


def _time(second: int) -> str:
    return f"{second // 60}:{second % 60:02d}"


def _mark(fault: Injected, y: int, began_at: float, seconds: int) -> str:
    begin, end = _x(fault.began_at - began_at, seconds), _x(fault.ready_at - began_at, seconds)
    width = max(_LEAST_WIDTH, end - begin)
    told = f"{fault.action} {fault.target} {fault.detail}".strip()
    told += f", at {_time(int(fault.began_at - began_at))} for {fault.ready_at - fault.began_at:.1f} s"
    return (
        f'<rect x="{begin:.1f}" y="{y + 2}" width="{width:.1f}" height="10" class="fault {fault.action}">'
        f"<title>{escape(told)}</title></rect>"
    )
