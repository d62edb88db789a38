"""Precision and recall of a set of pictures, density and coverage: how much is real, and how much of the real is there.

The region of a set is made of balls round its pictures, each out to the `neighbours`-th nearest of its own set
(Kynkäänniemi et al. 2019; Naeem et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rein.errors import InputError

NEIGHBOURS = 5
_ROWS = 1_024

Vectors = NDArray[np.floating]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Manifold:
    """What counts for each picture; the mean of a field is the figure.

    Fields:
        precision: of each drawn picture whether it lies in a real ball, 1 or 0 (M,).
        recall: of each real picture whether it lies in a drawn ball (N,).
        density: of each drawn picture in how many real balls it lies, divided by `neighbours` (M,): above 1 where many
            are drawn of what is common.
        coverage: of each real picture whether a drawn one is in its ball (N,).
    """

    precision: Array
    recall: Array
    density: Array
    coverage: Array


def manifold(drawn: Vectors, real: Vectors, neighbours: int = NEIGHBOURS) -> Manifold:
    """The four for drawn vectors (M, D) and real ones (N, D).

    Raises:
        InputError: a set of no more than `neighbours`.
    """
    fewest = min(len(drawn), len(real))
    if neighbours < 1 or fewest <= neighbours:
        raise InputError(f"neighbours is {neighbours}: it must be from 1 to {fewest - 1}, below the pictures of a set")
    ours, theirs = (np.asarray(vectors, dtype=np.float64) for vectors in (drawn, real))
    real_radii, drawn_radii = _radii(theirs, neighbours), _radii(ours, neighbours)
    precision, density = np.zeros(len(ours)), np.zeros(len(ours))
    recall, nearest = np.zeros(len(theirs)), np.full(len(theirs), np.inf)
    for start in range(0, len(ours), _ROWS):
        rows = slice(start, start + _ROWS)
        squares = _squares(ours[rows], theirs)
        inside = squares < real_radii
        precision[rows] = inside.any(axis=1)
        density[rows] = inside.sum(axis=1) / neighbours
        recall = np.maximum(recall, (squares < drawn_radii[rows, None]).any(axis=0))
        nearest = np.minimum(nearest, squares.min(axis=0))
    return Manifold(precision, recall, density, (nearest < real_radii).astype(np.float64))


def _squares(one: Array, other: Array) -> Array:
    """Squared distances (len(one), len(other))."""
    found: Array = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T
    return found.clip(min=0)


def _radii(vectors: Array, neighbours: int) -> Array:
    """The squared distance of each vector to its `neighbours`-th nearest of the others."""
    radii = np.empty(len(vectors))
    for start in range(0, len(vectors), _ROWS):
        rows = slice(start, min(start + _ROWS, len(vectors)))
        squares = _squares(vectors[rows], vectors)
        squares[np.arange(rows.stop - start), np.arange(start, rows.stop)] = -1.0  # itself comes first
        radii[rows] = np.partition(squares, neighbours, axis=1)[:, neighbours]
    return radii
