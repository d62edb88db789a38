"""A page about judged pictures that needs nothing but itself: figures with intervals, sheets, nearest neighbours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rein.evaluation.comparing import Comparison, Difference
from rein.evaluation.copies import Neighbour
from rein.evaluation.features import as_rgb
from rein.evaluation.judging import Judged
from rein.evaluation.obedience import Measure
from rein.evaluation.picture_lists import PictureList
from rein.evaluation.plots import STYLE, Interval, interval_plot
from rein.evaluation.report import Report
from rein.evaluation.results import PIXELS, Copies, Figure
from rein.html import Content, Markup, Page, figure, picture, section, table, tag

SHOWN = 24
"""Pictures of a sheet, and pairs of neighbours."""

_SIDE = 192
_SHEET = """
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:1rem;margin:1rem 0;
align-items:start}.plots>.card{margin:0}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.9rem;margin:1rem 0}
.sheet img{width:100%;height:auto}.sheet .pair{display:grid;grid-template-columns:1fr 1fr;gap:.3rem}
.sheet.pairs{grid-template-columns:repeat(auto-fill,minmax(15rem,1fr))}
.better{color:var(--c2);font-weight:600}.verdict{white-space:nowrap}
"""

MISSES = {
    "fd": "Sees the mean and spread of a crowd, no single picture and no words. Falls as there are more pictures.",
    "kid": "As the Fréchet distance, but the same on average for few pictures and for many. No words.",
    "is": "High where each picture is clear and all differ. Knows nothing of real pictures or of words.",
    "precision": "The share of drawn pictures that look like some real one. Copies have the best of all.",
    "recall": "The share of real pictures that look like some drawn one. One odd drawing can cover many.",
    "density": "As precision, counting how many real ones are near. Above 1 where the usual is drawn too often.",
    "coverage": "As recall, but not deceived by one odd drawing.",
    "clip_score": "Whether the picture and its words agree in CLIP's eyes. Blind to counts, positions and ugliness.",
    "obedience": "Whether the judge sees what was asked. It knows a few hundred things and says nothing of beauty.",
    "psnr": "Exact levels. Prefers blur to sharp detail in the wrong place.",
    "ssim": "Local structure. Forgives a change of light, not a shift.",
    "lpips": "What a network that knows things sees differ. Closest of the three to what people say.",
}
"""What each figure cannot see, for those who read it."""


def judged_page(judged: Judged, drawn: PictureList, training: PictureList | None) -> Page:
    """The page of pictures that were judged."""
    results = judged.results
    against = f", against {results.real_count} of {results.real}" if results.real else ""
    page = Page("Pictures judged", f"{results.drawn_count} pictures of {results.drawn}{against}.", style=STYLE + _SHEET)
    page.add(section("1", "Figures", *_figures(results.figures), _notes(results.notes)))
    page.add(section("2", "Pictures", *_sheet(judged, drawn)))
    for number, (copies, rows) in enumerate(zip(results.copies, judged.neighbours, strict=True), start=3):
        assert training is not None, "who found copies knew where to look"
        title = f"Nearest training pictures, by {'pixels' if copies.by == PIXELS else 'features'}"
        page.add(section(str(number), title, *_nearest(rows, copies, drawn, training)))
    said = [*results.settings.items(), *results.versions.items(), ("seconds", f"{results.seconds:g}")]
    page.add(tag("p", ", ".join(f"{name} {value}" for name, value in said), class_="note"))
    return page


def _figures(figures: Sequence[Figure]) -> list[Content]:
    rows = [
        [
            row.label,
            f"{row.value:.4g}",
            f"{row.low:.4g} to {row.high:.4g}",
            row.better,
            str(row.pictures),
            row.network,
        ]
        for row in figures
    ]
    head = ["figure", "value", "95% interval", "better", "pictures", "network"]
    shares = [row for row in figures if row.key in ("precision", "recall", "density", "coverage", "obedience")]
    plots = [_plot(shares, 0.0)] if shares else []
    plots += [_plot([row]) for row in figures if row not in shares]
    said = [tag("li", tag("b", row.label), ": ", MISSES[row.key]) for row in figures if row.key in MISSES]
    missed = [tag("p", "What each sees, and what it misses:"), tag("ul", *said, class_="note")] if said else []
    return [tag("div", *plots, class_="plots"), table(head, rows), *missed]


def _plot(figures: Sequence[Figure], low: float | None = None) -> Markup:
    rows = [Interval(row.label, [(row.value, row.low, row.high)]) for row in figures]
    high = max(1.0, *(row.high for row in figures)) if low is not None else None
    return tag("div", interval_plot(rows, ("",), low, high), class_="card")


def _notes(notes: Sequence[str]) -> Markup | None:
    return tag("ul", *(tag("li", note) for note in notes)) if notes else None


def _sheet(judged: Judged, drawn: PictureList) -> list[Content]:
    places = [number * len(drawn) // min(SHOWN, len(drawn)) for number in range(min(SHOWN, len(drawn)))]
    shown = []
    for place in places:
        words = drawn.prompts[place] or drawn.names[place]
        chance = judged.chances.get(place)
        said = words if chance is None else f"{words} · {chance:.0%}"
        shown.append(figure(_picture(drawn[place], words), said))
    note = "Taken at equal distances from all. The share is the judge's chance that the picture shows its words."
    return [tag("p", note, class_="note"), tag("div", *shown, class_="sheet")]


def _nearest(
    neighbours: Sequence[Neighbour], copies: Copies, drawn: PictureList, training: PictureList
) -> list[Content]:
    shown = []
    for row in neighbours[:SHOWN]:
        ours, theirs = _picture(drawn[row.place], "drawn"), _picture(training[row.nearest], "training picture")
        words = drawn.prompts[row.place] or drawn.names[row.place]
        shown.append(figure(tag("div", ours, theirs, class_="pair"), f"{words}: {row.distance:.3f}"))
    by = "pixels at a small size" if copies.by == PIXELS else f"what {copies.by} sees"
    note = (
        f"The nearest of all pairs, drawn left and training right, of {copies.compared} training pictures; the number "
        f"is their distance by {by}. Below {copies.threshold:.3f} is nearer than half of the training pictures are to "
        "others."
    )
    rows = [
        [kind.label, *(f"{kind.quantiles[q]:.3f}" for q in (5, 50, 95)), f"{kind.near_copies.rate:.1%}"]
        for kind in copies.kinds
    ]
    head = ["pictures", "5% nearer than", "half nearer than", "95% nearer than", "below the threshold"]
    return [tag("p", note), table(head, rows), tag("div", *shown, class_="sheet pairs")]


def _picture(image: Image.Image, words: str) -> Markup:
    """A picture inside the page, small, without what its file says of itself."""
    small = as_rgb(image).copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return picture(png_bytes(small), words)


def png_bytes(image: Image.Image) -> bytes:
    """A picture as PNG and nothing else: no settings, no names."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def comparison_page(found: Comparison) -> Page:
    """The page of a comparison."""
    page = Page("Two sets compared", f"{found.first} and {found.second}.", style=STYLE + _SHEET)
    rows = [
        [
            row.label,
            tag("span", told(row), class_="verdict" + ("" if row.verdict == "noise" else " better")),
            f"{row.first:.4g}",
            f"{row.second:.4g}",
            f"{row.second - row.first:+.4g}",
            f"{row.low:+.4g} to {row.high:+.4g}",
        ]
        for row in found.differences
    ]
    head = ["figure", "which is better", "first", "second", "difference", "95% interval"]
    plots = [_difference_plot(row) for row in found.differences]
    page.add(section("1", "Differences", table(head, rows), tag("div", *plots, class_="plots"), _notes(found.notes)))
    return page


