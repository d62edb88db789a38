"""Which of two sets of pictures, or of two models, is better, and whether that is more than noise.

The difference of two figures has an interval of its own: both sets are drawn again at once, and so are the real
pictures, which both share. Where the two have pictures of the same names (the same prompts and seeds), these are drawn
again together, which takes out what is only the luck of the prompts.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rein.errors import InputError
from rein.evaluation.distances import (
    RESAMPLES,
    different_counts,
    frechet_count,
    frechet_distance,
    frechet_resamples,
    interval_of,
    kernel_distance,
    kernel_distances,
    resampled_counts,
)
from rein.evaluation.features import Features
from rein.evaluation.intervals import NORMAL_QUANTILE
from rein.evaluation.judges import BATCH, RESAMPLES_UNIT, Judges, Stage, featured, staged
from rein.evaluation.judging import BETTER, COMPARING, fid_notes
from rein.evaluation.judging_single import prompt_scores
from rein.evaluation.manifold import manifold
from rein.evaluation.picture_lists import PictureList, paired_places
from rein.evaluation.results import Better

Verdict = Literal["first", "second", "differs", "noise"]
Vectors = NDArray[np.float32]
Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Difference:
    """One figure of both, and their difference, second less first, with its 95% interval.

    Fields:
        paired: whether it was taken prompt by prompt.
        count: pictures of the first and of the second.
    """

    key: str
    label: str
    first: float
    second: float
    low: float
    high: float
    better: Better
    paired: bool
    count: tuple[int, int]

    @property
    def verdict(self) -> Verdict:
        """Which is better; "noise" where the interval has 0 in it, so that so many pictures do not tell.

        "differs" is said of a figure of which neither more nor less is better.
        """
        if self.low <= 0 <= self.high:
            return "noise"
        if not self.better:
            return "differs"
        return "second" if (self.low > 0) == (self.better == "higher") else "first"


@dataclass(frozen=True)
class Comparison:
    """All differences of two, by their labels."""

    first: str
    second: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()


def comparison_json(found: Comparison) -> str:
    """A comparison as JSON, with each verdict."""
    rows = [asdict(row) | {"verdict": row.verdict} for row in found.differences]
    return json.dumps(asdict(found) | {"differences": rows}, indent=1)


def compare_pictures(
    first: PictureList, second: PictureList, judges: Judges, real: PictureList | None = None
) -> Generator[Stage, None, Comparison]:
    """Compare two sets of pictures: by how far they are from real ones, where these are given, and by their prompts.

    Raises:
        InputError: nothing to compare by: no real pictures, and no prompts that a judge can use.
        DamagedFileError: a picture cannot be read.
    """
    pairs = _pairs(first, second)
    differences: list[Difference] = []
    if real is not None:
        sets: list[Features] = []
        for name, pictures in (("first", first), ("second", second), ("real", real)):
            sets.append((yield from featured(judges.features, pictures, f"looking at the {name} pictures")))
        vectors = [found.vectors for found in sets]
        total = frechet_count(vectors[0], vectors[2])
        yield Stage(COMPARING, 0, total, RESAMPLES_UNIT)
        work = set_differences((vectors[0], vectors[1]), vectors[2], pairs, judges)
        differences += yield from staged(work, COMPARING, total, RESAMPLES_UNIT)
    differences += yield from _prompt_differences((first, second), pairs, judges)
    if not differences:
        raise InputError(
            "nothing to compare by: give real pictures with --real, or pictures whose prompts are known and name "
            "things that the judge knows, or a CLIP model"
        )
    notes = [f"{len(pairs)} pairs of the same name" if pairs else "compared as two sets, not picture by picture"]
    if real is not None:
        notes += fid_notes(min(len(first), len(second)), len(real), judges.features)
        if len(first) != len(second):
            notes.append("the Fréchet distance falls with the number of pictures: compare it for equal numbers only")
    return Comparison(first.label, second.label, tuple(differences), tuple(notes))


def _pairs(first: PictureList, second: PictureList) -> Pairs:
    """Places of the same names, where all pictures of both lists have a partner; else none."""
    if sorted(first.names) != sorted(second.names) or len(set(first.names)) < len(first):
        return []
    return paired_places(first, second)


def set_differences(
    sets: tuple[Vectors, Vectors], real: Vectors, pairs: Pairs, judges: Judges
) -> Generator[int, None, list[Difference]]:
    """Differences of the figures about sets, from the vectors of both and of the real pictures.

    Yields how many resamples of the Fréchet distances are done, which takes longest.
    """
    paired = len(pairs) > 0
    first = sets[0]
    second = sets[1][[other for _, other in pairs]] if paired else sets[1]
    count = len(first), len(second)
    frechet = yield from _frechet_difference(first, second, real, paired, judges.seed)
    found = [frechet, _kernel_difference(first, second, real, paired, judges.seed)]
    rows: list[Difference] = [
        Difference(key, label, *values, low, high, "lower", paired, count)
        for (key, label), (values, (low, high)) in zip(
            (("fd", "Fréchet distance"), ("kid", "kernel distance")), found, strict=True
        )
    ]
    if min(*count, len(real)) > judges.neighbours:
        parts = [manifold(vectors, real, judges.neighbours) for vectors in (first, second)]
        for key in BETTER:
            one, other = (getattr(part, key) for part in parts)
            together = paired or key in ("recall", "coverage")  # these are about each real picture, which both share
            row = mean_difference((key, key), one, other, together, judges.seed)
            rows.append(replace(row, better=BETTER[key]))
    return rows


Both = tuple[tuple[float, float], tuple[float, float]]
"""The figures of the first and of the second, and the interval of their difference."""


def _frechet_difference(
    first: Vectors, second: Vectors, real: Vectors, paired: bool, seed: int
) -> Generator[int, None, Both]:
    """By as many deviations round the difference as a normal figure has, as `frechet_estimate`."""
    values = frechet_distance(first, real), frechet_distance(second, real)
    others = np.random.default_rng(seed + 1)
    gaps = []
    for ours, theirs in frechet_resamples(first, real, seed):
        again = ours if paired else others.integers(0, len(second), len(second))
        gaps.append(frechet_distance(second[again], real[theirs]) - frechet_distance(first[ours], real[theirs]))
        yield len(gaps)
    half = NORMAL_QUANTILE * float(np.std(gaps, ddof=1))
    gap = values[1] - values[0]
    return values, (gap - half, gap + half)


def _kernel_difference(first: Vectors, second: Vectors, real: Vectors, paired: bool, seed: int) -> Both:
    random = np.random.default_rng(seed)
    shared = different_counts(len(real), random)
    ours = different_counts(len(first), random)
    theirs = ours if paired else different_counts(len(second), random)
    gaps = kernel_distances((second, real), (theirs, shared)) - kernel_distances((first, real), (ours, shared))
    return (kernel_distance(first, real), kernel_distance(second, real)), interval_of(gaps)


def mean_difference(
    name: tuple[str, str],
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    paired: bool,
    seed: int = 0,
) -> Difference:
    """The difference of the means of two rows of values, higher being better; `name` is key and label."""
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    random = np.random.default_rng(seed)
    counts = resampled_counts(len(one), RESAMPLES, random)
    if paired:
        gaps = counts @ (other - one) / len(one)
    else:
        gaps = resampled_counts(len(other), RESAMPLES, random) @ other / len(other) - counts @ one / len(one)
    low, high = interval_of(gaps)
    means = float(one.mean()), float(other.mean())
    return Difference(*name, *means, low, high, "higher", paired, (len(one), len(other)))


def _prompt_differences(
    lists: tuple[PictureList, PictureList], pairs: Pairs, judges: Judges
) -> Generator[Stage, None, list[Difference]]:
    """Differences of the judge's chances and of CLIP scores."""
    if judges.clip is None and judges.scorer is None:
        return []
    scored: list[list[tuple[float | None, float | None]]] = []
    orders = [[one for one, _ in pairs], [other for _, other in pairs]] if pairs else [[*range(len(x))] for x in lists]
    for which, pictures, order in zip(("first", "second"), lists, orders, strict=True):
        rows: list[tuple[float | None, float | None]] = []
        for start in range(0, len(order), BATCH):
            rows += prompt_scores(pictures, order[start : start + BATCH], judges)
            yield Stage(f"asking for the prompts, {which}", len(rows), len(order))
        scored.append(rows)
    names = (("obedience", "judge's chance of what is asked"), ("clip_score", "CLIP score"))
    found = []
    for place, name in enumerate(names):
        values = [[row[place] for row in rows] for rows in scored]
        if pairs:  # the prompts of a pair may differ: a thing is compared where both have a say
            kept = [(a, b) for a, b in zip(*values, strict=True) if a is not None and b is not None]
            one, other = [a for a, _ in kept], [b for _, b in kept]
        else:
            one, other = ([value for value in column if value is not None] for column in values)
        if one and other:
            found.append(mean_difference(name, one, other, bool(pairs), judges.seed))
    return found
