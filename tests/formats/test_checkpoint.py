"""Model folders: what is written comes back, and every way in which a folder can be wrong is one clear line."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rein.errors import DamagedFileError, InputError, OutputError, ReinError
from rein.formats.checkpoint import LoadedModel, load_model, read_spec, save_model
from rein.formats.convert import Conversion, convert
from rein.formats.folder import build_networks, combined_hash, read_description, weight_files
from rein.formats.inspect import inspect_folder
from rein.formats.tensors import read_tensors, write_tensors
from rein.nn.specs import SD15, to_dict
from rein.text.tokenizer import clip_tokenizer, train_vocabulary
from tests.pipeline.small import SPECS, networks, own_tokenizer, save_small

FAMILIES = tuple(SPECS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small flow model, in float16."""
    return save_small(tmp_path_factory.mktemp("model"), "pocket")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def modules(model: LoadedModel) -> list[nn.Module]:
    return [model.unet, model.autoencoder, *model.towers]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stored", [torch.float16, torch.float32, torch.bfloat16])
def test_what_is_saved_comes_back(family: str, stored: torch.dtype, tmp_path: Path) -> None:
    spec = SPECS[family]
    unet, autoencoder, towers = networks(spec)
    assert save_model(tmp_path, spec, unet, autoencoder, towers, own_tokenizer(), stored) == tmp_path
    model = load_model(tmp_path)
    assert model.spec == spec == read_spec(tmp_path)
    assert len(model.towers) == len(model.tokenizers) == len(spec.towers)
    for ours, original in zip(modules(model), [unet, autoencoder, *towers], strict=True):
        state = original.state_dict()
        assert list(ours.state_dict()) == list(state)
        for name, value in ours.state_dict().items():
            assert torch.equal(value, state[name].to(stored).float()), name
        assert not ours.training and not any(parameter.requires_grad for parameter in ours.parameters())
    assert model.tokenizers[0].encode("a red apple") == own_tokenizer().encode("a red apple")


def test_the_files_are_those_of_the_documentation(saved: Path, tmp_path: Path) -> None:
    names = {path.name for path in saved.iterdir()}
    assert names == {
        "model.json", "unet.safetensors", "autoencoder.safetensors", "text_tower.safetensors", "tokenizer.json"
    }  # fmt: skip
    assert "text_tower_2.safetensors" in {path.name for path in save_small(tmp_path, "sdxl").iterdir()}
    assert read_tensors(saved / "unet.safetensors")["conv_in.weight"].dtype == torch.float16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_come_in_the_number_format_that_is_asked_for(saved: Path, dtype: torch.dtype) -> None:
    model = load_model(saved, "cpu", dtype)
    assert {parameter.dtype for module in modules(model) for parameter in module.parameters()} == {dtype}
    assert (model.device, model.dtype) == (torch.device("cpu"), dtype)


