"""Pictures drawn for an evaluation, each once: a run that is stopped goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rein.errors import DamagedFileError, InputError
from rein.files import write_failure
from rein.image_files import read_image, write_png
from rein.images import tensor_to_pil, to_rgb

Pictures = NDArray[np.uint8]
Order = tuple[str, int]
"""A prompt and a seed."""


class Gallery:
    """Draws pictures by `draw(prompts, seeds)` and keeps them as PNG files in a folder of the model's own.

    `draw` gives for each prompt a Pillow picture, a (3, H, W) tensor in [-1, 1] or an (H, W, 3) uint8 array. `key` says
    with which weights and settings: pictures of another key are never taken for these.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(
        self, draw: Callable[[list[str], list[int]], Iterable[object]], folder: Path, key: str, batch_size: int = 8
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1")
        self._draw, self._batch_size = draw, batch_size
        self.folder = folder / f"drawn-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(self.folder, error) from error

    def fill(self, orders: Sequence[Order]) -> Iterator[int]:
        """Draw what is missing; after each batch, and once at the start, how many of the orders are done."""
        missing = [order for order in dict.fromkeys(orders) if not self.path(order).exists()]
        done = len(orders) - len(missing)
        yield done
        for start in range(0, len(missing), self._batch_size):
            batch = missing[start : start + self._batch_size]
            drawn = list(self._draw([text for text, _ in batch], [seed for _, seed in batch]))
            if len(drawn) != len(batch):
                raise ValueError(f"the drawer gave {len(drawn)} pictures for {len(batch)} prompts")
            for order, picture in zip(batch, drawn, strict=True):
                write_png(as_image(picture), self.path(order), {"prompt": order[0], "seed": str(order[1])})
            done += len(batch)
            yield done

    def pictures(self, orders: Sequence[Order]) -> Pictures:
        """The drawn pictures of `orders`, (N, H, W, 3) uint8.

        Raises:
            DamagedFileError: a stored picture is not as it was written.
        """
        loaded = [np.array(read_image(self.path(order))) for order in orders]
        if len({picture.shape for picture in loaded}) > 1:
            raise DamagedFileError(f"{self.folder}: its pictures are of several sizes; delete it and run again")
        return np.stack(loaded) if loaded else np.empty((0, 0, 0, 3), dtype=np.uint8)

    def path(self, order: Order) -> Path:
        """The file of an order, drawn or not yet."""
        name = hashlib.sha256(f"{order[1]}/{order[0]}".encode()).hexdigest()[:24]
        return self.folder / f"{name}.png"


def as_image(picture: object) -> Image.Image:
    """A drawn picture of any accepted kind as RGB."""
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture).convert("RGB")
    return tensor_to_pil(picture)  # type: ignore[arg-type]  # anything else is for it to refuse
