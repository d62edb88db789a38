"""Normal numbers as CUDA draws them, made on the CPU: Philox 4x32-10 and the Box-Muller transform.

Sources: Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3; Box and Muller
1958. Integers are exact. The transform is in float64 and rounded once, as in AUTOMATIC1111's copy ("NV"), where CUDA
computes in float32 with a fast sine: about six digits agree.

PyTorch gives every number of a tensor to a thread of its own: number n of draw d (both from 0) comes of the counter
(d, 0, n, 0), and the seed's two halves are the key. That holds as long as the GPU runs as many threads as there are
numbers: 1,024 to 2,048 for each of its multiprocessors, so 100,000 and more on a large one, where a picture of
1024 x 1024 needs 65,536.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rein.devices import checked_seed

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)

_UNIT = 2.0**-32
_CIRCLE = float(np.float32(2 * math.pi)) * _UNIT
"""A full turn in 2**32 steps, rounded to float32 as curand has it."""

Words = NDArray[np.uint64]
"""32-bit words, each with room for a product."""


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Four random words for each counter of four words (N,), under a key of two words, after ten rounds."""
    first, second, third, fourth = counter
    for turn in range(_ROUNDS):
        keys = [np.uint64((word + turn * step) % 2**32) for word, step in zip(key, _KEY_STEPS, strict=True)]
        one, other = first * _MULTIPLIERS[0], third * _MULTIPLIERS[1]
        first, second, third, fourth = (
            (other >> _HALF) ^ second ^ keys[0],
            other & _LOW,
            (one >> _HALF) ^ fourth ^ keys[1],
            one & _LOW,
        )
    return first, second, third, fourth


class PhiloxGenerator:
    """Draws one after the other from a seed, 0 to 2**63 - 1; all 64 bits of it count.

    Raises:
        InputError: the seed is out of its range.
    """

    def __init__(self, seed: int) -> None:
        self._key = checked_seed(seed) % 2**32, seed >> 32
        self._draws = 0

    def normal(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """The next draw: numbers of mean 0 and variance 1 in `shape`, fewer than 2**32 of them."""
        places = np.arange(math.prod(shape), dtype=np.uint64)
        nothing = np.zeros_like(places)
        radius, angle, _, _ = philox((nothing + np.uint64(self._draws), nothing, places, nothing), self._key)
        self._draws += 1
        # The middle of each step, so that the logarithm never meets 0.
        lengths = np.sqrt(-2.0 * np.log(radius * _UNIT + _UNIT / 2))
        numbers = lengths * np.sin(angle * _CIRCLE + _CIRCLE / 2)
        drawn: NDArray[np.float32] = numbers.astype(np.float32).reshape(tuple(shape))
        return drawn
