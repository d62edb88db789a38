"""Lessons: what is kept of pictures is theirs, whatever their sizes, and few tensors hold many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rein.data.features import encode_pictures
from rein.formats.tensors import read_tensors
from rein.training.lessons import Drawn, encoded
from tests.training.lessons import model


def test_pictures_of_two_sizes_in_turn_keep_their_own_latents(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sizes = [(32, 32), (32, 48), (32, 32), (48, 32), (32, 48)]
    shown = Drawn([random.integers(0, 256, (*size, 3), np.uint8) for size in sizes], [("a red apple",)] * 5)
    small = model("sd1")
    for _made_then_read in range(2):
        lessons = encoded(shown, small, tmp_path)
        for number, lesson in enumerate(lessons):
            alone = encode_pictures(small.autoencoder, small.spec, torch.from_numpy(shown.pixels(number))[None])[0]
            assert lesson.latents.shape == alone.shape and lesson.name == f"picture {number}"
            assert torch.allclose(lesson.latents.float(), alone.float(), atol=0.02)
    [path] = tmp_path.iterdir()
    assert len(read_tensors(path)) == 3  # one for each shape
