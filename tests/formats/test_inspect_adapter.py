"""What adapters and learned words are, and for whom, told from their files alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rein.formats.adapters_names import targets_of
from rein.formats.adapters_save import save_adapter
from rein.formats.inspect_adapter import AdapterReport, families, inspect_adapter
from rein.formats.inspect_model import FileReport, inspect_single
from rein.formats.tensors import write_tensors
from rein.formats.weights import open_weights
from rein.nn.adapters import Change, Place
from rein.nn.specs import POCKET, SD15, SD21_BASE, SDXL, SDXL_REFINER, VARIANTS, ModelSpec
from tests.formats.adapter_models import kohya
from tests.formats.random_adapters import KINDS, kohya_tensors

BLOCK = "down_blocks.1.attentions.0"
WORDS: Place = ("unet", f"{BLOCK}.transformer_blocks.0.attn2.to_k")
KERNEL: Place = ("unet", "down_blocks.0.resnets.0.conv1")
TOWER: Place = ("tower", "text_model.encoder.layers.0.self_attn.q_proj")


def changes(spec: ModelSpec, kind: str, *places: Place) -> dict[Place, Change]:
    targets, generator = targets_of(spec), torch.Generator().manual_seed(1)
    return {place: KINDS[kind](generator, targets.layers[place]) for place in places}


def written(path: Path, tensors: Mapping[str, Tensor]) -> AdapterReport:
    write_tensors(path, {name: tensor.contiguous() for name, tensor in tensors.items()})
    return inspect_adapter(open_weights(path))


@pytest.mark.parametrize("dialect", ["kohya", "peft"])
@pytest.mark.parametrize("spec", [SD15, SD21_BASE, SDXL, POCKET], ids=lambda spec: spec.name)
def test_the_family_of_a_lora_is_found(spec: ModelSpec, dialect: str, tmp_path: Path) -> None:
    places = [place for place in (WORDS, TOWER) if place in targets_of(spec).layers]
    path = tmp_path / "lora.safetensors"
    save_adapter(path, changes(spec, "lora", *places), targets_of(spec), dialect)  # type: ignore[arg-type]
    found = inspect_adapter(open_weights(path))
    assert found.spec is not None and (found.spec.name, found.note, found.problem) == (spec.name, "", "")
    assert found.kinds == {"LoRA": len(places)} and found.ranks == {3: len(places)}
    assert found.networks == {place[0]: 1 for place in places} and not found.unmatched


def test_families_with_the_same_layers_are_asked_once() -> None:
    names = [row.name for row in families(VARIANTS.values())]
    assert {SD15.name, SD21_BASE.name, SDXL.name, SDXL_REFINER.name, POCKET.name} <= set(names)
    assert "sd15-inpainting" not in names and "sd21" not in names


@pytest.mark.parametrize(
    ("kind", "title"),
    [("loha", "LoHa"), ("lokr", "LoKr"), ("full", "full difference"), ("dora", "DoRA"), ("ia3", "IA3")],
)
def test_every_kind_is_named_and_its_family_found(kind: str, title: str, tmp_path: Path) -> None:
    found = written(tmp_path / "a", kohya_tensors(changes(SD15, kind, WORDS, TOWER), kohya))
    assert found.spec is SD15 and found.kinds == {title: 2}


def test_a_lora_of_kernels_is_a_locon_also_through_a_core(tmp_path: Path) -> None:
    for kind in ("lora", "tucker"):
        found = written(tmp_path / kind, kohya_tensors(changes(SD15, kind, WORDS, KERNEL), kohya))
        assert found.kinds == {"LoRA": 1, "LoCon": 1} and found.networks == {"unet": 2}


def test_what_is_not_for_rein_is_said_without_being_a_problem(tmp_path: Path) -> None:
    flux = {f"transformer.single_transformer_blocks.0.attn.to_q.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}
    found = written(tmp_path / "flux", flux)
    assert (found.note, found.problem, found.spec) == ("for FLUX, which Rein does not draw with", "", None)
    found = written(tmp_path / "oft", {"lora_unet_x.oft_blocks": torch.ones(2, 2), "lora_unet_x.alpha": torch.ones(())})
    assert found.note == "of the kind OFT, which Rein does not use" and not found.kinds
    odd = {f"lora_unet_{WORDS[1].replace('.', '_')}.lora_{side}.weight": torch.ones(7, 7) for side in ("up", "down")}
    found = written(tmp_path / "odd", odd)
    assert found.note == "for no model that Rein knows: a model with text of width 7" and not found.problem


def test_damage_is_told(tmp_path: Path) -> None:
    tensors = kohya_tensors(changes(SD15, "lora", WORDS, TOWER), kohya)
    name = next(name for name in tensors if name.endswith("lora_up.weight"))
    found = written(tmp_path / "nan", {**tensors, name: tensors[name] * float("nan")})
    assert found.spec is SD15 and "has NaN or infinity" in found.problem
    found = written(tmp_path / "half", {key: tensor for key, tensor in tensors.items() if key != name})
    assert "it has lora_down without lora_up" in found.problem
    found = written(tmp_path / "more", {**tensors, "lora_unet_what.lora_up.weight": torch.ones(2, 2)})
    assert found.unmatched == ("lora_unet_what.lora_up.weight",) and not found.problem
    tower = {key: tensor * float("inf") for key, tensor in tensors.items() if key.startswith("lora_te_")}
    assert "has NaN or infinity" in written(tmp_path / "tower", tower).problem


@pytest.mark.parametrize(
    ("state", "vectors", "widths", "family"),
    [
        ({"emb_params": (3, 768)}, 3, (768,), "sd15"),
        ({"<cat>": (1024,)}, 1, (1024,), "sd21-base"),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, 2, (768, 1280), "sdxl"),
        ({"emb_params": (1, 5)}, 1, (5,), ""),
    ],
)
def test_a_learned_word_tells_whom_it_is_for(
    state: Mapping[str, tuple[int, ...]], vectors: int, widths: tuple[int, ...], family: str, tmp_path: Path
) -> None:
    path = tmp_path / "word.safetensors"
    write_tensors(path, {name: torch.ones(shape) for name, shape in state.items()})
    report: FileReport = inspect_single(path, hashed=False)
    assert (report.kind, report.vectors, report.widths, report.family) == ("embedding", vectors, widths, family)
    told = report.plain()
    assert told["embedding"] == {"vectors": vectors, "widths": list(widths)} and told["family"] == (family or None)
