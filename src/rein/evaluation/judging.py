"""Judging pictures: those of a folder, or those that a model draws for a list of prompts, against real ones.

work = judge_pictures(open_list("drawn"), Judges(judge_network()), open_list("real"))
results = finished(work).results                # or iterate, for progress
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence, Sized
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rein.errors import InputError
from rein.evaluation.clip import Clip
from rein.evaluation.copies import Neighbour, find_copies
from rein.evaluation.distances import Estimate, frechet_estimate, inception_score, kernel_estimate
from rein.evaluation.features import FeatureNetwork, Features, Pictures, Returned, extract, judge_digest
from rein.evaluation.intervals import spread
from rein.evaluation.likeness import ssim
from rein.evaluation.manifold import NEIGHBOURS, manifold
from rein.evaluation.networks import PerceptualDistance
from rein.evaluation.picture_lists import PictureList, paired_places
from rein.evaluation.results import Better, Copies, Figure, Results
from rein.evaluation.score import Scorer
from rein.images import pil_to_tensor, psnr
from rein.version import __version__

USUAL_FOR_FID = 50_000
BETTER: dict[str, Better] = {"precision": "higher", "recall": "higher", "density": "", "coverage": "higher"}
"""Fields of `Manifold`; the density of real pictures is 1, and more is not better."""

_BATCH = 32


@dataclass(frozen=True)
class Stage:
    """`done` of `total` pictures in a stage of the work."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, eq=False)
class Judges:
    """Who judges, and what is asked of them.

    Fields:
        features: the network of all figures about sets.
        clip: scores pictures with their prompts; None leaves that out.
        scorer: the judge that names things; it scores pictures whose prompts name what it knows. None leaves it out.
        lpips: of pairs; None leaves that out.
        pairs: whether pictures of equal names are compared one by one.
        training: where copies are looked for; None leaves that out.
        neighbours: of precision, recall, density and coverage.
        seed: of the resampling.
    """

    features: FeatureNetwork
    clip: Clip | None = None
    scorer: Scorer | None = None
    lpips: PerceptualDistance | None = None
    pairs: bool = False
    training: PictureList | None = None
    neighbours: int = NEIGHBOURS
    seed: int = 0


@dataclass(frozen=True)
class Judged:
    """The results, and of single pictures: their nearest training pictures, and the judge's chance by their place."""

    results: Results
    neighbours: tuple[Neighbour, ...]
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
    if judges.pairs and real is None:
        raise InputError("pairs need a second folder: give the pictures to compare with")
    pairs = paired_places(drawn, real) if judges.pairs and real is not None else []
    figures: list[Figure] = []
    notes = [f"left out: {name} ({reason})" for which in (drawn, real) if which for name, reason in which.skipped]
    ours = yield from featured(judges.features, drawn, "looking at the pictures")
    if ours.chances is not None:
        label = "Inception score" if judges.features.width == 2048 else "clear and varied (Inception score's formula)"
        estimate = inception_score(ours.chances, judges.seed)
        figures.append(_figure("is", label, estimate, ("higher", judges.features.label, len(drawn))))
    if real is not None:
        theirs = yield from featured(judges.features, real, "looking at the real pictures")
        yield Stage("comparing the sets", 0, len(drawn))
        found, said = set_figures(ours, theirs, judges)
        figures += found
        notes += said
    found, chances = yield from _prompt_figures(drawn, judges)
    figures += found
    if real is not None and pairs:
        figures += yield from _pair_figures((drawn, real), pairs, judges.lpips)
    copies: Copies | None = None
    neighbours: list[Neighbour] = []
    if judges.training is not None:
        search = find_copies(drawn, judges.training, judges.seed)
        copies, neighbours = yield from staged(search, "searching for copies", len(judges.training))
    results = Results(
        drawn=drawn.label,
        drawn_count=len(drawn),
        real="" if real is None else real.label,
        real_count=0 if real is None else len(real),
        figures=tuple(figures),
        copies=copies,
        notes=tuple(notes),
        settings={},
        versions={"rein": __version__, "torch": torch.__version__},
        seconds=round(time.monotonic() - began, 1),
    )
    return Judged(results, tuple(neighbours), chances)


def featured(network: FeatureNetwork, pictures: Pictures, stage: str) -> Generator[Stage, None, Features]:
    """The features of pictures, with the progress of it."""
    return (yield from staged(extract(network, pictures, _BATCH), stage, len(pictures)))


def staged(work: Generator[int, None, Returned], stage: str, total: int) -> Generator[Stage, None, Returned]:
    """Work that counts, as a stage with a name; returns what the work returns."""
    while True:
        try:
            yield Stage(stage, next(work), total)
        except StopIteration as end:
            found: Returned = end.value
            return found


