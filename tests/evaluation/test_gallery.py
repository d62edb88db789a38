from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rein.errors import DamagedFileError, InputError
from rein.evaluation.gallery import Gallery, as_image


class Counting:
    """Draws one flat picture for each prompt, its red being the seed, and remembers the batches."""

    def __init__(self, fail_after: int = 10**9) -> None:
        self.batches: list[list[str]] = []
        self.fail_after = fail_after

    def __call__(self, texts: list[str], seeds: list[int]) -> Sequence[object]:
        if len(self.batches) == self.fail_after:
            raise KeyboardInterrupt
        self.batches.append(texts)
        return [Image.new("RGB", (8, 8), (seed, 0, 0)) for seed in seeds]


ORDERS = [("a sun", 1), ("a moon", 2), ("a sun", 3), ("a sun", 1), ("a star", 4)]


def test_each_order_is_drawn_once_in_batches(tmp_path: Path) -> None:
    draw = Counting()
    gallery = Gallery(draw, tmp_path, "key", batch_size=3)
    assert list(gallery.fill(ORDERS)) == [1, 4, 5]  # the order that comes twice counts as done at once
    assert draw.batches == [["a sun", "a moon", "a sun"], ["a star"]]
    assert gallery.pictures(ORDERS)[:, 0, 0, 0].tolist() == [1, 2, 3, 1, 4]


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(Gallery(Counting(fail_after=1), tmp_path, "key", batch_size=2).fill(ORDERS))
    again = Counting()
    list(Gallery(again, tmp_path, "key", batch_size=2).fill(ORDERS))
    assert [text for batch in again.batches for text in batch] == ["a sun", "a star"]


def test_pictures_of_another_key_are_not_taken(tmp_path: Path) -> None:
    list(Gallery(Counting(), tmp_path, "one", batch_size=8).fill(ORDERS))
    other = Counting()
    list(Gallery(other, tmp_path, "two", batch_size=8).fill(ORDERS))
    assert sum(map(len, other.batches)) == 4


def test_what_a_drawer_may_give() -> None:
    array = np.full((4, 4, 3), 255, dtype=np.uint8)
    tensor = torch.ones(3, 4, 4)
    for picture in (array, tensor, Image.fromarray(array), Image.new("RGBA", (4, 4), (0, 0, 0, 0))):
        assert np.array_equal(np.array(as_image(picture)), array)


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_size is 0"):
        Gallery(Counting(), tmp_path, "key", batch_size=0)
    with pytest.raises(ValueError, match="1 pictures for 2 prompts"):
        list(Gallery(lambda texts, seeds: [Image.new("RGB", (8, 8))], tmp_path, "key").fill(ORDERS[:2]))


def test_pictures_of_several_sizes_are_refused(tmp_path: Path) -> None:
    gallery = Gallery(lambda texts, seeds: [Image.new("RGB", (seed, seed)) for seed in seeds], tmp_path, "key")
    list(gallery.fill(ORDERS[:2]))
    with pytest.raises(DamagedFileError, match="several sizes"):
        gallery.pictures(ORDERS[:2])
    assert gallery.pictures([]).shape[0] == 0
