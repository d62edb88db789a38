"""The report of `rein data prepare`: what was kept, what was left out and why, to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rein.data.made import Made, NotMade
from rein.data.preparation import Outcome, Preparation
from rein.html import Axis, Markup, Page, Series, chart, figure, picture, section, table, tag

MOST_SHOWN = 300
"""Pictures of each part that are shown; all are in metadata.jsonl and refused.csv."""

_STYLE = """
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(7rem,1fr));gap:1rem;margin:1rem 0}
.pictures figcaption{overflow-wrap:anywhere;font-size:.75rem}
.twins{display:flex;gap:.5rem;align-items:flex-start}
td img{min-width:3rem;max-width:6rem}
"""


def report_page(outcome: Outcome, wanted: Preparation) -> Page:
    """The page, with its pictures in it."""
    page = Page("A collection of pictures, prepared", _summary(outcome), style=_STYLE)
    page.add(section("1", "How it was made", _options(wanted), _statistics(outcome)))
    page.add(section("2", "Shapes", _shapes(outcome.kept.values())))
    page.add(section("3", "Left out", *_left_out(outcome.refused)))
    page.add(section("4", "Nearly the same", *_twins(outcome.twins)))
    page.add(section("5", "Kept", *_kept(list(outcome.kept.values()))))
    return page


def _summary(outcome: Outcome) -> str:
    found = len(outcome.kept) + len(outcome.refused) + len(outcome.twins)
    parts = [
        f"{len(outcome.kept)} of {found} pictures are kept",
        f"left out: unusable {len(outcome.refused)}, nearly the same as another {len(outcome.twins)}",
    ]
    if outcome.copies:
        parts.append(f"{outcome.copies} augmented copies were added")
    if outcome.without_captions:
        parts.append(f"{outcome.without_captions} have no caption")
    return "; ".join(parts) + "."


def _options(wanted: Preparation) -> Markup:
    rows = [(name, _shown(value)) for name, value in wanted.plain.items()]
    return table(("option", "value"), rows)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)


def _statistics(outcome: Outcome) -> Markup:
    assert outcome.set_file is not None
    rows = [
        (space, " / ".join(f"{mean:.4g}" for mean in entry.mean), " / ".join(f"{part:.4g}" for part in entry.deviation))
        for space, entry in outcome.set_file.statistics.items()
    ]
    return table(("colour space", "mean of the three channels", "standard deviation"), rows)


def _shapes(kept: Iterable[Made]) -> Markup:
    counts = sorted(Counter(made.bucket for made in kept).items(), key=lambda entry: entry[0][0] / entry[0][1])
    names = [f"{width} x {height}" for (width, height), _ in counts]
    points = [(float(place), float(count)) for place, (_, count) in enumerate(counts)]
    drawn = chart(
        [Series("pictures", points, style="bars")],
        Axis("width x height", shown=lambda place: _at(names, place)),
        Axis("pictures", low=0.0),
    )
    listed = table(
        ("width x height", "pictures"), [(n, str(count)) for n, (_, count) in zip(names, counts, strict=True)]
    )
    return tag("div", drawn, listed, class_="row")


def _at(names: Sequence[str], place: float) -> str:
    return names[int(place)] if place.is_integer() and 0 <= place < len(names) else ""


def _left_out(refused: Sequence[NotMade]) -> list[Markup]:
    if not refused:
        return [tag("p", "Nothing.")]
    rows = [
        (
            picture(entry.thumbnail, entry.refused.name, "image/jpeg") if entry.thumbnail else "",
            tag("code", entry.refused.name),
            entry.refused.reason,
        )
        for entry in refused[:MOST_SHOWN]
    ]
    return [table(("", "name", "why"), rows), *_rest(len(refused), "refused.csv")]


def _twins(twins: Sequence[tuple[Made, Made]]) -> list[Markup]:
    if not twins:
        return [tag("p", "Nothing.")]
    shown = [
        figure(
            tag(
                "div",
                _small(twin),
                _small(kept),
                class_="twins",
            ),
            f"{twin.name} was left out, {kept.name} stays",
        )
        for twin, kept in twins[:MOST_SHOWN]
    ]
    return [tag("div", *shown, class_="row"), *_rest(len(twins), "refused.csv")]


def _kept(kept: Sequence[Made]) -> list[Markup]:
    shown = [figure(_small(made), _told(made)) for made in kept[:MOST_SHOWN]]
    return [tag("div", *shown, class_="pictures"), *_rest(len(kept), "metadata.jsonl")]


def _told(made: Made) -> str:
    caption = made.captions[0][:200] if made.captions else "(no caption)"
    return f"{caption} ({made.name}, {made.bucket[0]} x {made.bucket[1]})"


def _small(made: Made) -> Markup | None:
    return picture(made.thumbnail, made.name, "image/jpeg") if made.thumbnail else None


def _rest(count: int, file: str) -> list[Markup]:
    if count <= MOST_SHOWN:
        return []
    return [tag("p", f"{count - MOST_SHOWN} more are in {file}.", class_="note")]
