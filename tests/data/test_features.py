"""Latents and text features on disk: made once, made again when something changed, never stale."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from rein.data.feature_cache import FeatureCache, combined_key, kept_tensors, module_hash
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
    told: list[tuple[int, int]] = []
    cache = FeatureCache(tmp_path / "cache", "things", "maker")
    first = cache.get(["a", "b", "a", "c"], make, batch=2, told=lambda done, all_: told.append((done, all_)))
    assert make.asked == [0, 1, 3]
    assert told == [(2, 3), (3, 3)]
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
    FeatureCache(tmp_path, "things", "two").drop_stale()
    assert sorted(path.name.split("-")[:2] for path in tmp_path.iterdir()) == [["others", "one"], ["things", "two"]]


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


def test_a_file_with_another_key_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    made = [kept_tensors(path, key, lambda key=key: {"x": torch.tensor([len(key)])}) for key in ("a", "a", "bbb")]  # type: ignore[misc]
    assert [int(tensors["x"]) for tensors in made] == [1, 1, 3]
    path.write_bytes(b"nonsense")
    assert int(kept_tensors(path, "bbb", lambda: {"x": torch.tensor([9])})["x"]) == 9


def test_the_hash_of_a_network_is_of_every_weight() -> None:
    network = nn.Linear(3, 2)
    before = module_hash(network)
    assert module_hash(network) == before != module_hash(network, also="x")
    with torch.no_grad():
        network.bias[1] += 1e-6
    assert module_hash(network) != before
    assert module_hash(network.bfloat16()) != module_hash(network.float())
    assert combined_key(("a", 1)) != combined_key(("a", "1"))


def test_latents_are_those_of_the_pipeline_and_follow_the_pictures(parts: LoadedModel, tmp_path: Path) -> None:
    folder = save_collection(tmp_path / "in")
    pictures = open_pictures(folder, 48)
    calls: list[tuple[int, int]] = []
    first = picture_latents(
        pictures, parts, tmp_path / "cache", told=lambda done, missing: calls.append((done, missing))
    )
    for index, latents in enumerate(first):
        width, height = pictures.bucket(index)
        unit = parts.spec.autoencoder.downscale
        assert latents.shape == (4, height // unit, width // unit)

        expected = encode_picture(parts, Image.fromarray(pictures.pixels(index)))[0]
        assert torch.allclose(latents, expected, atol=1e-5)
    assert calls == [(3, 3)]
    painted(96, 48, 50).save(folder / "1.png")
    changed = open_pictures(folder, 48)
    second = picture_latents(
        changed, parts, tmp_path / "cache", told=lambda done, missing: calls.append((done, missing))
    )
    assert calls == [(3, 3), (1, 1)]
    assert [torch.equal(one, two) for one, two in zip(first, second, strict=True)] == [True, False, True]


def test_text_features_are_those_of_the_towers(parts: LoadedModel, tmp_path: Path) -> None:
    texts = ["a red apple", "", "a blue car", "a red apple"]
    for _ in range(2):
        found = text_features(texts, parts, tmp_path / "cache")
        for text, words in zip(texts, found, strict=True):
            expected = encode_texts([text], parts.towers, parts.tokenizers)
            assert torch.equal(words.context, expected.context)
            assert words.pooled is not None and expected.pooled is not None
            assert torch.equal(words.pooled, expected.pooled)
    assert text_features(["a car"], parts, tmp_path / "cache", windows=2)[0].context.shape[1] == 2 * 12
