"""Which of two evaluated models is better: what `rein evaluate MODEL` left in two folders, compared."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

from rein.errors import InputError
from rein.evaluation.comparing import Comparison, Difference, mean_difference
from rein.evaluation.distances import Estimate
from rein.evaluation.intervals import Share
from rein.evaluation.outcomes import OutcomeRow, read_outcomes
from rein.evaluation.report import REPORT_NAME, Report, read_report


def compare_reports(first: Path, second: Path, seed: int = 0) -> Comparison:
    """Compare two evaluations of models: what `rein evaluate MODEL` left in two folders.

    Questions that both were asked (the same prompt and seed) are compared one by one. A report without its outcomes,
    as older versions wrote them, is compared by its shares alone.

    Raises:
        InputError: a folder without a report, or two without a common group of prompts.
        DamagedFileError: a report cannot be read.
    """
    reports = read_report(_report(first)), read_report(_report(second))
    rows = read_outcomes(_report(first).parent), read_outcomes(_report(second).parent)
    if rows[0] and rows[1]:
        differences, note = _outcome_differences(rows[0], rows[1], reports[0], seed)
    else:
        differences, note = _share_differences(*reports), "compared by shares: a report has no outcomes beside it"
    if not differences:
        raise InputError(f"{first} and {second} have no prompts in common: evaluate both in the same way")
    return Comparison(str(first), str(second), tuple(differences), (note,))


def is_report(place: Path) -> bool:
    """Whether a place is the report of an evaluation of a model, or its folder."""
    return _report(place).is_file() and _report(place).suffix == ".json"


def _report(place: Path) -> Path:
    return place / REPORT_NAME if place.is_dir() else place


def _outcome_differences(
    first: dict[str, OutcomeRow], second: dict[str, OutcomeRow], report: Report, seed: int
) -> tuple[list[Difference], str]:
    common = [key for key in first if key in second]
    found = []
    for measure in report.measures:
        keys = [key for key in common if first[key].group == measure.group]
        if keys:
            one, other = ([float(rows[key].right[measure.name]) for key in keys] for rows in (first, second))
            found.append(mean_difference((f"{measure.group}/{measure.name}", measure.label), one, other, True, seed))
    return found, f"{len(common)} questions that both were asked, compared one by one"


def _share_differences(first: Report, second: Report) -> list[Difference]:
    others = {(measure.group, measure.name): measure for measure in second.measures}
    found = []
    for measure in first.measures:
        other = others.get((measure.group, measure.name))
        if other is not None:
            gap = share_difference(measure.drawn, other.drawn)
            shares, count = (measure.drawn.rate, other.drawn.rate), (measure.drawn.total, other.drawn.total)
            name = f"{measure.group}/{measure.name}", measure.label
            found.append(Difference(*name, *shares, gap.low, gap.high, "higher", False, count))
    return found


def share_difference(first: Share, second: Share) -> Estimate:
    """Second less first with the hybrid score interval of Newcombe (1998, method 10), from both Wilson intervals."""
    gap = second.rate - first.rate
    low = gap - sqrt((second.rate - second.low) ** 2 + (first.high - first.rate) ** 2)
    high = gap + sqrt((second.high - second.rate) ** 2 + (first.rate - first.low) ** 2)
    return Estimate(gap, low, high)
