"""`rein models convert` and `rein models merge`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rein.formats.adapters_names import targets_of
from rein.formats.adapters_save import save_adapter
from rein.formats.merge import MERGE_KEY
from rein.formats.weights import open_weights
from tests.cli.conftest import Run
from tests.formats.families import FAMILIES, single_file, state
from tests.formats.random_adapters import KINDS, random_changes


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [single_file(tmp_path / f"{seed}.safetensors", FAMILIES["sd1"], seed) for seed in range(2)]


def test_convert_there_and_back(rein: Run, tmp_path: Path, paths: list[Path]) -> None:
    done = rein("models", "convert", str(paths[0]), str(tmp_path / "folder"))
    assert (done.code, done.err, done.last) == (0, "", tmp_path / "folder")
    assert (tmp_path / "folder/model_index.json").is_file()
    done = rein("models", "convert", str(done.last), str(tmp_path / "own"), "--to", "rein", "--dtype", "bf16", "--json")
    told = json.loads(done.out)
    assert told == {"path": str(tmp_path / "own"), "form": "rein", "family": told["family"], "notes": []}
    assert open_weights(tmp_path / "own/unet.safetensors").dtype("conv_in.weight") == torch.bfloat16


def test_convert_a_checkpoint(rein: Run, tmp_path: Path) -> None:
    torch.save({"state_dict": state(FAMILIES["sd1"]), "x": [torch.ones(1)]}, tmp_path / "a.ckpt")
    done = rein("models", "convert", str(tmp_path / "a.ckpt"), str(tmp_path / "a.safetensors"), "--prediction", "v")
    assert done.code == 0 and done.last == tmp_path / "a.safetensors"
    assert "left out: 1 tensors beside the model" in done.out
    assert open_weights(done.last).metadata["modelspec.prediction_type"] == "v"


def test_merge(rein: Run, tmp_path: Path, paths: list[Path]) -> None:
    targets, out = targets_of(FAMILIES["sd1"]), tmp_path / "out.safetensors"
    save_adapter(tmp_path / "style.safetensors", random_changes(targets, KINDS["lora"]), targets)
    names = [str(path) for path in paths]
    choices = ["--weight", "0.25", "--blocks", "IN01=1", "--lora", f"{tmp_path}/style.safetensors:0.5:0.1"]
    done = rein("models", "merge", *names, "-o", str(out), *choices, "--vae", names[1], "--dtype", "fp32")
    assert (done.code, done.err, done.last) == (0, "", out)
    told = json.loads(open_weights(out).metadata[MERGE_KEY])
    assert told["method"] == "weighted sum" and told["weight"] == 0.25 and told["blocks"] == {"IN01": 1.0}
    assert [model["name"] for model in told["models"]] == ["0.safetensors", "1.safetensors"]
    assert told["adapters"][0]["weight"] == 0.5 and told["adapters"][0]["text_weight"] == 0.1
    assert told["autoencoder"]["name"] == "1.safetensors"


def test_wrong_calls_are_told_in_one_line_and_write_nothing(rein: Run, tmp_path: Path, paths: list[Path]) -> None:
    one, out = str(paths[0]), str(tmp_path / "out.safetensors")
    before = sorted(tmp_path.rglob("*"))
    for call, message in [
        (("convert", one, out, "--dtype", "fp61"), "--dtype is 'fp61': did you mean 'fp16'"),
        (("convert", one, out, "--to", "difusers"), "did you mean 'diffusers'"),
        (("convert", one, out, "--prediction", "w"), "--prediction is 'w'"),
        (("convert", one, str(tmp_path / "a.ckpt")), "would be a PyTorch file, which can hold code"),
        (("convert", str(tmp_path / "none"), out), "is not a folder"),
        (("merge", one, "-o", out), "one model alone is nothing to merge"),
        (("merge", one, one, "-o", out, "--blocks", "1,2"), "blocks has 2 numbers"),
        (("merge", one, one, "-o", out, "--weight", "a"), "'a' is not a number"),
    ]:
        done = rein("models", *call)
        assert done.code == 2 and message in done.err and done.out == "", call
        assert len(done.err.strip().splitlines()) == 1 or "Usage" in done.err
    assert sorted(tmp_path.rglob("*")) == before
