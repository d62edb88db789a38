"""Figures with their intervals as a drawing: a dot, and a line as long as the doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rein.html import Axis, Markup, join, tag

_WIDTH, _LEFT, _RIGHT, _ROW, _BOTTOM = 420, 14, 14, 38, 24

STYLE = (
    ".whisker{stroke-width:2.5;stroke-linecap:round}.whisker.c0{stroke:var(--c0)}.whisker.c1{stroke:var(--c1)}"
    ".named{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}"
)
"""What a page with such a drawing adds to its own style."""


@dataclass(frozen=True)
class Interval:
    """A row of the drawing: values in the same unit, one for each of the things that are compared."""

    label: str
    values: Sequence[tuple[float, float, float]]
    """(value, low, high) of each."""


def interval_plot(
    rows: Sequence[Interval], names: Sequence[str], low: float | None = None, high: float | None = None
) -> Markup:
    """Rows of intervals on one axis, as SVG, with a key where there are several `names`.

    Args:
        low, high: ends of the axis; None is that of the values.
    """
    ends = [end for row in rows for value in row.values for end in value]
    axis = Axis("", low=low, high=high)
    to_x, ticks = axis.scaled(ends, _WIDTH - _LEFT - _RIGHT)
    floor = _ROW * len(rows) + 4
    parts = []
    for tick in ticks:
        x = round(_LEFT + to_x(tick), 1)
        parts.append(tag("line", x1=x, x2=x, y1=2, y2=floor, class_="axis" if tick == 0 else "grid"))
        parts.append(tag("text", f"{tick:g}", x=x, y=floor + 15, text_anchor="middle"))
    for number, row in enumerate(rows):
        parts += _row(row, number * _ROW, lambda value: round(_LEFT + to_x(value), 1))
    told = "; ".join(f"{row.label} {_told(row)}" for row in rows)
    svg = tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {floor + _BOTTOM}", role="img", aria_label=told, class_="chart")
    if len(names) < 2:
        return svg
    keys = [tag("span", name, class_=f"key c{place}") for place, name in enumerate(names)]
    return join([svg, tag("div", *keys, class_="keys")])


def _row(row: Interval, top: int, place: Callable[[float], float]) -> list[Markup]:
    parts = [tag("text", row.label, x=_LEFT, y=top + 14, class_="named")]  # no line of the grid goes through it
    for number, (value, low, high) in enumerate(row.values):
        y, colour = top + 22 + 8 * number, f"c{number}"
        parts.append(tag("line", x1=place(low), x2=place(high), y1=y, y2=y, class_=f"whisker {colour}"))
        parts.append(tag("circle", cx=place(value), cy=y, r=3.5, class_=f"dot {colour}"))
    return parts


def _told(row: Interval) -> str:
    """The numbers of a row, for those who cannot see it."""
    return ", ".join(f"{value:.4g} ({low:.4g} to {high:.4g})" for value, low, high in row.values)
