"""Small models, saved and loaded once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from rein.pipeline.model import Model, load
from tests.pipeline.peers import Peers, build, clip_tokenizers
from tests.pipeline.small import save_small

Loader = Callable[[str], Model]
PeerLoader = Callable[[str], Peers]


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Gives the small model of a family, in float32 on the CPU."""

    @cache
    def loaded(family: str) -> Model:
        return load(save_small(tmp_path_factory.mktemp(family), family), "cpu", "float32")

    return loaded


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small flow model."""
    return save_small(tmp_path_factory.mktemp("tiny"), "pocket")


@pytest.fixture(scope="session")
def pocket(small_model: Loader) -> Model:
    """The small flow model."""
    return small_model("pocket")


@pytest.fixture(scope="session")
def peers_of(tmp_path_factory: pytest.TempPathFactory) -> PeerLoader:
    """Gives a family's model beside the same in the peers' classes."""
    folder = tmp_path_factory.mktemp("peers")
    words = cache(lambda: clip_tokenizers(folder))
    return cache(lambda family: build(family, folder, words()))
