"""Diffusers folders: variants, shards, PyTorch files, old and new names, and what is missing or foreign in them.

That the folders which diffusers itself writes are read is tested in tests/pipeline/test_families.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rein.errors import DamagedFileError, InputError, ReinError
from rein.formats.checkpoint import LoadedModel, load_model
from rein.formats.diffusers_folder import read_diffusers_spec
from rein.formats.keys import Place, key_map
from rein.formats.saving import ModuleSource, write_diffusers
from rein.formats.single import LoadOptions
from rein.formats.tensors import read_tensors, write_tensors
from tests.formats.small_files import small
from tests.formats.test_single import same

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shrunken SD1.5, as Rein writes it."""
    spec, networks = small("sd15")
    folder = tmp_path_factory.mktemp("folder")
    write_diffusers(folder, spec, ModuleSource(networks))
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(written, tmp_path / "model"))


def replace_weights(path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    write_tensors(path, change({name: value.clone() for name, value in read_tensors(path).items()}))


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def loaded(folder: Path, **options: Any) -> LoadedModel:
    return load_model(folder, options=LoadOptions(**options))


@pytest.mark.parametrize("name", ["sd15", "sd21", "sd2-depth", "sdxl", "sdxl-refiner"])
def test_a_folder_tells_what_the_model_is(tmp_path: Path, name: str) -> None:
    spec, networks = small(name)
    write_diffusers(tmp_path, spec, ModuleSource(networks))
    read = read_diffusers_spec(tmp_path)
    told = ("unet", "autoencoder", "prediction", "schedule", "latent_scale", "native_size", "zero_empty_negative")
    assert {field: getattr(read, field) for field in told} == {field: getattr(spec, field) for field in told}
    # A folder does not tell of layers that were left out before it was written; only full-size towers are known.
    assert [(t.width, t.layers, t.pad_token, t.context_layer, t.projection_width) for t in read.towers] == [
        (t.width, t.layers, t.pad_token, t.context_layer, t.projection_width) for t in spec.towers
    ]
    assert same(load_model(tmp_path), name)


def test_variants(folder: Path) -> None:
    for path in [*folder.rglob("*.safetensors")]:
        tensors = {name: value.clone() for name, value in read_tensors(path).items()}
        half = path.with_name(path.name.replace(".safetensors", ".fp16.safetensors"))
        write_tensors(half, {name: value.half() for name, value in tensors.items()})
    assert same(loaded(folder), "sd15")
    assert same(loaded(folder, variant="fp16"), "sd15", torch.float16)
    with pytest.raises(InputError, match="has no weights of variant 'bf16'"):
        loaded(folder, variant="bf16")
    (folder / "vae" / WEIGHTS.replace(".safe", ".fp16.safe")).unlink()
    model = loaded(folder, variant="fp16")  # what lacks the variant comes plain
    assert torch.equal(
        model.autoencoder.quant_conv.weight, small("sd15")[1]["autoencoder"].get_parameter("quant_conv.weight")
    )
    for path in [*folder.rglob("*.fp16.safetensors")]:
        path.with_name(path.name.replace(".fp16", "")).unlink()
    assert loaded(folder).dtype == torch.float32  # and a lone variant is taken unasked


def shard(folder: Path, index: str = f"{WEIGHTS}.index.json") -> None:
    """Splits the U-Net's file into two, with an index."""
    path = folder / "unet" / WEIGHTS
    tensors = {name: value.clone() for name, value in read_tensors(path).items()}
    names = sorted(tensors)
    table: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        write_tensors(folder / "unet" / file, {name: tensors[name] for name in part})
        table |= dict.fromkeys(part, file)
    path.unlink()
    (folder / "unet" / index).write_text(json.dumps({"metadata": {}, "weight_map": table}))


@pytest.mark.parametrize("index", [f"{WEIGHTS}.index.json", f"{WEIGHTS}.index.fp16.json"])
def test_shards(folder: Path, index: str) -> None:
    shard(folder, index)
    assert same(loaded(folder), "sd15")
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DamagedFileError, match="its shard diffusion_pytorch_model-00002-of-00002.safetensors is miss"):
        loaded(folder)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "..", "", "a/b", "a\\b", 3, "x\n"])
def test_a_shard_must_lie_in_the_same_folder(folder: Path, name: Any) -> None:
    (folder / "unet" / WEIGHTS).rename(folder / "secret.safetensors")
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"conv_in.weight": name}}))
    with pytest.raises(DamagedFileError, match="does not name files of the same folder|is missing"):
        loaded(folder)


