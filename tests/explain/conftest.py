"""An explanation of a small model; models and the program as in the tests of their own rooms."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rein.explain.trace import Explanation, explain
from rein.formats.checkpoint import save_model
from rein.nn.specs import with_extra_channels
from rein.pipeline.model import Model, load
from tests.cli.conftest import Run, rein, tiny
from tests.pipeline.conftest import Loader, pocket, small_model
from tests.pipeline.small import SPECS, networks, own_tokenizer

__all__ = ["Channels", "Loader", "Run", "apple", "pocket", "rein", "small_model", "tiny"]

Channels = Callable[[int], Model]


@pytest.fixture(scope="session")
def with_channels(tmp_path_factory: pytest.TempPathFactory) -> Channels:
    """Gives a small model whose U-Net sees so many channels beside the latents."""

    @cache
    def loaded(extra: int) -> Model:
        spec = with_extra_channels(SPECS["sd1"], f"small-{extra}", extra)
        folder = tmp_path_factory.mktemp(spec.name)
        return load(save_model(folder, spec, *networks(spec), own_tokenizer()), "cpu", "float32")

    return loaded


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture to start from."""
    rows, columns = np.mgrid[:32, :32]
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(np.stack([rows * 8, columns * 8, (rows + columns) * 4], axis=-1).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask that leaves the left half to draw."""
    levels = np.zeros((32, 32), dtype=np.uint8)
    levels[:, :16] = 255
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    Image.fromarray(levels).save(path)
    return path


@contextmanager
def nearly_full(room: int) -> Iterator[None]:
    """Within the block no file can grow beyond `room` bytes, as on a disk that has no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="session")
def apple(pocket: Model) -> Explanation:
    """A finished explanation of four steps."""
    return explain("a red apple, flat style", pocket, seed=7, steps=4).finish()