def set_figures(ours: Features, theirs: Features, judges: Judges) -> tuple[list[Figure], list[str]]:
    """Figures of one set against another, and what must be said of them."""
    network, count = judges.features, len(ours)
    is_fid = network.name.startswith("inception")
    distance = frechet_estimate(ours.vectors, theirs.vectors, judges.seed)
    kernel = kernel_estimate(ours.vectors, theirs.vectors, judges.seed)
    lower: tuple[Better, str, int] = ("lower", network.label, count)
    figures = [
        _figure("fd", "FID" if is_fid else "Fréchet distance of features", distance, lower),
        _figure("kid", "KID" if is_fid else "kernel distance of features", kernel, lower),
    ]
    notes = fid_notes(count, len(theirs), network)
    fewest = min(count, len(theirs))
    if fewest <= judges.neighbours:
        notes.append(f"precision, recall, density and coverage need more than {judges.neighbours} pictures a set")
        return figures, notes
    parts = manifold(ours.vectors, theirs.vectors, judges.neighbours)
    for key, better in BETTER.items():
        values = getattr(parts, key)
        figures.append(_figure(key, key, mean_of(values), (better, network.label, len(values))))
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


def _prompt_figures(
    drawn: PictureList, judges: Judges
) -> Generator[Stage, None, tuple[list[Figure], dict[int, float]]]:
    """What CLIP and the judge say of pictures whose prompts are known, and the judge's chance of each picture."""
    figures: list[Figure] = []
    chances: dict[int, float] = {}
    agreements: list[float] = []
    if judges.clip is None and judges.scorer is None:
        return figures, chances
    known = [place for place, prompt in enumerate(drawn.prompts) if prompt]
    if judges.clip is not None and not known:
        raise InputError(f"{drawn.label}: no picture has a prompt, in itself or beside it; the CLIP score needs them")
    for start in range(0, len(known), _BATCH):
        places = known[start : start + _BATCH]
        for place, (chance, agreement) in zip(places, prompt_scores(drawn, places, judges), strict=True):
            chances |= {} if chance is None else {place: chance}
            agreements += [] if agreement is None else [agreement]
        yield Stage("asking for the prompts", start + len(places), len(known))
    if chances:
        estimate = mean_of(list(chances.values()))
        judge = _by(f"judge ({judge_digest()[:10]})", chances)
        figures.append(_figure("obedience", "judge's chance of what is asked", estimate, judge))
    if agreements and judges.clip is not None:
        label = f"{judges.clip.name} ({judges.clip.sha256[:10]})"
        figures.append(_figure("clip_score", "CLIP score", mean_of(agreements), _by(label, agreements)))
    return figures, chances


def _by(network: str, values: Sized) -> tuple[Better, str, int]:
    return "higher", network, len(values)


def prompt_scores(drawn: PictureList, places: Sequence[int], judges: Judges) -> list[tuple[float | None, float | None]]:
    """For each picture the judge's chance and the CLIP score, None where there is no prompt or no say."""
    images = [drawn[place] for place in places]
    prompts = [drawn.prompts[place] or "" for place in places]
    chances = [judges.scorer.score(p, i) if judges.scorer and p else None for p, i in zip(prompts, images, strict=True)]
    agreements: list[float | None] = [None] * len(places)
    if judges.clip is not None and images:
        scores = judges.clip.scores(images, prompts).tolist()
        agreements = [score if prompt else None for prompt, score in zip(prompts, scores, strict=True)]
    return list(zip(chances, agreements, strict=True))


def _pair_figures(
    lists: tuple[PictureList, PictureList], pairs: Sequence[tuple[int, int]], lpips: PerceptualDistance | None
) -> Generator[Stage, None, list[Figure]]:
    """Pictures of equal names, one by one: PSNR, SSIM, LPIPS."""
    drawn, real = lists
    values: dict[str, list[float]] = {"psnr": [], "ssim": [], "lpips": []}
    for done, (ours, theirs) in enumerate(pairs, start=1):
        one, other = pil_to_tensor(drawn[ours])[None], pil_to_tensor(real[theirs])[None]
        if one.shape != other.shape:
            sizes = " and ".join(f"{x.shape[3]} x {x.shape[2]}" for x in (one, other))
            raise InputError(f"the pictures called {drawn.names[ours]!r} are of different sizes, {sizes}")
        values["psnr"].append(float(psnr(one, other)))
        values["ssim"].append(float(ssim(one, other)))
        if lpips is not None:
            values["lpips"].append(float(lpips(one, other)))
        yield Stage("comparing pairs", done, len(pairs))
    network = "" if lpips is None else f"{lpips.name} ({lpips.sha256[:10]})"
    rows: list[tuple[str, str, Better, str]] = [
        ("psnr", "PSNR of pairs, dB", "higher", ""),
        ("ssim", "SSIM of pairs", "higher", ""),
        ("lpips", "LPIPS of pairs", "lower", network),
    ]
    return [
        _figure(key, label, mean_of(values[key]), (better, by, len(pairs)))
        for key, label, better, by in rows
        if values[key]
    ]


def mean_of(values: Sequence[float] | NDArray[np.float64]) -> Estimate:
    """The mean with its bootstrap interval."""
    found = spread(np.asarray(values, dtype=np.float64))
    return Estimate(found.mean, found.low, found.high)


def _figure(key: str, label: str, estimate: Estimate, said: tuple[Better, str, int]) -> Figure:
    better, network, pictures = said
    return Figure(key, label, estimate.value, estimate.low, estimate.high, better, network, pictures)
