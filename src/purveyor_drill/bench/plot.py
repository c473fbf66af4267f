"""The ratios of a benchmark as a bar chart (SVG), for the documentation."""

import math
import statistics
from html import escape

from purveyor_drill.bench.results import HALF, Run, median_of, rate, ratios
from purveyor_drill.bench.targets import PEER

_LEFT, _BAR, _GAP, _WIDTH, _RIGHT = 300, 16, 14, 420, 150
_TOP = 56
_COLORS = ("#2563eb", "#0d9488", "#9333ea", "#ca8a04")
_STYLE = "text{font:13px system-ui,sans-serif;fill:#1f2937}.m{font-weight:600}.s{fill:#6b7280}line{stroke:#9ca3af}"


def render_plot(run: Run) -> str:
    """One bar per measurement and target: how many times the peer's rate, on a logarithmic scale.

    Half load is left out: its rate is given.
    """
    rows: list[str] = []
    compared = {name: targets for name, targets in run.slots.items() if PEER in targets and name != HALF}
    found = {
        (measurement, name): ratios(slots, targets[PEER])
        for measurement, targets in compared.items()
        for name, slots in targets.items()
        if name != PEER
    }
    top = max((value for values in found.values() for value in values), default=1.0)
    scale = _WIDTH / math.log10(max(10.0, top))
    colors: dict[str, str] = {}
    y = _TOP
    for measurement, targets in compared.items():
        peer = median_of(targets[PEER], rate)
        rows.append(f'<text class="m" x="8" y="{y + 12}">{escape(measurement)}</text>')
        rows.append(f'<text class="s" x="{_LEFT + _WIDTH + 12}" y="{y + 12}">peer {peer:,.0f}/s</text>')
        y += _BAR + 6
        for name in targets:
            if values := found.get((measurement, name)):
                color = colors.setdefault(name, _COLORS[len(colors) % len(_COLORS)])
                rows += _bar(name, values, color, y, scale)
                y += _BAR + 4
        y += _GAP
    grid = [_grid_line(power, y, scale) for power in range(int(math.log10(max(10.0, top))) + 1)]
    width = _LEFT + _WIDTH + _RIGHT
    head = f"Requests per second as a multiple of the naive service ({run.cores} cores, logarithmic)"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" role="img">',
        f"<title>{escape(head)}</title><style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="m" x="8" y="20">{escape(head)}</text>',
        *grid,
        *rows,
        "</svg>",
        "",
    ])  # fmt: skip


def _x(value: float, scale: float) -> float:
    return _LEFT + max(0.0, math.log10(max(value, 0.1))) * scale


def _bar(name: str, values: list[float], color: str, y: int, scale: float) -> list[str]:
    """A bar to the median, a line from the lowest to the highest round."""
    median = statistics.median(values)
    middle = y + _BAR / 2
    low, high = _x(min(values), scale), _x(max(values), scale)
    return [
        f'<text class="s" x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{_LEFT}" y="{y}" width="{_x(median, scale) - _LEFT:.1f}" height="{_BAR}" fill="{color}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" style="stroke:#111827"/>',
        f'<text x="{high + 6:.1f}" y="{y + 12}">{median:.1f}</text>',
    ]


def _grid_line(power: int, bottom: int, scale: float) -> str:
    x = _x(10.0**power, scale)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom}" stroke-dasharray="2 4"/>'
        f'<text class="s" x="{x:.1f}" y="{_TOP - 12}" text-anchor="middle">{10**power}</text>'
    )
