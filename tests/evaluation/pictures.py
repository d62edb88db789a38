"""Folders of small pictures for the tests of judging: blotches of two populations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.image_files import write_png


def blotch(random: np.random.Generator, warm: float, side: int = 64) -> NDArray[np.uint8]:
    """A smooth picture, the warmer the redder."""
    levels = random.uniform(0, 200, (4, 4, 3)) + np.array([warm, 0.0, -warm])
    coarse = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def folder(place: Path, count: int, warm: float = 0.0, seed: int = 0, prompt: str = "") -> Path:
    """`count` pictures called 000 and on; with a prompt in each, as a gallery writes them, where one is given."""
    place.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        texts = {"prompt": prompt, "seed": str(number)} if prompt else {}
        write_png(Image.fromarray(blotch(random, warm)), place / f"{number:03d}.png", texts)
    return place