def test_loaded_weights_are_apart_from_the_file(folder: Path) -> None:
    save_small(folder, "pocket", torch.float32)
    model = load_model(folder)
    before = model.unet.conv_in.weight.clone()
    with (folder / "unet.safetensors").open("r+b") as handle:
        size = handle.seek(0, 2)
        handle.seek(0)
        handle.write(bytes(size))
    assert torch.equal(model.unet.conv_in.weight, before)


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_small(tmp_path, "pocket")
    for path in saved.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_loading_and_saving_leave_the_global_generator_alone(saved: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    model = load_model(saved)
    save_model(tmp_path, model.spec, model.unet, model.autoencoder, model.towers, model.tokenizers[0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_hash_stands_for_the_weight_files(saved: Path, tmp_path: Path) -> None:
    digests = {name: hashlib.sha256((saved / name).read_bytes()).hexdigest() for name in weight_files(read_spec(saved))}
    assert load_model(saved).weights_hash == combined_hash(digests) == read_description(saved).weights_hash
    assert load_model(save_small(tmp_path, "pocket", seed=1)).weights_hash != load_model(saved).weights_hash


def test_a_hash_that_is_not_recorded_is_computed(folder: Path, saved: Path) -> None:
    change_json(folder, lambda content: content.pop("files"))
    assert read_description(folder).weights_hash == ""
    assert load_model(folder).weights_hash == load_model(saved).weights_hash


def test_a_flipped_bit_is_found_where_all_is_read_and_does_not_hinder_drawing(folder: Path, tmp_path: Path) -> None:
    path = folder / "unet.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    load_model(folder)
    assert inspect_folder(folder, hashed=False).problems == ()
    assert inspect_folder(folder).problems == ("unet.safetensors: not what was saved: its SHA-256 is another",)
    with pytest.raises(DamagedFileError, match="unet.safetensors: it is not the file that was saved"):
        convert(folder, tmp_path / "other", Conversion("rein"))
    assert not (tmp_path / "other").exists()


def test_a_model_with_clips_vocabulary_needs_no_tokenizer_file(tmp_path: Path) -> None:
    tower = replace(SPECS["sd1"].towers[0], vocabulary_size=49408, end_token=49407)
    spec = replace(SPECS["sd1"], towers=(tower,), vocabulary="clip")
    save_model(tmp_path, spec, *networks(spec))
    assert not (tmp_path / "tokenizer.json").exists()
    assert load_model(tmp_path).tokenizers == (clip_tokenizer(),)


def change_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "model.json").read_text())
    change(content)
    (folder / "model.json").write_text(json.dumps(content))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Rewrite the U-Net's file, its size no longer recorded."""
    path = folder / "unet.safetensors"
    tensors = {name: tensor.clone() for name, tensor in read_tensors(path).items()}
    change(tensors)
    write_tensors(path, tensors)
    change_json(folder, lambda content: content["files"].pop("unet.safetensors"))


def drop(*names: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in names:
            del tensors[name]

    return change


def refused(folder: Path, kind: type[ReinError] = DamagedFileError) -> str:
    with pytest.raises(kind) as caught:
        load_model(folder)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda content: content.update(format="other"), 'it is not a "rein-model" description'),
        (lambda content: content.update(version=2), "version 2 and this Rein reads 1: update Rein"),
        (lambda content: content.pop("version"), "version None"),
        (lambda content: content.pop("model"), "model.name is missing"),
        (lambda content: content.update(model=[1]), "model must be an object, not list"),
        (lambda content: content["model"].pop("name"), "model.name is missing"),
        (lambda content: content["model"].update(colour="red"), "model.colour is unknown"),
        (lambda content: content["model"]["unet"].update(chanels=[8]), "did you mean 'channels'"),
        (lambda content: content["model"]["unet"].update(channels=[8, 8]), "model.unet.heads has 3 numbers"),
        (lambda content: content["model"]["unet"].update(channels="8"), "model.unet.channels is '8'"),
        (lambda content: content["model"]["unet"].update(in_channels=0), "in_channels is 0"),
        (lambda content: content["model"]["unet"].update(in_channels=True), "model.unet.in_channels is True"),
        (lambda content: content["model"]["unet"].update(context_width=2**40), "at most 1048576 is read"),
        (lambda content: content["model"]["unet"].update(middle_depth=10**6), "at most 1000 is read"),
        (lambda content: content["model"]["unet"].update(channels=[8] * 100), "has 100 entries; at most 64 are read"),
        (lambda content: content["model"]["unet"].update(norm_groups=3), "norm_groups is 3"),
        (lambda content: content["model"]["towers"][0].update(layers=10**9), "at most 1000 is read"),
        (lambda content: content["model"]["towers"][0].update(activation="relu"), "activation is 'relu'"),
        (lambda content: content["model"].update(towers=[]), "model.towers is empty"),
        (lambda content: content["model"].update(prediction="noise"), "model.prediction is 'noise'"),
        (lambda content: content["model"].update(latent_scale="1"), "model.latent_scale is '1'"),
        (lambda content: content["model"].update(latent_scale=10**400), "model.latent_scale is 1000"),
        (lambda content: content.update(files=[1]), "files is not an object"),
        (lambda content: content.update(files={"a": 1}), "files.a does not give bytes and sha256"),
        (lambda content: content["model"]["unet"].update(context_width=20), "has the shape (8, 16), not (8, 20)"),
        (lambda content: content["model"]["unet"].update(blocks_per_level=2), "it lacks tensors, "),
        (lambda content: content["model"]["towers"][0].update(end_token=10), "does not belong to a text tower of 550"),
        (lambda content: content["model"].update(vocabulary="clip"), "CLIP's vocabulary (49408 tokens, end 49407)"),
    ],
)
def test_a_wrong_description_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    change_json(folder, change)
    assert expected in refused(folder)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "it is not valid JSON"),
        (b"{", "it is not valid JSON"),
        (b"[" * 100_000, "it is not valid JSON"),
        (b'{"format": NaN}', "NaN is not a number"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b"null", 'it is not a "rein-model" description'),
    ],
)
def test_a_description_that_is_not_json_is_refused(folder: Path, content: bytes, expected: str) -> None:
    (folder / "model.json").write_bytes(content)
    assert expected in refused(folder)


