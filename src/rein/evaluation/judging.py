"""Judging pictures: those of a folder, or those that a model draws for a list of prompts, against real ones.

work = judge_pictures(open_list("drawn"), Judges(judge_network()), open_list("real"))
results = finished(work).results                # or iterate, for progress
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass

import torch

from rein.errors import InputError
from rein.evaluation.copies import Found, Neighbour, check_count, find_alike, find_copies
from rein.evaluation.distances import frechet_count, frechet_estimate, inception_score, kernel_estimate
from rein.evaluation.features import FeatureNetwork, Features
from rein.evaluation.judges import RESAMPLES_UNIT, Judges, Stage, featured, figure, mean_of, staged
from rein.evaluation.judging_single import pair_figures, prompt_figures
from rein.evaluation.manifold import manifold
from rein.evaluation.picture_lists import PictureList, paired_places
from rein.evaluation.results import Better, Figure, Results
from rein.version import __version__

USUAL_FOR_FID = 50_000
BETTER: dict[str, Better] = {"precision": "higher", "recall": "higher", "density": "", "coverage": "higher"}
"""Fields of `Manifold`; the density of real pictures is 1, and more is not better."""

COMPARING = "comparing the sets"


@dataclass(frozen=True)
class Judged:
    """The results, and of single pictures: for each of `results.copies` their nearest training pictures, the nearest
    pair first; and the judge's chance by their place.
    """

    results: Results
    neighbours: tuple[tuple[Neighbour, ...], ...]
    chances: dict[int, float]


def judge_pictures(
    drawn: PictureList, judges: Judges, real: PictureList | None = None
) -> Generator[Stage, None, Judged]:
    """Measure pictures, alone and, where `real` is given, against those.

    Raises:
        InputError: too few pictures for what is asked, or no pair of names.
        DamagedFileError: a picture cannot be read.
    """
    began = time.monotonic()
    _check(drawn, judges, real)
    pairs = paired_places(drawn, real) if judges.pairs and real is not None else []
    figures: list[Figure] = []
    notes = [f"left out: {name} ({reason})" for which in (drawn, real) if which for name, reason in which.skipped]
    ours = yield from featured(judges.features, drawn, "looking at the pictures")
    if ours.chances is not None:
        label = "Inception score" if judges.features.width == 2048 else "clear and varied (Inception score's formula)"
        estimate = inception_score(ours.chances, judges.seed)
        figures.append(figure("is", label, estimate, ("higher", judges.features.label, len(drawn))))
    theirs: Features | None = None
    if real is not None:
        theirs = yield from featured(judges.features, real, "looking at the real pictures")
        found, said = yield from set_figures(ours, theirs, judges)
        figures += found
        notes += said
    found, chances = yield from prompt_figures(drawn, judges)
    figures += found
    if real is not None and pairs:
        figures += yield from pair_figures((drawn, real), pairs, judges.lpips)
    known = theirs if judges.training is not None and real is not None and _same(judges.training, real) else None
    copies = yield from _copies(drawn, ours, judges, known)
    results = Results(
        drawn=drawn.label,
        drawn_count=len(drawn),
        real="" if real is None else real.label,
        real_count=0 if real is None else len(real),
        figures=tuple(figures),
        copies=tuple(report for report, _ in copies),
        notes=tuple(notes),
        settings={} if real is None else {"neighbours": str(judges.neighbours)},
        versions={"rein": __version__, "torch": torch.__version__},
        seconds=round(time.monotonic() - began, 1),
    )
    return Judged(results, tuple(tuple(rows) for _, rows in copies), chances)


def _check(drawn: PictureList, judges: Judges, real: PictureList | None) -> None:
    """Raises `InputError` where nothing could be measured, before hours are spent on it."""
    if judges.pairs and real is None:
        raise InputError("pairs need a second folder: give the pictures to compare with")
    for pictures in (drawn, real):
        if real is not None and pictures is not None and len(pictures) < 2 and not judges.pairs:
            raise InputError(f"{pictures.label} has {len(pictures)} picture: a comparison of sets needs 2 at least")
    if judges.clip is not None and not any(drawn.prompts):
        raise InputError(f"{drawn.label}: no picture has a prompt, in itself or beside it; the CLIP score needs them")
    others = real, judges.clip, judges.scorer, judges.training
    if not judges.features.has_classes and all(other is None for other in others):
        raise InputError(
            f"nothing to measure: {judges.features.name} tells no classes apart; give real pictures to compare with, "
            "--judge, --clip or --training"
        )


def _same(one: PictureList, other: PictureList) -> bool:
    """Whether two lists were opened at the same place."""
    return one.label == other.label and one.names == other.names


def _copies(
    drawn: PictureList, ours: Features, judges: Judges, known: Features | None
) -> Generator[Stage, None, list[Found]]:
    """The nearest training pictures by each distance that is asked for; `known` are their features, where looked at."""
    found: list[Found] = []
    training = judges.training
    if training is None:
        return found
    check_count(len(training))
    if judges.nearest != "features":
        search = find_copies(drawn, training, judges.seed)
        found.append((yield from staged(search, "searching for copies", len(training))))
    if judges.nearest != "pixels":
        theirs = known or (yield from featured(judges.features, training, "looking at the training pictures"))
        found.append(find_alike(ours.vectors, theirs.vectors, judges.features.label, judges.seed))
    return found


def set_figures(
    ours: Features, theirs: Features, judges: Judges
) -> Generator[Stage, None, tuple[list[Figure], list[str]]]:
    """Figures of one set against another, and what must be said of them."""
    network, count = judges.features, len(ours)
    fewest = min(count, len(theirs))
    if fewest < 2:
        return [], [f"a set of {fewest} picture is no set: only pairs are compared"]
    is_fid = network.name.startswith("inception")
    sets = ours.vectors, theirs.vectors
    again, total = frechet_estimate(*sets, judges.seed), frechet_count(*sets)
    yield Stage(COMPARING, 0, total, RESAMPLES_UNIT)
    distance = yield from staged(again, COMPARING, total, RESAMPLES_UNIT)
    kernel = kernel_estimate(ours.vectors, theirs.vectors, judges.seed)
    lower: tuple[Better, str, int] = ("lower", network.label, count)
    figures = [
        figure("fd", "FID" if is_fid else "Fréchet distance of features", distance, lower),
        figure("kid", "KID" if is_fid else "kernel distance of features", kernel, lower),
    ]
    notes = fid_notes(count, len(theirs), network)
    if fewest <= judges.neighbours:
        notes.append(f"precision, recall, density and coverage need more than {judges.neighbours} pictures a set")
        return figures, notes
    parts = manifold(ours.vectors, theirs.vectors, judges.neighbours)
    for key, better in BETTER.items():
        values = getattr(parts, key)
        figures.append(figure(key, key, mean_of(values), (better, network.label, len(values))))
    return figures, notes


def fid_notes(drawn: int, real: int, network: FeatureNetwork) -> list[str]:
    """What must be said of a Fréchet distance of so many pictures."""
    fewest, notes = min(drawn, real), []
    if fewest <= network.width:
        notes.append(
            f"too few pictures for a Fréchet distance: {fewest} give no full covariance of {network.width} features, "
            "so it is far too high; compare it with nothing but the same number of pictures, and look at the kernel "
            "distance instead"
        )
    elif fewest < 10 * network.width:
        notes.append(
            f"the Fréchet distance of {fewest} pictures is too high by what chance adds (published FIDs use "
            f"{USUAL_FOR_FID:,}); compare it with nothing but the same number of pictures"
        )
    return notes
