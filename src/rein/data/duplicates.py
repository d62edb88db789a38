"""Pictures that are nearly the same, found by a perceptual hash and their colours.

The hash is the sign of 64 low frequencies of the picture's brightness against their median (the "pHash" of Zauner 2010,
as the ImageHash library computes it): it survives scaling, compression and small changes of light. It sees no colour,
and a red car drawn like a blue one has the same hash; so pictures count as the same only if their colours, seen from
afar, are too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BITS = 64
COLOUR_DISTANCE = 12.0
"""Levels of 255 by which the colours of two pictures that count as the same, 8 x 8 pixels small, differ on average."""

_SIDE, _LOW = 32, 8
_BITS = np.array([bin(number).count("1") for number in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Look:
    """What a picture is compared by: its hash, and its colours from afar, (192,) uint8."""

    hash: int
    colours: NDArray[np.uint8]


def look_of(image: Image.Image) -> Look:
    """The look of an RGB picture."""
    small = image.resize((_LOW, _LOW), Image.Resampling.BOX)
    return Look(perceptual_hash(image), np.asarray(small, dtype=np.uint8).reshape(-1))


def perceptual_hash(image: Image.Image) -> int:
    """64 bits, the lowest frequency first (the highest bit); pictures that look alike differ in few of them."""
    grey = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    frequencies = (_COSINES @ np.asarray(grey, dtype=np.float64) @ _COSINES.T).ravel()
    bits = frequencies > np.median(frequencies)
    return int.from_bytes(np.packbits(bits).tobytes())


def distance(first: int, second: int) -> int:
    """How many of the 64 bits differ."""
    return (first ^ second).bit_count()


def find_duplicates(looks: Sequence[Look], order: Sequence[int], most: int) -> dict[int, int]:
    """Which pictures are nearly the same as one that is kept, as {number: number of the kept one}.

    Args:
        looks: of all pictures.
        order: their numbers, those that are rather kept first.
        most: bits of 64 that may differ; 0 finds only equal hashes.
    """
    hashes = np.zeros((len(looks), 8), dtype=np.uint8)
    colours = np.zeros((len(looks), 3 * _LOW * _LOW), dtype=np.float32)
    kept: list[int] = []
    found: dict[int, int] = {}
    for number in order:
        own = np.frombuffer(looks[number].hash.to_bytes(8), dtype=np.uint8)
        seen = len(kept)
        near = np.flatnonzero(_BITS[hashes[:seen] ^ own].sum(axis=1, dtype=np.int32) <= most)
        apart = np.abs(colours[near] - looks[number].colours.astype(np.float32)).mean(axis=1)
        same = near[apart <= COLOUR_DISTANCE]
        if len(same):
            found[number] = kept[int(same[0])]
            continue
        hashes[seen], colours[seen] = own, looks[number].colours
        kept.append(number)
    return found


def _cosines() -> NDArray[np.float64]:
    """The first rows of the discrete cosine transform (type II) of 32 values, unscaled."""
    places = np.arange(_SIDE)
    return 2 * np.cos(np.pi * np.arange(_LOW)[:, None] * (2 * places + 1) / (2 * _SIDE))


_COSINES = _cosines()