@pytest.mark.parametrize(
    "name", ["unet.safetensors", "autoencoder.safetensors", "text_tower.safetensors", "tokenizer.json"]
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refused(folder) == f"{folder} lacks {name}: fetch or save the model again"


def test_what_is_no_model_folder_is_refused(tmp_path: Path) -> None:
    assert (
        refused(tmp_path, InputError)
        == f"{tmp_path} has no model.json, so it is no model folder: give the folder of a model"
    )
    assert "is not a folder" in refused(tmp_path / "missing", InputError)
    (tmp_path / "file").write_bytes(b"")
    assert "file: it is empty" in refused(tmp_path / "file")
    (tmp_path / "model.json").mkdir()
    assert "cannot read" in refused(tmp_path, InputError)


def test_a_file_of_another_length_is_refused_before_it_is_read(folder: Path) -> None:
    path = folder / "unet.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    assert refused(folder) == f"cannot read {path}: it has {size - 100} bytes, {size} when saved; fetch it again"


def test_a_truncated_file_without_a_record_is_refused_too(folder: Path) -> None:
    change_json(folder, lambda content: content.pop("files"))
    path = folder / "unet.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "it is cut short" in refused(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (drop("conv_in.weight"), "it lacks tensors, 1 of them: 'conv_in.weight'"),
        (
            drop("conv_in.bias", "conv_in.weight", "conv_out.bias", "conv_out.weight"),
            "it lacks tensors, 4 of them: 'conv_in.bias', 'conv_in.weight', 'conv_out.bias', ...",
        ),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "it has foreign tensors, 1 of them: 'more'"),
        (
            lambda tensors: tensors.update({"conv_in.bias": torch.zeros(9)}),
            "tensor 'conv_in.bias' has the shape (9,), not (8,) as model.json has it",
        ),
        (lambda tensors: tensors.update({"conv_in.bias": torch.zeros(8, dtype=torch.int64)}), "holds torch.int64"),
    ],
)
def test_a_weight_file_of_another_network_is_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], expected: str
) -> None:
    change_tensors(folder, change)
    assert expected in refused(folder)


def test_a_pickle_under_a_weight_files_name_is_not_run(folder: Path, tmp_path: Path) -> None:
    change_json(folder, lambda content: content.pop("files"))
    proof = tmp_path / "proof"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (proof,))

    torch.save(Payload(), folder / "unet.safetensors")
    assert "which may hold code to run" in refused(folder)
    assert not proof.exists()


def test_parts_that_do_not_belong_together_are_not_saved(tmp_path: Path) -> None:
    spec = SPECS["sd1"]
    unet, autoencoder, towers = networks(spec)
    tokenizer = own_tokenizer()
    with pytest.raises(InputError, match="a tokenizer goes with 'own' alone, but none is given"):
        save_model(tmp_path / "a", spec, unet, autoencoder, towers)
    with pytest.raises(InputError, match="a tokenizer goes with 'own' alone, but one is given"):
        save_model(tmp_path / "a", replace(spec, vocabulary="clip"), unet, autoencoder, towers, tokenizer)
    with pytest.raises(InputError, match="has 1 text towers, not 2"):
        save_model(tmp_path / "a", spec, unet, autoencoder, towers * 2, tokenizer)
    with pytest.raises(InputError, match="does not belong to the model's specification"):
        save_model(tmp_path / "a", spec, networks(SPECS["sdxl"])[0], autoencoder, towers, tokenizer)
    deeper = replace(spec, towers=(replace(spec.towers[0], layers=3),))
    with pytest.raises(InputError, match="of the model's specification is missing"):
        save_model(tmp_path / "a", deeper, unet, autoencoder, towers, tokenizer)
    assert not (tmp_path / "a").exists()


def test_a_weight_that_half_precision_cannot_hold_is_not_saved(tmp_path: Path) -> None:
    spec = SPECS["sd1"]
    unet, autoencoder, towers = networks(spec)
    with torch.no_grad():
        unet.conv_in.weight[0] = 70000.0
    with pytest.raises(InputError, match="weight 'conv_in.weight' is not finite in torch.float16"):
        save_model(tmp_path, spec, unet, autoencoder, towers, own_tokenizer())
    save_model(tmp_path, spec, unet, autoencoder, towers, own_tokenizer(), torch.bfloat16)


def test_a_tokenizer_of_another_model_is_refused_when_loading(folder: Path) -> None:
    train_vocabulary(["other words altogether"] * 2, 530).save(folder)
    assert "tokenizer.json (528 tokens, end 527) does not belong to a text tower of 550 tokens" in refused(folder)


def test_a_place_that_cannot_be_written_is_one_line_and_no_mixture_is_left(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        save_small(tmp_path / "file", "pocket")
    (folder / "text_tower.safetensors").unlink()
    (folder / "text_tower.safetensors").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        save_small(folder, "pocket", seed=1)
    assert "has no model.json" in refused(folder, InputError)


def test_a_full_size_description_is_built_without_memory() -> None:
    built = build_networks(SD15, Path("model.json"))
    assert {parameter.device.type for module in built.values() for parameter in module.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in built["unet.safetensors"].parameters()) == 859_520_964


def test_the_description_is_readable_json(saved: Path) -> None:
    content = json.loads((saved / "model.json").read_text())
    assert content["model"] == to_dict(SPECS["pocket"])
    assert content["files"]["unet.safetensors"]["bytes"] == (saved / "unet.safetensors").stat().st_size
