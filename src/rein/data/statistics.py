"""Mean and deviation of the colours of many pictures, in each colour space, gathered one picture at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from rein.data.colour_spaces import COLOUR_SPACES, to_space
from rein.data.set_file import Statistics

Sums = Mapping[str, NDArray[np.float64]]
"""For each colour space (3, 3): how many pixels, thrice, the sums of the channels, and the sums of their squares."""


def channel_sums(pixels: NDArray[np.uint8]) -> Sums:
    """The sums over the pixels (H, W, 3) of one picture."""
    found = {}
    for space in COLOUR_SPACES:
        values = to_space(pixels, space).reshape(-1, 3).astype(np.float64)
        found[str(space)] = np.stack([np.full(3, len(values)), values.sum(axis=0), np.square(values).sum(axis=0)])
    return found


def statistics_of(sums: Iterable[Sums]) -> dict[str, Statistics]:
    """Over all pixels of several pictures; of one at least."""
    total = {str(space): np.zeros((3, 3)) for space in COLOUR_SPACES}
    for entry in sums:
        total = {space: before + entry[space] for space, before in total.items()}
    found = {}
    for space, (count, first, second) in total.items():
        mean = first / count
        found[space] = Statistics(mean=_three(mean), deviation=_three(np.sqrt(np.maximum(second / count - mean**2, 0))))
    return found


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = (round(float(value), 6) for value in values)
    return first, second, third
