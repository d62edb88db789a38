"""Latents and text features on disk: made once, made again when something changed, never stale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from rein.data.feature_cache import FeatureCache, combined_key, module_hash
from rein.data.features import picture_latents, text_features
from rein.data.pictures import open_pictures
from rein.formats.checkpoint import LoadedModel, load_model
from rein.pipeline.encode import encode_picture
from rein.text.encode import encode_texts
from tests.data.gathered import painted, save_collection
from tests.pipeline.small import save_small

CPU, FLOAT = torch.device("cpu"), torch.float32


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(save_small(tmp_path_factory.mktemp("small"), "sdxl"), CPU, FLOAT)


class Counter:
    """Makes a tensor of a number, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, places: list[int]) -> list[Tensor]:
        self.asked += places
        return [torch.full((1 + place % 2, 3), float(place)) for place in places]


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    make = Counter()
    cache = FeatureCache(tmp_path / "cache", "things", "maker")
    first = cache.get(["a", "b", "a", "c"], make, batch=2)
    assert make.asked == [0, 1, 3]
    assert [float(tensor[0, 0]) for tensor in first] == [0, 1, 0, 3]
    again = FeatureCache(tmp_path / "cache", "things", "maker").get(["c", "d", "b"], make)
    assert make.asked == [0, 1, 3, 1]
    assert [tensor.shape for tensor in again] == [(2, 3), (2, 3), (2, 3)]
    assert float(again[0][0, 0]) == 3


def test_other_makers_and_kinds_never_meet(tmp_path: Path) -> None:
    make = Counter()
    for kind, maker in (("things", "one"), ("things", "two"), ("others", "one")):
        FeatureCache(tmp_path, kind, maker).get(["a"], make)
    assert len(make.asked) == 3


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    make = Counter()
    cache = FeatureCache(tmp_path, "things", "maker")
    cache.get(["a", "b"], make)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert [float(tensor[0, 0]) for tensor in cache.get(["a", "b"], make)] == [0, 1]
    assert make.asked == [0, 1, 0, 1]


def test_work_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rein.data.feature_cache.SHARD_ITEMS", 2)
    make = Counter()

    def failing(places: list[int]) -> list[Tensor]:
        if 4 in places:
            raise KeyboardInterrupt
        return make(places)

    cache, keys = FeatureCache(tmp_path, "things", "maker"), [f"k{n}" for n in range(6)]
    with pytest.raises(KeyboardInterrupt):
        cache.get(keys, failing, batch=1)
    assert make.asked == [0, 1, 2, 3]
    cache.get(keys, make, batch=1)
    assert make.asked == [0, 1, 2, 3, 4, 5]


def test_the_hash_of_a_network_is_of_every_weight() -> None:
    network = nn.Linear(3, 2)
    before = module_hash(network)
    assert module_hash(network) == before != module_hash(network, also="x")
    with torch.no_grad():
        network.bias[1] += 1e-6
    assert module_hash(network) != before
    assert module_hash(network.bfloat16()) != module_hash(network.float())
    assert combined_key(("a", 1)) != combined_key(("a", "1"))


def stamps(folder: Path) -> dict[str, int]:
    """The files of a cache, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_latents_are_those_of_the_pipeline_and_follow_the_pictures(parts: LoadedModel, tmp_path: Path) -> None:
    folder, cache = save_collection(tmp_path / "in"), tmp_path / "cache"
    pictures = open_pictures(folder, 48)
    first = picture_latents(pictures, parts.autoencoder, parts.spec, cache)
    for index, latents in enumerate(first):
        width, height = pictures.bucket(index)
        unit = parts.spec.autoencoder.downscale
        assert latents.shape == (4, height // unit, width // unit)
        expected = encode_picture(parts, Image.fromarray(pictures.pixels(index)))[0]
        assert torch.allclose(latents.float(), expected, atol=0.03)  # bfloat16 on the way, float16 in the file
    written = stamps(cache)
    picture_latents(pictures, parts.autoencoder, parts.spec, cache)
    assert stamps(cache) == written, "they were read, not made"
    painted(96, 48, 50).save(folder / "1.png")
    second = picture_latents(open_pictures(folder, 48), parts.autoencoder, parts.spec, cache)
    assert [torch.equal(one, two) for one, two in zip(first, second, strict=True)] == [True, False, True]
    assert len(stamps(cache)) == len(written) + 1, "the changed one alone was made"
    other = replace(parts.spec, latent_scale=2 * parts.spec.latent_scale)
    third = picture_latents(pictures, parts.autoencoder, other, cache)
    assert torch.allclose(third[0].float(), 2 * first[0].float(), rtol=0.01)


def test_text_features_are_those_of_the_towers_cut_to_a_window(parts: LoadedModel, tmp_path: Path) -> None:
    texts = ["a red apple", "", "a blue car"]
    for _made_then_read in range(2):
        found = text_features(texts, parts, tmp_path / "cache")
        for text in texts:
            expected = encode_texts([text], parts.towers, parts.tokenizers)
            assert torch.allclose(found[text].context, expected.context, atol=1e-5)
            pooled = found[text].pooled
            assert pooled is not None and expected.pooled is not None
            assert torch.allclose(pooled, expected.pooled, atol=1e-5)
    written = stamps(tmp_path / "cache")
    long = "a red apple and a blue car " * 4
    [words] = text_features([long], parts, tmp_path / "cache").values()
    whole = encode_texts([long], parts.towers, parts.tokenizers).context
    assert whole.shape[1] > 12 and torch.allclose(words.context, whole[:, :12], atol=1e-5)
    assert len(stamps(tmp_path / "cache")) == len(written) + 1
