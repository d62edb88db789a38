"""What an evaluation found: as JSON, as a section of the model's card, and as a sheet of pictures to look at.

The card's figures come out of the JSON by `write_card_section`; nobody types them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from rein.errors import DamagedFileError, InputError
from rein.evaluation.intervals import Share, Spread
from rein.evaluation.nearest import Closeness
from rein.evaluation.obedience import Failing, Measure, Question
from rein.files import atomic_file
from rein.images import grid

REPORT_NAME = "report.json"
BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"
NOTE = "Written by `rein evaluate`; do not edit by hand."


@dataclass(frozen=True)
class Claims:
    """Which of the known concepts the figures are about; `chosen_by` says how, `left_out` names the others."""

    known: int
    claimed: tuple[str, ...]
    left_out: tuple[str, ...]
    chosen_by: str


@dataclass(frozen=True)
class Copying:
    """Distances to the nearest of `training_pictures`; nearer than `threshold` counts as a near-copy."""

    training_pictures: int
    threshold: float
    kinds: tuple[Closeness, ...]


@dataclass(frozen=True)
class Report:
    """Everything that was measured. `settings` say how pictures were drawn; `seconds` is what this run took."""

    model: str
    key: str
    versions: dict[str, str]
    settings: dict[str, str]
    claims: Claims
    measures: tuple[Measure, ...]
    failing: tuple[Failing, ...]
    reconstruction: Spread | None
    copying: Copying | None
    pictures: int
    seconds: float

    def measure(self, group: str, name: str) -> Measure:
        """One figure by its group and name."""
        for entry in self.measures:
            if (entry.group, entry.name) == (group, name):
                return entry
        raise KeyError(f"{group}/{name} was not measured")


_REPORTS = TypeAdapter(Report)


def write_report(report: Report, path: Path) -> None:
    """Write a report as JSON.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_file(path) as handle:
        handle.write(_REPORTS.dump_json(report, indent=1) + b"\n")


def read_report(path: Path) -> Report:
    """Read what `write_report` wrote.

    Raises:
        InputError: there is no such file.
        DamagedFileError: it is not a report.
    """
    try:
        return _REPORTS.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"there is no report {path}; make one with `rein evaluate`") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedFileError(f"{path} is not a report of this version: {first['msg']} at {first['loc']}") from error


def write_card_section(card: Path, report: Report) -> None:
    """Put the report's section between the markers in a card, or at its end where there are none.

    Raises:
        InputError: the card has one marker and not the other, or cannot be read.
        OutputError: it cannot be written.
    """
    try:
        text = card.read_text(encoding="utf-8") if card.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the card {card} cannot be read: {error}") from error
    before, begins, rest = text.partition(BEGIN)
    inside, ends, after = rest.partition(END)
    if bool(begins) != bool(ends) or END in before + after or BEGIN in inside + after:
        raise InputError(
            f"the card {card} must have the markers {BEGIN} and {END} once each, in this order, or neither"
        )
    if not begins:
        before, after = f"{text.rstrip()}\n\n" if text.strip() else "", "\n"
    with atomic_file(card) as handle:
        handle.write(f"{before}{BEGIN}\n{card_section(report)}{END}{after}".encode())


def card_section(report: Report) -> str:
    """The report in Markdown."""
    listed = ", ".join(f"{name} {value}" for name, value in report.settings.items())
    settings = f" ({listed})" if listed else ""
    parts = [
        f"<!-- {NOTE} -->",
        "## Measured",
        f"Weights `{report.key[:12]}`, {report.pictures} pictures{settings}. {_claims(report.claims)}",
        _obedience(report.measures),
        _failing(report.failing),
    ]
    if report.reconstruction is not None:
        parts.append(_reconstruction(report.reconstruction))
    if report.copying is not None:
        parts.append(_copying(report.copying))
    return "\n\n".join(part for part in parts if part) + "\n"


def _claims(claims: Claims) -> str:
    text = f"Claimed concepts: {len(claims.claimed)} of {claims.known} ({claims.chosen_by})."
    return f"{text} Not claimed: {', '.join(claims.left_out)}." if claims.left_out else text


def _obedience(measures: Sequence[Measure]) -> str:
    """A table with the judge's own limit in its last column but one."""
    rows = [
        f"| {m.label} | {_percent(m.drawn.rate)} | {_interval(m.drawn)} | {m.drawn.total} | {_percent(m.real.rate)} | "
        f"{'' if m.floor is None else f'{m.floor:.0%}, ' + ('reached' if m.drawn.rate >= m.floor else 'missed')} |"
        for m in measures
    ]
    head = "| asked and seen by the judge | right | 95% interval | pictures | judge on real pictures | floor |"
    note = (
        "A classifier trained on the art apart from the model says what it sees, out of all claimed concepts. What it "
        'sees on real pictures of the same prompts is its own limit. "Held-out" was never trained on.'
    )
    return "\n".join((note, "", head, "|---|---|---|---|---|---|", *rows))


def _failing(failing: Sequence[Failing]) -> str:
    if not failing:
        return ""
    listed = ", ".join(f"{f.concept} ({f.right} of {f.total}, taken for {f.taken_for})" for f in failing)
    return f"Least often recognised: {listed}."


def _reconstruction(psnr: Spread) -> str:
    return (
        f"Autoencoder: PSNR {psnr.mean:.2f} dB (95% interval {psnr.low:.2f} to {psnr.high:.2f}) on {psnr.count} "
        f"held-out pictures; 5% of them are below {psnr.quantiles[5]:.2f} dB."
    )


def _copying(copying: Copying) -> str:
    rows = [
        f"| {kind.label} | {' | '.join(f'{kind.quantiles[q]:.3f}' for q in (5, 25, 50, 75, 95))} | "
        f"{_percent(kind.near_copies.rate)} ({_interval(kind.near_copies)}) | {kind.near_copies.total} |"
        for kind in copying.kinds
    ]
    note = (
        f"Distance to the nearest of {copying.training_pictures} training pictures: root mean square difference at "
        f"32 x 32 pixels, 1 being black against white, small shifts allowed. Nearer than {copying.threshold:.3f} (the "
        "median of trained drawings put together anew) counts as a near-copy."
    )
    head = "| pictures | 5% | 25% | median | 75% | 95% | near-copies | count |"
    return "\n".join((note, "", head, "|---|---|---|---|---|---|---|---|", *rows))


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}%"


def _interval(found: Share) -> str:
    return f"{100 * found.low:.1f} to {100 * found.high:.1f}"


def picture_sheet(
    asked: Sequence[Question], pictures: NDArray[np.uint8], held_out_groups: Sequence[str], count: int = 64
) -> Image.Image:
    """A labelled sheet, half of it of prompts that were never trained on: is it what the label says?"""
    held = [i for i, question in enumerate(asked) if question.group in held_out_groups]
    trained = [i for i, question in enumerate(asked) if question.group not in held_out_groups]
    chosen = [*_spaced(trained, count - count // 2), *_spaced(held, count // 2)]
    labels = [f"{asked[i].prompt.text}{' *' if i in set(held) else ''}" for i in chosen]
    return grid([Image.fromarray(pictures[i]) for i in chosen], columns=min(8, len(chosen)), labels=labels)


def _spaced(places: Sequence[int], count: int) -> list[int]:
    """`count` of them at equal distances, so that each group has its part."""
    return [places[i * len(places) // count] for i in range(count)] if len(places) > count else list(places)