def test_pytorch_files(folder: Path) -> None:
    for path in [*folder.rglob("*.safetensors")]:
        tensors = {name: value.clone() for name, value in read_tensors(path).items()}
        stem = "pytorch_model" if path.stem == "model" else path.stem
        torch.save(tensors, path.with_name(f"{stem}.bin"))
        path.unlink()
    assert same(loaded(folder), "sd15")


def test_old_names_of_an_autoencoder_and_new_ones_of_a_tower(folder: Path) -> None:
    spec, networks = small("sd15")
    keys = key_map(spec, {"autoencoder": Place("", "old attention")})
    old = dict(keys.to_original("autoencoder", networks["autoencoder"].state_dict()))
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in old
    write_tensors(folder / "vae" / WEIGHTS, old)
    replace_weights(
        folder / "text_encoder" / "model.safetensors",
        lambda tensors: {name.removeprefix("text_model."): value for name, value in tensors.items()},
    )
    assert same(loaded(folder), "sd15")


def test_another_autoencoder_and_another_prediction_may_be_chosen(folder: Path, written: Path) -> None:
    (folder / "vae" / WEIGHTS).unlink()
    model = loaded(folder, autoencoder=written / "vae" / WEIGHTS, prediction="v")
    assert same(model, "sd15") and model.spec.prediction == "v"


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def configure(name: str, **changes: Any) -> Callable[[Path], object]:
    return lambda folder: change_json(folder / name, **changes)


REFUSALS: dict[str, tuple[Callable[[Path], object], type[ReinError], str]] = {
    "no weights": (remove(f"unet/{WEIGHTS}"), InputError, "unet has no weights"),
    "no configuration": (remove("vae/config.json"), InputError, "lacks vae/config.json: fetch the model again"),
    "no schedule": (remove("scheduler/scheduler_config.json"), InputError, "cannot read .*scheduler_config.json"),
    "no tower": (configure("model_index.json", text_encoder=[None, None]), InputError, "has no text_encoder"),
    "not JSON": (
        lambda folder: (folder / "unet" / "config.json").write_text("{"), DamagedFileError, "it is not valid JSON",
    ),
    "not an object": (
        lambda folder: (folder / "unet" / "config.json").write_text("[1]"), DamagedFileError, "not a JSON object",
    ),
    "foreign blocks": (
        configure("unet/config.json", down_block_types=["KDownBlock2D"] * 4), InputError, "of type 'KDownBlock2D'",
    ),
    "foreign option": (
        configure("unet/config.json", dual_cross_attention=True), InputError, "has dual_cross_attention True, which",
    ),
    "wrong type": (configure("unet/config.json", block_out_channels="3"), InputError, "must be a list of whole"),
    "huge": (configure("unet/config.json", cross_attention_dim=10**9), InputError, "must be a whole number from 0 to"),
    "impossible": (configure("unet/config.json", norm_num_groups=7), InputError, "norm_groups is 7, but must divide"),
    "prediction": (
        configure("scheduler/scheduler_config.json", prediction_type="flow"), InputError, "has prediction_type 'flow'",
    ),
    "activation": (configure("text_encoder/config.json", hidden_act="relu"), InputError, "has hidden_act 'relu'"),
    "another network": (
        configure("unet/config.json", cross_attention_dim=24), DamagedFileError, "of another shape are 32 tensors",
    ),
    "vocabulary": (
        configure("text_encoder/config.json", vocab_size=100), DamagedFileError, "of another shape are 1 tensor",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_wrong_is_refused_in_one_line(folder: Path, name: str) -> None:
    damage, kind, message = REFUSALS[name]
    damage(folder)
    with pytest.raises(kind, match=message) as caught:
        loaded(folder)
    assert type(caught.value) is kind and "\n" not in str(caught.value)


def test_a_lacking_tensor_is_named_with_its_folder(folder: Path) -> None:
    def cut(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in tensors.items() if name != "conv_in.bias"}

    replace_weights(folder / "unet" / WEIGHTS, cut)
    with pytest.raises(DamagedFileError, match="unet: it lacks 1 tensor: 'conv_in.bias'"):
        loaded(folder)


def test_the_hash_stands_for_all_files(folder: Path, written: Path) -> None:
    first = loaded(written).weights_hash
    assert len(first) == 64 and loaded(folder).weights_hash == first
    replace_weights(folder / "unet" / WEIGHTS, lambda tensors: {name: value + 1 for name, value in tensors.items()})
    assert loaded(folder).weights_hash != first
