"""Whether pictures are copies of others: the nearest of a training set to each, beside what real pictures have.

Two distances are offered. That of pixels (`rein.evaluation.nearest`) finds the same drawing; that of a network's
features, 1 less the cosine of their vectors, also finds one that was shifted, mirrored or coloured anew, and calls two
drawings near that merely show the same. What counts as near is taken from the training set itself, for either: some of
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
from rein.evaluation.nearest import CHUNK, SIDE, Nearest, closeness, nearest
from rein.evaluation.results import PIXELS, Copies

HELD_BACK = 500
"""Training pictures at most by which the threshold is found; a fifth of a small set."""

FEWEST = 10

Vectors = NDArray[np.floating]


@dataclass(frozen=True)
class Neighbour:
    """A picture, the training picture nearest to it, and their distance."""

    place: int
    nearest: int
    distance: float


Found = tuple[Copies, list[Neighbour]]
"""The report, and the neighbours of all drawn pictures, the nearest pair first."""


def find_copies(drawn: Pictures, training: Pictures, seed: int = 0) -> Generator[int, None, Found]:
    """Look for the nearest training picture of each drawn one by pixels; yields how many are looked at.

    Raises:
        InputError: fewer than `FEWEST` training pictures.
    """
    check_count(len(training))
    ours = np.stack([small_square(as_rgb(drawn[place])) for place in range(len(drawn))])
    known = np.empty((len(training), SIDE, SIDE, 3), dtype=np.uint8)
    for place in range(len(training)):
        known[place] = small_square(as_rgb(training[place]))
        if place % 100 == 99:
            yield place + 1
    yield len(training)
    held_back, rest = _split(len(known), seed)
    return _found(PIXELS, _by_pixels(ours, known), _by_pixels(known[held_back], known[rest]), len(known))


def find_alike(drawn: Vectors, training: Vectors, network: str, seed: int = 0) -> Found:
    """The nearest training picture of each drawn one by their features, (M, D) and (N, D), of a network's label.

    Raises:
        InputError: fewer than `FEWEST` training pictures.
    """
    check_count(len(training))
    held_back, rest = _split(len(training), seed)
    own = _by_features(training[held_back], training[rest])
    return _found(network, _by_features(drawn, training), own, len(training))


def check_count(training: int) -> None:
    """Raises `InputError` where there are too few training pictures."""
    if training < FEWEST:
        raise InputError(f"there are {training} training pictures: {FEWEST} at least are needed to tell a copy")


def _split(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the training pictures that are held back, and of the rest."""
    order = np.random.default_rng(seed).permutation(count)
    held_back = order[: min(HELD_BACK, count // 5)]
    return held_back, np.setdiff1d(order, held_back)


def _by_pixels(queries: NDArray[np.uint8], known: NDArray[np.uint8]) -> Nearest:
    *_, found = nearest(queries, known)
    return found


def _by_features(queries: Vectors, known: Vectors) -> Nearest:
    ours, theirs = _unit(queries), _unit(known)
    best, places = np.full(len(ours), np.inf, dtype=np.float32), np.zeros(len(ours), dtype=np.int64)
    for start in range(0, len(theirs), CHUNK):
        apart = (1 - ours @ theirs[start : start + CHUNK].T).clip(min=0)
        found = apart.argmin(axis=1)
        values = apart[np.arange(len(ours)), found]
        nearer = values < best
        best, places = np.where(nearer, values, best), np.where(nearer, found + start, places)
    return Nearest(len(theirs), best, places)


def _unit(vectors: Vectors) -> NDArray[np.float32]:
    """Vectors of length 1; one of nothing but zeros stays."""
    numbers = np.asarray(vectors, dtype=np.float32)
    found: NDArray[np.float32] = numbers / np.linalg.norm(numbers, axis=1, keepdims=True).clip(min=1e-12)
    return found


def _found(by: str, drawn: Nearest, held_back: Nearest, compared: int) -> Found:
    threshold = float(np.median(held_back.distances))
    kinds = (
        closeness("drawn pictures", drawn.distances, threshold),
        closeness("training pictures held back", held_back.distances, threshold),
    )
    rows = [Neighbour(place, int(drawn.places[place]), float(d)) for place, d in enumerate(drawn.distances)]
    return Copies(by, compared, threshold, kinds), sorted(rows, key=lambda row: (row.distance, row.place))


def small_square(image: Image.Image, side: int = SIDE) -> NDArray[np.uint8]:
    """The middle square of an RGB picture at a small size, each pixel the mean of its area: (side, side, 3)."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    cut = image.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(cut, dtype=np.uint8)
