"""Are drawn pictures copies? The distance of each to the nearest training picture, beside that of real pictures.

The distance is the root mean square difference of pixels at 32 x 32, the best over shifts by one of these pixels. A
network's features would call two pictures near because they show the same thing, which is what was asked for; pixels
ask whether it is the same drawing, and everyone can check it by eye.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from rein.evaluation.classifier import to_pixels
from rein.evaluation.intervals import Share, share
from rein.images import grid

SIDE = 32
SHIFTS = tuple((down, across) for down in (-1, 0, 1) for across in (-1, 0, 1))
CHUNK = 2_048


@dataclass(frozen=True)
class Nearest:
    """Of each of N pictures the distance to the nearest of `compared` training pictures, 0 to 1 of the full range, and
    its place."""

    compared: int
    distances: NDArray[np.float32]
    places: NDArray[np.int64]


@dataclass(frozen=True)
class Closeness:
    """How near a kind of pictures comes to the training ones: quantiles by percent, and the share of near-copies."""

    label: str
    quantiles: dict[int, float]
    near_copies: Share


def thumbnails(pictures: NDArray[np.uint8]) -> Tensor:
    """Pictures (N, H, W, 3) uint8 as (N, 3, 32, 32) float32 in [0, 1], each pixel the mean of its area."""
    parts = [
        functional.interpolate(to_pixels(pictures[start : start + 256]), (SIDE, SIDE), mode="area")
        for start in range(0, len(pictures), 256)
    ]
    return (torch.cat(parts) + 1.0) / 2.0


@torch.no_grad()
def nearest(queries: NDArray[np.uint8], training: NDArray[np.uint8]) -> Iterator[Nearest]:
    """Compare all `queries` with all of `training`, part by part; after each the nearest so far."""
    shifted = _shifted(thumbnails(queries))
    norms = shifted.square().sum(dim=2)
    best = torch.full((len(queries),), torch.inf)
    places = torch.zeros(len(queries), dtype=torch.int64)
    for start in range(0, len(training), CHUNK):
        known = thumbnails(training[start : start + CHUNK]).flatten(1)
        found = torch.full((len(queries),), torch.inf)
        where = torch.zeros(len(queries), dtype=torch.int64)
        for shift in range(len(SHIFTS)):
            squares = torch.addmm(known.square().sum(dim=1), shifted[shift], known.T, alpha=-2.0)
            values, indices = (squares + norms[shift][:, None]).min(dim=1)
            nearer = values < found
            found, where = torch.where(nearer, values, found), torch.where(nearer, indices, where)
        nearer = found < best
        best, places = torch.where(nearer, found, best), torch.where(nearer, where + start, places)
        done = min(start + CHUNK, len(training))
        yield Nearest(done, (best.clamp(min=0) / (3 * SIDE**2)).sqrt().numpy(), places.numpy())


def _shifted(pixels: Tensor) -> Tensor:
    """All shifts of thumbnails, the edge repeated: (shifts, N, 3 * 32 * 32)."""
    padded = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
    views = [padded[:, :, 1 + down : 1 + down + SIDE, 1 + across : 1 + across + SIDE] for down, across in SHIFTS]
    return torch.stack([view.flatten(1) for view in views])


def closeness(label: str, distances: NDArray[np.float32], threshold: float) -> Closeness:
    """Quantiles of one kind of pictures, and how many are nearer than `threshold`."""
    quantiles = {percent: float(np.percentile(distances, percent)) for percent in (0, 5, 25, 50, 75, 95)}
    return Closeness(label, quantiles, share(int((distances < threshold).sum()), len(distances)))


def nearest_sheet(
    queries: NDArray[np.uint8], labels: Sequence[str], training: NDArray[np.uint8], found: Nearest, pairs: int = 16
) -> Image.Image:
    """The pictures that are nearest to a training picture, nearest first, each with that picture right of it.

    `found` may go on with other pictures after these.
    """
    order = np.argsort(found.distances[: len(queries)], kind="stable")[:pairs]
    pictures, texts = [], []
    for place in order:
        pictures += [Image.fromarray(queries[place]), Image.fromarray(training[found.places[place]])]
        texts += [labels[place], f"nearest in training: {found.distances[place]:.3f}"]
    return grid(pictures, columns=min(8, len(pictures)), labels=texts)
