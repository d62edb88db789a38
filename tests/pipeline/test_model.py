"""Finding and loading models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rein
from rein.errors import DamagedFileError, InputError, ReinError
from rein.formats import embedded as under_test
from rein.pipeline.model import Model, load, model_folder
from tests.formats.small_files import single_file

SOURCE = Path(rein.__file__).parents[1]


def test_a_folder_is_loaded_and_described(tiny_model_folder: Path) -> None:
    model = rein.load(tiny_model_folder)
    assert isinstance(model, Model)
    assert (model.name, model.spec.native_size) == ("small-pocket", 32)
    assert len(model.weights_hash) == 64
    assert load(str(tiny_model_folder), dtype="float16").dtype == torch.float16


def test_device_and_number_format_are_chosen(tiny_model_folder: Path) -> None:
    model = load(tiny_model_folder, "cpu", "bf16")
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.bfloat16)
    assert load(tiny_model_folder, "cpu").dtype == torch.float32
    for device, dtype in (("tpu", None), (None, "float8")):
        with pytest.raises(InputError, match="unknown"):
            load(tiny_model_folder, device, dtype)


def test_an_unknown_name_gives_the_nearest(tmp_path: Path) -> None:
    told = "unknown model 'poket': did you mean 'pocket'\\? Known: pocket, pocket-depth, pocket-fast; or give a mod"
    with pytest.raises(InputError, match=told):
        load("poket")
    with pytest.raises(InputError, match="unknown model"):
        load(tmp_path / "missing")


def test_a_single_file_is_read_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(DamagedFileError, match="it is empty"):
        load(tmp_path / "model.safetensors")
    model = load(single_file(tmp_path), "cpu")
    assert (model.name, model.parts.source) == ("sd15", tmp_path / "sd15.safetensors")


def test_choices_in_loading_are_checked(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown prediction 'velocity': known: epsilon, flow, v, x0"):
        load(tiny_model_folder, prediction="velocity")
    with pytest.raises(InputError, match="there is no file .*none: give a VAE, a TAESD or a whole model"):
        load(tiny_model_folder, vae=tmp_path / "none")
    assert load(tiny_model_folder, "cpu", prediction="v").spec.prediction == "v"


def test_the_embedded_model_is_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def package(name: str) -> Path:
        assert name == "rein"
        return tmp_path

    monkeypatch.setattr(under_test, "files", package)
    for name in (None, "pocket"):
        with pytest.raises(ReinError, match="this copy of Rein has no embedded model .*install Rein again") as caught:
            load(name)
        assert not isinstance(caught.value, InputError)
    (tmp_path / "assets" / "pocket").mkdir(parents=True)
    assert model_folder(None) == model_folder("pocket") == tmp_path / "assets" / "pocket"


def test_words_to_picture_imports_no_compiler_and_no_peer(tiny_model_folder: Path, tmp_path: Path) -> None:
    """PyTorch's compiler takes over a second to import, and some calls on meta tensors import it."""
    code = f"""
import sys, rein
rein.load({str(tiny_model_folder)!r}, "cpu").generate("an apple", steps=1, seed=1).save({str(tmp_path)!r})
heavy = {{"torch._dynamo", "torch._inductor", "sympy", "transformers", "diffusers", "accelerate", "safetensors"}}
print(sorted(heavy & set(sys.modules)))
"""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert [path.name for path in tmp_path.iterdir()] == ["an-apple-1.png"]
