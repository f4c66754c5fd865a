"""Horizontal bars on a logarithmic axis, as SVG that reads on light and dark pages alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "Group", "svg"]

WIDTH, LABEL, RIGHT = 860, 190, 60
BAR, GAP, HEAD, TOP, AXIS = 13, 4, 24, 40, 26
# Middle tones: enough contrast on white and on near-black.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #57606a }
.title { font-size: 14px; font-weight: 600 }
.group { font-weight: 600 }
.label { text-anchor: end }
.tick { text-anchor: middle; font-size: 11px }
.grid { stroke: #8c959f; stroke-opacity: .3 }
.bar { fill: #8c959f }
.ours { fill: #1f883d }
.spread { stroke: #57606a; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #b1bac4 } .spread { stroke: #e6edf3 } .ours { fill: #3fb950 } }
"""


@dataclass(frozen=True)
class Bar:
    """One value with its spread, all > 0.

    :param ours: drawn in the colour that stands out.
    """

    label: str
    value: float
    low: float
    high: float
    ours: bool = False


@dataclass(frozen=True)
class Group:
    """Bars below a heading."""

    title: str
    bars: Sequence[Bar]


def svg(title: str, groups: Sequence[Group]) -> str:
    """The whole picture. The axis goes from the power of ten below the smallest value to the one above the largest."""
    values = [value for group in groups for bar in group.bars for value in (bar.value, bar.low, bar.high) if value > 0]
    first = math.floor(math.log10(min(values, default=1)))
    last = max(math.ceil(math.log10(max(values, default=10))), first + 1)

    def x(value: float) -> float:
        share = (math.log10(max(value, 10**first)) - first) / (last - first)
        return round(LABEL + share * (WIDTH - LABEL - RIGHT), 1)

    shapes: list[str] = []
    y = TOP
    for group in groups:
        shapes.append(f'<text class="group" x="8" y="{y + 14}">{escape(group.title)}</text>')
        y += HEAD
        for bar in group.bars:
            shapes += _bar(bar, x, y)
            y += BAR + GAP
        y += GAP
    grid = []
    for power in range(first, last + 1):
        at = x(10.0**power)
        grid.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{y}"/>')
        grid.append(f'<text class="tick" x="{at}" y="{y + 16}">{10.0**power:g}</text>')
    height = y + AXIS
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<text class="title" x="8" y="22">{escape(title)}</text>',
            *grid,
            *shapes,
            "</svg>\n",
        ]
    )


def _bar(bar: Bar, x: object, y: int) -> list[str]:
    assert callable(x)
    end, middle = x(bar.value), y + BAR / 2
    kind = "bar ours" if bar.ours else "bar"
    number = f"{bar.value:.3g}" if bar.value < 1000 else f"{bar.value:,.0f}"
    return [
        f'<text class="label" x="{LABEL - 8}" y="{y + 11}">{escape(bar.label)}</text>',
        f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{round(end - LABEL, 1)}" height="{BAR}" rx="2"/>',
        f'<line class="spread" x1="{x(bar.low)}" x2="{x(bar.high)}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{max(end, x(bar.high)) + 6}" y="{y + 11}">{number}</text>',
    ]
