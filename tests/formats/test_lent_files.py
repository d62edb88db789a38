"""Folders that hold only what differs from an embedded model."""

import json
from pathlib import Path

import pytest
import torch

from rein.errors import DamagedFileError
from rein.formats import embedded
from rein.formats.checkpoint import load_model, save_model
from rein.formats.folder import leave_out, read_description
from rein.formats.inspect import inspect_folder
from rein.formats.sources import open_model
from rein.nn.specs import with_extra_channels
from tests.pipeline.small import SPECS, networks, own_tokenizer, save_small

TOWER, DECODER = "text_tower.safetensors", "autoencoder.safetensors"


@pytest.fixture
def lender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in the place of the embedded one."""
    monkeypatch.setattr(embedded, "files", lambda name: tmp_path)
    return save_small(tmp_path / "assets" / "pocket", "pocket")


@pytest.fixture
def form(lender: Path, tmp_path: Path) -> Path:
    """A depth form of it, whose U-Net alone is its own."""
    spec = with_extra_channels(SPECS["pocket"], "small-depth", 1)
    unet = networks(spec, seed=5)[0]
    _, autoencoder, towers = networks(SPECS["pocket"])
    folder = save_model(tmp_path / "form", spec, unet, autoencoder, towers, own_tokenizer())
    leave_out(folder, "pocket")
    return folder


def test_only_what_differs_is_in_the_folder(form: Path) -> None:
    assert sorted(path.name for path in form.iterdir()) == ["model.json", "unet.safetensors"]
    records = read_description(form).files
    assert {name: record.of for name, record in records.items()} == {
        "unet.safetensors": "",
        DECODER: "pocket",
        TOWER: "pocket",
    }


def test_it_loads_with_the_lent_files(form: Path, lender: Path) -> None:
    model, base = load_model(form), load_model(lender)
    assert model.spec.conditioning_channels == 1
    assert model.files[TOWER] == lender / TOWER and model.files["unet.safetensors"].parent == form
    for mine, theirs in ((model.autoencoder, base.autoencoder), (model.towers[0], base.towers[0])):
        assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    assert model.tokenizers[0].encode("a red apple") == base.tokenizers[0].encode("a red apple")
    assert len(model.weights_hash) == 64 and model.weights_hash != base.weights_hash
    found = inspect_folder(form)
    assert not found.problems and len(found.files) == 3
    assert open_model(form).files[DECODER] == lender / DECODER


def test_a_lender_that_changed_is_noticed(form: Path, lender: Path) -> None:
    with (lender / TOWER).open("ab") as handle:
        handle.write(b"more")
    with pytest.raises(DamagedFileError, match="bytes, .* when saved"):
        load_model(form)
    assert inspect_folder(form).problems


@pytest.mark.parametrize("name", ["../../etc", "elsewhere", "pocket/../pocket", 7, ["pocket"], None, True])
def test_only_embedded_models_lend(form: Path, name: object) -> None:
    content = json.loads((form / "model.json").read_text())
    content["files"][TOWER]["of"] = name
    (form / "model.json").write_text(json.dumps(content))
    with pytest.raises(DamagedFileError, match="only embedded models lend files: pocket, pocket-depth, pocket-fast"):
        load_model(form)


def test_a_model_without_a_lender_keeps_all_its_files(lender: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", SPECS["pocket"], *networks(SPECS["pocket"], 9), own_tokenizer())
    leave_out(other, "pocket")
    assert {TOWER, DECODER, "unet.safetensors"} <= {path.name for path in other.iterdir()}
    assert '"of"' not in (other / "model.json").read_text()
