"""How the error of each sampler falls with the number of steps, where the exact answer is known; and its plot.

    python -m benchmarks.sampler_orders [--write]

In the Gaussian world of `tests/diffusion/gaussian.py` the sampling equation has an exact solution. Printed is the error
for 8 to 256 steps without noise from sigma 1000 down to 0.1, and the order that the tests measure. Expected: the order
of the last column. `--write` puts the plot into docs/images/sampler_orders.svg.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.common import print_table
from rein.diffusion.samplers import SAMPLERS
from tests.diffusion.gaussian import COURSES, Course, error, measured_order

COUNTS = (8, 16, 32, 64, 128, 256)
PLOTTED = ("euler", "heun", "dpmpp_2m", "res_multistep", "deis", "dpm_fast", "unipc", "lms")
COLOURS = ("#777777", "#d95f02", "#1b9e77", "#66a61e", "#7570b3", "#e6ab02", "#e7298a", "#1f78b4")
IMAGE = Path(__file__).parent.parent / "docs" / "images" / "sampler_orders.svg"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 440, 70, 40, 190, 50


def errors(name: str) -> list[float]:
    """The error for each of `COUNTS`, in time coordinates where the sampler averages slopes."""
    course = replace(Course(1, first=1000.0, coordinates="time"), order=COURSES[name].order)
    # DPM fast is given an evaluation more than steps; for a whole number of its stages.
    return [error(name, count - count % 3 + 1 if name == "dpm_fast" else count, course) for count in COUNTS]


def drawn(found: Mapping[str, Sequence[float]]) -> str:
    """The plot as SVG: both axes logarithmic."""
    exponents = [math.log10(value) for values in found.values() for value in values]
    low, high = math.floor(min(exponents)), math.ceil(max(exponents))

    def across(count: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log2(count / COUNTS[0]) / math.log2(COUNTS[-1] / COUNTS[0])

    def down(exponent: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - exponent) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">Error of samplers without noise, by number of steps</text>',
        f'<text x="{(WIDTH - RIGHT + LEFT) // 2}" y="{HEIGHT - 10}" text-anchor="middle">steps</text>',
    ]
    for exponent in range(low, high + 1):
        y = down(exponent)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">1e{exponent}</text>')
    for count in COUNTS:
        parts.append(f'<text x="{across(count):.1f}" y="{HEIGHT - 30}" text-anchor="middle">{count}</text>')
    last = -math.inf
    for (name, values), colour in sorted(zip(found.items(), COLOURS, strict=True), key=lambda row: -row[0][1][-1]):
        points = " ".join(
            f"{across(count):.1f},{down(math.log10(value)):.1f}" for count, value in zip(COUNTS, values, strict=True)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = last = max(down(math.log10(values[-1])) + 4, last + 16)
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y:.1f}" fill="{colour}">{SAMPLERS[name].label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Print the table, and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="draw docs/images/sampler_orders.svg")
    options = parser.parse_args()
    found = {name: errors(name) for name in COURSES}
    rows = [
        [
            SAMPLERS[name].label,
            *(f"{value:.0e}" for value in values),
            f"{measured_order(name):.2f}",
            str(COURSES[name].order),
        ]
        for name, values in found.items()
    ]
    print_table(["sampler", *map(str, COUNTS), "measured", "order"], rows)
    if options.write:
        IMAGE.parent.mkdir(parents=True, exist_ok=True)
        IMAGE.write_text(drawn({name: found[name] for name in PLOTTED}))


if __name__ == "__main__":
    main()
