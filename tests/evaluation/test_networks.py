"""Feature networks from files in their published layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rein.errors import DamagedFileError, InputError
from rein.evaluation.features import features_of, judge_features, judge_network
from rein.evaluation.networks import load_features, load_lpips
from rein.images import pil_to_tensor
from rein.nn.inception import inception_input
from tests.nn.test_inception import Reference, seeded_state
from tests.nn.test_lpips import LEARNED, backbone


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(2)]


@torch.no_grad()
def test_inception_is_read_from_a_file_in_the_published_layout(tmp_path: Path, pictures: list[Image.Image]) -> None:
    state = seeded_state()
    stored = dict(state)
    for name in state:
        if name.endswith("running_var"):  # the published file counts batches too
            stored[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(stored, path)
    network = load_features(str(path))
    found = features_of(network, pictures[:1])
    features, logits = Reference(state)(inception_input(pil_to_tensor(pictures[0])[None]))
    np.testing.assert_allclose(found.vectors, features.numpy(), rtol=1e-4, atol=1e-4)
    assert found.chances is not None
    np.testing.assert_allclose(found.chances, logits.softmax(dim=1).numpy(), rtol=1e-2, atol=1e-6)
    assert network.width == 2048 and network.label.startswith("inception 2015-12-05, bilinear 299 px (")
    path.unlink()


def test_an_inception_that_is_cut_or_another_is_refused(tmp_path: Path) -> None:
    names = {name: torch.zeros(value.shape[:0] or (1,)) for name, value in seeded_state().items()}
    torch.save(names, tmp_path / "shapes.pth")
    with pytest.raises(DamagedFileError, match="of another shape are 4"):
        load_features(str(tmp_path / "shapes.pth"))
    del names["fc.bias"]
    torch.save(names, tmp_path / "cut.pth")
    with pytest.raises(DamagedFileError, match="it lacks 1 tensor: 'fc.bias'"):
        load_features(str(tmp_path / "cut.pth"))


def test_what_is_no_feature_network_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="holds no feature network: give 'judge'"):
        load_features(str(tmp_path / "other.pth"))
    with pytest.raises(InputError, match="nothing.pth"):
        load_features(str(tmp_path / "nothing.pth"))


def test_the_judge_is_a_feature_network() -> None:
    network = load_features("judge")
    assert network.label == f"judge, 64 px ({network.sha256[:10]})" and len(network.sha256) == 64
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(3)]
    found = features_of(judge_network(), pictures)
    np.testing.assert_array_equal(found.vectors, judge_features(pictures))
    assert found.vectors.shape == (3, network.width) and found.vectors.min() >= 0
    assert found.chances is not None
    np.testing.assert_allclose(found.chances.sum(axis=1), 1, rtol=1e-5)
    # A picture has the same features alone and among others, to rounding.
    np.testing.assert_allclose(judge_features(pictures[1:2])[0], found.vectors[1], rtol=1e-4, atol=1e-5)


def test_lpips_is_read_from_its_two_files_in_any_order(tmp_path: Path, pictures: list[Image.Image]) -> None:
    body = backbone("alexnet")
    state = {f"features.{name}": value for name, value in body.state_dict().items()}
    state |= {"classifier.1.weight": torch.zeros(3, 3)}
    torch.save(state, tmp_path / "alexnet.pth")
    files = [LEARNED / "alex.pth", tmp_path / "alexnet.pth"]
    first, second = load_lpips(files), load_lpips(files[::-1])
    pixels = [pil_to_tensor(picture.resize((64, 64)))[None] for picture in pictures]
    assert float(first(*pixels)) == float(second(*pixels)) > 0
    assert first.name == "LPIPS, alexnet" and len(first.sha256) == 64
    with pytest.raises(InputError, match="a picture is 40 x 31: LPIPS needs 32 pixels a side"):
        first(pixels[0][:, :, :31, :40], pixels[1][:, :, :31, :40])
    assert first(*(x[:, :, :32, :32] for x in pixels)) > 0
    with pytest.raises(InputError, match="LPIPS needs two files, and 1 are given"):
        load_lpips(files[:1])
    with pytest.raises(InputError, match="no LPIPS in"):
        load_lpips([files[0], files[0]])
    with pytest.raises(DamagedFileError, match="of another shape are 4 tensors"):
        load_lpips([LEARNED / "vgg.pth", tmp_path / "alexnet.pth"])
