"""Who judges pictures and what is asked of them, and how the work tells its progress."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rein.errors import InputError, quoted
from rein.evaluation.clip import Clip
from rein.evaluation.distances import Estimate
from rein.evaluation.features import FeatureNetwork, Features, Pictures, Returned, extract
from rein.evaluation.intervals import spread
from rein.evaluation.manifold import NEIGHBOURS
from rein.evaluation.networks import PerceptualDistance
from rein.evaluation.picture_lists import PictureList
from rein.evaluation.results import Better, Figure
from rein.evaluation.score import Scorer

NEAREST = ("pixels", "features", "both")
RESAMPLES_UNIT = "resamples"
BATCH = 32


@dataclass(frozen=True)
class Stage:
    """`done` of `total` in a stage of the work; `unit` says what is counted."""

    name: str
    done: int
    total: int
    unit: str = "pictures"


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
        nearest: by which distance a training picture is the nearest, of `NEAREST`; both are two reports.
        neighbours: of precision, recall, density and coverage.
        seed: of the resampling.

    Raises:
        InputError: an unknown `nearest`.
    """

    features: FeatureNetwork
    clip: Clip | None = None
    scorer: Scorer | None = None
    lpips: PerceptualDistance | None = None
    pairs: bool = False
    training: PictureList | None = None
    nearest: str = "both"
    neighbours: int = NEIGHBOURS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.nearest not in NEAREST:
            raise InputError(f"nearest is {quoted(self.nearest)}: it must be {' or '.join(NEAREST)}")


def featured(network: FeatureNetwork, pictures: Pictures, stage: str) -> Generator[Stage, None, Features]:
    """The features of pictures, with the progress of it."""
    return (yield from staged(extract(network, pictures, BATCH), stage, len(pictures)))


def staged(
    work: Generator[int, None, Returned], stage: str, total: int, unit: str = "pictures"
) -> Generator[Stage, None, Returned]:
    """Work that counts, as a stage with a name; returns what the work returns."""
    while True:
        try:
            yield Stage(stage, next(work), total, unit)
        except StopIteration as end:
            found: Returned = end.value
            return found


def mean_of(values: Sequence[float] | NDArray[np.float64]) -> Estimate:
    """The mean with its bootstrap interval."""
    found = spread(np.asarray(values, dtype=np.float64))
    return Estimate(found.mean, found.low, found.high)


def figure(key: str, label: str, estimate: Estimate, said: tuple[Better, str, int]) -> Figure:
    """A figure of an estimate; `said` is which way it is better, the network, and of how many pictures it is made."""
    better, network, pictures = said
    return Figure(key, label, estimate.value, estimate.low, estimate.high, better, network, pictures)
