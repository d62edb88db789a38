"""Whether pictures are copies of others: the nearest of a training set to each, beside what real pictures have.

The distance is that of `rein.evaluation.nearest`. What counts as near is taken from the training set itself: some of
its pictures are held back, and half of these are nearer to the rest than the threshold.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.errors import InputError
from rein.evaluation.features import Pictures, as_rgb
from rein.evaluation.nearest import SIDE, Nearest, closeness, nearest
from rein.evaluation.results import Copies

HELD_BACK = 500
"""Training pictures at most by which the threshold is found; a fifth of a small set."""

FEWEST = 10


@dataclass(frozen=True)
class Neighbour:
    """A picture, the training picture nearest to it, and their distance."""

    place: int
    nearest: int
    distance: float


def find_copies(
    drawn: Pictures, training: Pictures, seed: int = 0
) -> Generator[int, None, tuple[Copies, list[Neighbour]]]:
    """Look for the nearest training picture of each drawn one; yields how many training pictures are looked at.

    Returns:
        The report, and the neighbours of all drawn pictures, the nearest pair first.

    Raises:
        InputError: fewer than `FEWEST` training pictures.
    """
    if len(training) < FEWEST:
        raise InputError(f"there are {len(training)} training pictures: {FEWEST} at least are needed to tell a copy")
    ours = np.stack([small_square(as_rgb(drawn[place])) for place in range(len(drawn))])
    known = np.empty((len(training), SIDE, SIDE, 3), dtype=np.uint8)
    for place in range(len(training)):
        known[place] = small_square(as_rgb(training[place]))
        if place % 100 == 99:
            yield place + 1
    found = _all(ours, known)
    order = np.random.default_rng(seed).permutation(len(known))
    held_back = order[: min(HELD_BACK, len(known) // 5)]
    rest = np.setdiff1d(order, held_back)
    own = _all(known[held_back], known[rest]).distances
    threshold = float(np.median(own))
    kinds = (
        closeness("drawn pictures", found.distances, threshold),
        closeness("training pictures held back", own, threshold),
    )
    yield len(training)
    rows = [Neighbour(place, int(found.places[place]), float(d)) for place, d in enumerate(found.distances)]
    return Copies(len(training), threshold, kinds), sorted(rows, key=lambda row: (row.distance, row.place))


def _all(queries: NDArray[np.uint8], known: NDArray[np.uint8]) -> Nearest:
    *_, found = nearest(queries, known)
    return found


def small_square(image: Image.Image, side: int = SIDE) -> NDArray[np.uint8]:
    """The middle square of an RGB picture at a small size, each pixel the mean of its area: (side, side, 3)."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    cut = image.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(cut, dtype=np.uint8)
