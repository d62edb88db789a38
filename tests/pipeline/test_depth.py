"""Depth estimated by models of the transformers library, made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rein.errors import DamagedFileError, InputError
from rein.images import pil_to_tensor
from rein.pipeline.depth import estimate_depth
from rein.pipeline.inputs import prepare_inputs
from rein.pipeline.request import Request
from tests.pipeline.conftest import PeerLoader

PREPROCESSOR = '{"size": {"height": 64, "width": 64}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DPT with random weights."""
    from transformers import DPTConfig, DPTForDepthEstimation

    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    path = tmp_path_factory.mktemp("depth") / "dpt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        DPTForDepthEstimation(config).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(PREPROCESSOR)
    return path


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(4).integers(0, 256, (48, 80, 3), dtype=np.uint8))


def test_the_estimate_is_the_model_s(folder: Path, picture: Image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers import DPTForDepthEstimation

    seen = (pil_to_tensor(picture.resize((64, 64), Image.Resampling.BICUBIC)) + 1) / 2
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    seen = (seen - mean[:, None, None]) / deviation[:, None, None]
    with torch.no_grad():
        found = DPTForDepthEstimation.from_pretrained(folder).eval()(seen[None]).predicted_depth
        expected = torch.nn.functional.interpolate(found[None], (48, 80), mode="bicubic")[0, 0]
    capfd.readouterr()
    depth = estimate_depth(str(folder), picture)
    assert capfd.readouterr() == ("", ""), "the library's progress bars are off"
    assert depth.shape == (48, 80) and depth.std() > 0
    assert np.abs(depth - expected.numpy()).max() < 1e-5 * np.abs(expected.numpy()).max()


def test_a_depth_model_draws_with_the_estimate(folder: Path, picture: Image.Image, peers_of: PeerLoader) -> None:
    model = peers_of("depth").model
    options = {"prompt": "a", "init_image": picture, "depth_model": folder, "width": 64, "height": 64, "seed": 1}
    request = Request.model_validate(options).resolved(model.spec)
    extra = prepare_inputs(model.parts, request).extra
    assert extra is not None and extra.shape[:2] == (1, 1)
    assert float(extra.min()) == -1 and float(extra.max()) == 1
    drawn = model.generate(Request.model_validate({**options, "steps": 2})).images[0]
    flat = model.generate(Request.model_validate({**options, "steps": 2, "depth_model": None})).images[0]
    assert drawn.tobytes() != flat.tobytes()


def test_folders_that_are_no_depth_models(folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it must be a folder with config.json"):
        estimate_depth(str(tmp_path), picture)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(DamagedFileError, match="cannot be read"):
        estimate_depth(str(tmp_path), picture)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(DamagedFileError, match="cannot be read"):
        estimate_depth(str(tmp_path), picture)