def _difference_plot(row: Difference) -> Markup:
    """A difference with its interval; 0 is always on the axis."""
    rows = [Interval(f"{row.label}, second less first", [(row.second - row.first, row.low, row.high)])]
    return tag("div", interval_plot(rows, ("",), min(row.low, 0.0), max(row.high, 0.0)), class_="card")


def told(row: Difference) -> str:
    """The verdict in words."""
    others = {"noise": "may be noise", "differs": "they differ"}
    return others.get(row.verdict) or f"the {row.verdict} is better"


def report_page(report: Report, sheets: Sequence[tuple[str, Path]]) -> Page:
    """The page of an evaluation of a model: its shares beside those of real pictures, and its sheets (title, file)."""
    page = Page(f"{report.model}, judged", f"{report.pictures} pictures; weights {report.key[:12]}.", style=STYLE)
    page.add(section("1", "Asked and seen by the judge", *_measures(report.measures)))
    for number, (title, path) in enumerate(sheets, start=2):
        page.add(section(str(number), title, picture(path.read_bytes(), title)))
    return page


def _measures(measures: Sequence[Measure]) -> list[Content]:
    plot = [
        Interval(row.label, [(part.rate, part.low, part.high) for part in (row.drawn, row.real)]) for row in measures
    ]
    rows = [
        [
            row.label,
            f"{row.drawn.rate:.1%}",
            f"{row.drawn.low:.1%} to {row.drawn.high:.1%}",
            str(row.drawn.total),
            f"{row.real.rate:.1%}",
            "" if row.floor is None else f"{row.floor:.0%}",
        ]
        for row in measures
    ]
    head = ["what was asked", "right", "95% interval", "pictures", "real pictures", "floor"]
    drawing = tag("div", interval_plot(plot, ("drawn", "real pictures"), 0.0, 1.0), class_="card")
    return [drawing, table(head, rows)]
