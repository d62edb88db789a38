"""Adapter files of every dialect and kind, for every family; and damaged, foreign and hostile ones."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rein.errors import DamagedFileError, InputError, ReinError
from rein.formats.adapters import LoadedAdapter, baker, looks_like_adapter, read_adapter
from rein.formats.adapters_names import Targets, spellings, targets_of
from rein.formats.adapters_save import save_adapter
from rein.formats.key_names import renamed, unet_modules
from rein.formats.tensors import write_tensors
from rein.nn.adapters import Change, Place, weight_change
from rein.nn.adapters_merge import Merger
from rein.nn.specs import VARIANTS
from tests.formats.adapter_models import SPECS, headless, kohya, kohya_xl, model, peft, processors
from tests.formats.random_adapters import KINDS, kohya_tensors, random_changes

TARGETS = {family: targets_of(spec) for family, spec in SPECS.items()}


def _original(place: Place) -> str:
    originals = unet_modules(SPECS["sdxl"].unet)
    if place[0] != "unet":
        return kohya_xl(place)
    return "lora_unet_" + renamed(place[1], originals).replace(".", "_")


def _trained(place: Place) -> str:
    if place[0] != "unet":
        return peft(place)
    return "diffusion_model." + renamed(place[1], unet_modules(SPECS["sd1"].unet))


DIALECTS: dict[str, tuple[str, Callable[[Place], str]]] = {
    "kohya": ("sd1", kohya),
    "kohya, SDXL": ("sdxl", kohya_xl),
    "kohya, SDXL's own blocks": ("sdxl", _original),
    "dotted": ("sd2", peft),
    "dotted, SDXL": ("sdxl", peft),
    "dotted, transformers 5": ("sdxl", headless),
    "PEFT": ("sd1", lambda place: "base_model.model." + peft(place)),
    "PEFT, within the part": ("sd1", lambda place: peft(place).replace(".", ".base_model.model.", 1)),
    "the original blocks, dotted": ("sd1", _trained),
}


def _equal(one: Mapping[Place, Change], other: Mapping[Place, Change]) -> bool:
    return one.keys() == other.keys() and all(_same(change, other[place]) for place, change in one.items())


def _same(one: Change, other: Change) -> bool:
    tensors = one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[role]) for role, tensor in one.tensors.items()
    )
    return tensors and one.kind == other.kind and one.scale == pytest.approx(other.scale, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_file_of_any_dialect_and_kind_is_read(dialect: str, kind: str, tmp_path: Path) -> None:
    family, name = DIALECTS[dialect]
    changes = random_changes(TARGETS[family], KINDS[kind], every=7)
    path = tmp_path / "style.safetensors"
    write_tensors(path, kohya_tensors(changes, name))
    adapter = read_adapter(path, TARGETS[family])
    assert adapter.name == "style" and adapter.unmatched == () and adapter.report() == ""
    assert {part for part, _ in changes} == {part for part, _ in TARGETS[family].layers}
    assert _equal(adapter.changes, changes)


def test_layers_of_the_first_diffusers_files(tmp_path: Path) -> None:
    """Attention processors of the U-Net with a prefix and without, and the text tower's."""
    chosen = random_changes(TARGETS["sd1"], KINDS["lora"])
    changes = {place: change for place, change in chosen.items() if re.search(r"\.to_(q|out\.0)$|\.q_proj$", place[1])}

    def name(place: Place) -> str:
        if place[0] == "tower":
            return peft(place).replace("q_proj", "to_q_lora")
        full = processors(place)
        return full if "up_blocks" in full else full.removeprefix("unet.")

    tensors = {}
    for place, change in changes.items():
        tensors[f"{name(place)}.up.weight"] = change.tensors["up"] * change.scale
        tensors[f"{name(place)}.down.weight"] = change.tensors["down"]
    write_tensors(tmp_path / "old.safetensors", tensors)
    adapter = read_adapter(tmp_path / "old.safetensors", TARGETS["sd1"])
    assert adapter.changes.keys() == changes.keys() and adapter.unmatched == ()


def test_norms_and_biases_alone(tmp_path: Path) -> None:
    norm, conv = "lora_unet_down_blocks_0_resnets_0_norm1", "lora_unet_conv_in"
    tensors = {f"{norm}.w_norm": torch.randn(24), f"{norm}.b_norm": torch.randn(24), f"{conv}.diff_b": torch.randn(24)}
    write_tensors(tmp_path / "a.safetensors", tensors)
    adapter = read_adapter(tmp_path / "a.safetensors", TARGETS["sd1"])
    assert adapter.kinds == {"full": 1, "bias": 1}
    unet = model("sd1").unet
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    merger = Merger({"unet": unet})
    with merger.using([adapter.use(0.5)]):
        after = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    merger.restore()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    place = "down_blocks.0.resnets.0.norm1"
    assert changed == {f"{place}.weight", f"{place}.bias", "conv_in.bias"}
    assert torch.allclose(after[f"{place}.weight"], before[f"{place}.weight"] + 0.5 * tensors[f"{norm}.w_norm"])
    assert torch.allclose(after["conv_in.bias"], before["conv_in.bias"] + 0.5 * tensors[f"{conv}.diff_b"])


@pytest.mark.parametrize("name", ["sd15", "sd21-base", "sdxl", "pocket"])
def test_no_spelling_means_two_layers(name: str) -> None:
    """At full size: only without a prefix do the two towers of SDXL share names, and their widths tell them apart."""
    targets = targets_of(VARIANTS[name])
    for spelling, places in targets.places.items():
        if len(set(places)) > 1:
            assert {part for part, _ in places} == {"tower", "tower_2"}
            assert not spelling.startswith(("lora_", "text_encoder", "unet"))
            assert len({targets.layers[place].weight for place in places}) > 1 or "norm" not in spelling
    originals = unet_modules(targets.spec.unet)
    assert all(list(spellings(place, originals, len(targets.spec.towers))) for place in targets.layers)


def _file(tensors: dict[str, Tensor], tmp_path: Path, metadata: dict[str, str] | None = None) -> Path:
    path = tmp_path / "some.safetensors"
    write_tensors(path, tensors, metadata)
    return path


def _pair(layer: str, rows: int = 24, columns: int = 24, rank: int = 2) -> dict[str, Tensor]:
    return {f"{layer}.lora_up.weight": torch.ones(rows, rank), f"{layer}.lora_down.weight": torch.ones(rank, columns)}


LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def test_names_that_match_nothing_are_listed(tmp_path: Path) -> None:
    path = _file(_pair(LAYER) | _pair("lora_unet_somewhere") | {"extra": torch.ones(1)}, tmp_path)
    adapter = read_adapter(path, TARGETS["sd1"])
    assert adapter.unmatched == (
        "extra",
        "lora_unet_somewhere.lora_down.weight",
        "lora_unet_somewhere.lora_up.weight",
    )
    assert adapter.report().startswith("adapter 'some': 3 names match nothing in this model: extra, lora_unet_some")


_NAN, _INFINITY = float("nan"), float("inf")
_READS_TEXT = "lora_unet_down_blocks_{}_attentions_0_transformer_blocks_0_attn2_to_k"


def _with(change: dict[str, Tensor | None]) -> dict[str, Tensor]:
    tensors: dict[str, Any] = {**_pair(LAYER), **{f"{LAYER}.{name}": tensor for name, tensor in change.items()}}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


DAMAGED: dict[str, tuple[dict[str, Tensor], str]] = {
    "empty": ({}, "it holds no tensors"),
    "NaN": (_with({"lora_up.weight": torch.full((24, 2), _NAN)}), "NaN or infinity"),
    "infinity in half precision": (_with({"lora_down.weight": torch.full((2, 24), _INFINITY).half()}), "NaN or inf"),
    "up without down": (_with({"lora_down.weight": None}), "it has lora_up without lora_down"),
    "down without up": (_with({"lora_up.weight": None}), "it has lora_down without lora_up"),
    "ranks that differ": (_with({"lora_up.weight": torch.ones(24, 3)}), "do not fit one another"),
    "another height": (_with({"lora_up.weight": torch.ones(23, 2)}), r"they give \(23, 24\) where \(24, 24\)"),
    "another width": (_with({"lora_down.weight": torch.ones(2, 25)}), r"they give \(24, 25\)"),
    "another kernel": (_with({"lora_down.weight": torch.ones(2, 24, 3, 3)}), r"they give \(24, 216\)"),
    "alpha 0": (_with({"alpha": torch.tensor(0.0)}), "its alpha is 0,"),
    "alpha infinite": (_with({"alpha": torch.tensor(_INFINITY)}), "NaN or infinity"),
    "many alphas": (_with({"alpha": torch.ones(3)}), "its alpha is nan"),
    "two kinds": (_with({"hada_w1_a": torch.ones(24, 2)}), "tensors of the kinds loha and lora"),
    "a third of LoHa": (
        {f"{LAYER}.hada_w1_a": torch.ones(24, 2), f"{LAYER}.hada_w1_b": torch.ones(2, 24)},
        "without w2_a, w2_b",
    ),
    "a magnitude of another length": (_with({"dora_scale": torch.ones(25, 1)}), "magnitude"),
    "a magnitude alone": ({f"{LAYER}.dora_scale": torch.ones(24, 1)}, "magnitude"),
    "nothing in a tensor": (_pair(LAYER, rank=0), "empty"),
    "a bias without its layer's": (_with({"diff_b": torch.ones(24)}), "does not have"),
    "twice": (
        _pair(LAYER) | _pair("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"),
        "under another name, too",
    ),
    "twice in one layer": (
        _pair(LAYER) | {f"{LAYER}.lora_A.weight": torch.ones(2, 24)},
        "has '.*lora_down.weight' and '.*lora_A.weight'|has '.*lora_A.weight' and '.*lora_down.weight'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files_are_refused_in_one_line(what: str, tmp_path: Path) -> None:
    tensors, message = DAMAGED[what]
    with pytest.raises(DamagedFileError, match=message) as caught:
        read_adapter(_file(tensors, tmp_path), TARGETS["sd1"])
    assert "\n" not in str(caught.value) and "some.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 500


FOREIGN: dict[str, tuple[str, dict[str, Tensor], str]] = {
    "SDXL for SD1": (
        "sd1",
        _pair(_READS_TEXT.format(1), 640, 2048),
        "was made for SDXL; 'sd15' is a model with text of width 20",
    ),
    "SD2 for SD1": ("sd1", _pair(_READS_TEXT.format(0), 320, 1024), "was made for Stable Diffusion 2"),
    "two towers for one": ("sd1", _pair("lora_te2_text_model_encoder_layers_0_mlp_fc1"), "SDXL, with two text towers"),
    "FLUX": ("sd1", _pair("lora_unet_double_blocks_0_img_attn_proj"), "made for FLUX"),
    "a checkpoint": ("sd1", {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2)}, "it is no adapter"),
    "other names": ("sd1", _pair("lora_unet_somewhere"), "none of its 2 names, the first 'lora_unet_somewhere"),
    "OFT": ("sd1", {f"{LAYER}.oft_blocks": torch.ones(2, 2, 2)}, "of the kind OFT; known kinds: LoRA, LoCon"),
    "GLoRA": ("sd1", {f"{LAYER}.a1.weight": torch.ones(2, 2)}, "of the kind GLoRA"),
    "ControlNet": ("sd1", {"control_model.input_hint_block.0.weight": torch.ones(2)}, "of the kind ControlNet"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_files_for_something_else_are_refused_by_name(what: str, tmp_path: Path) -> None:
    family, tensors, message = FOREIGN[what]
    with pytest.raises(InputError, match=message) as caught:
        read_adapter(_file(tensors, tmp_path), TARGETS[family])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("full", ["sd15", "sd21-base", "sdxl"])
@pytest.mark.parametrize("other", ["sd15", "sd21-base", "sdxl"])
def test_families_at_full_size_tell_each_other_apart(full: str, other: str, tmp_path: Path) -> None:
    wide = VARIANTS[full].unet.context_width
    rows = {"sd15": 320, "sd21-base": 320, "sdxl": 640}[full]
    path = _file(_pair(_READS_TEXT.format(int(full == "sdxl")), rows, wide), tmp_path)
    if full == other:
        assert len(read_adapter(path, targets_of(VARIANTS[other])).changes) == 1
    else:
        with pytest.raises(InputError, match=r"was made for S.*; '.*' is S"):
            read_adapter(path, targets_of(VARIANTS[other]))


def test_a_missing_file_and_a_text_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_adapter(tmp_path / "none.safetensors", TARGETS["sd1"])
    (tmp_path / "page.safetensors").write_text("<html>404</html>")
    with pytest.raises(ReinError, match="web page"):
        read_adapter(tmp_path / "page.safetensors", TARGETS["sd1"])


def test_what_diffusers_says_of_alpha_is_heeded(tmp_path: Path) -> None:
    tensors = {f"unet.{path}.{half}": tensor for path, half, tensor in _peft_layers()}
    config = {"unet.r": 2, "unet.lora_alpha": 6, "unet.alpha_pattern": {"conv_in": 8}}
    path = _file(tensors, tmp_path, {"lora_adapter_metadata": json.dumps(config)})
    scales = {place[1]: change.scale for place, change in read_adapter(path, TARGETS["sd1"]).changes.items()}
    assert scales == {"conv_in": 4.0, "conv_out": 3.0}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"unet.r": 2, "unet.lora_alpha": "x"}', '{"r": 2, "lora_alpha": -1}', "[" * 9999]
)
def test_senseless_words_on_alpha_are_refused(text: str, tmp_path: Path) -> None:
    tensors = {f"unet.{path}.{half}": tensor for path, half, tensor in _peft_layers()}
    with pytest.raises(DamagedFileError, match="JSON|its alpha or rank"):
        read_adapter(_file(tensors, tmp_path, {"lora_adapter_metadata": text}), TARGETS["sd1"])


def _peft_layers() -> list[tuple[str, str, Tensor]]:
    shapes = {"conv_in": (24, 4), "conv_out": (4, 24)}
    return [
        (path, half, torch.ones(shape))
        for path, (rows, columns) in shapes.items()
        for half, shape in (("lora_A.weight", (2, columns, 3, 3)), ("lora_B.weight", (rows, 2, 1, 1)))
    ]


WRITTEN = ("lora", "dora", "loha", "lokr")


@pytest.mark.parametrize("dialect", ["kohya", "peft"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in WRITTEN])
@pytest.mark.parametrize("family", SPECS)
def test_what_is_written_is_read_again(family: str, kind: str, dialect: Any, tmp_path: Path) -> None:
    targets = TARGETS[family]
    drawn = random_changes(targets, KINDS[kind], every=1 if kind == "lora" else 5)
    changes = {place: change for place, change in drawn.items() if change.kind in ("lora", "loha", "lokr")}
    if dialect == "peft":  # it has one length a row, no other
        changes = {place: _by_rows(change, targets.layers[place].weight) for place, change in changes.items()}
    path = tmp_path / "mine.safetensors"
    save_adapter(path, changes, targets, dialect, {"ss_network_dim": "3"})
    again = read_adapter(path, targets)
    assert again.unmatched == () and again.changes.keys() == changes.keys()
    if dialect == "kohya":
        assert _equal(again.changes, changes)
    for place, change in changes.items():
        weight = torch.randn(targets.layers[place].weight, generator=torch.Generator().manual_seed(1))
        wanted, got = weight_change(change, weight), weight_change(again.changes[place], weight)
        assert wanted is not None and got is not None and torch.allclose(got, wanted, rtol=1e-4, atol=1e-5)


def _by_rows(change: Change, weight: tuple[int, ...]) -> Change:
    if "magnitude" not in change.tensors:
        return change
    return Change(change.kind, {**change.tensors, "magnitude": torch.linspace(1, 2, weight[0])[:, None]}, change.scale)


def test_other_kinds_are_not_written(tmp_path: Path) -> None:
    for kind in ("full", "ia3"):
        changes = random_changes(TARGETS["sd1"], KINDS[kind])
        for dialect in ("kohya", "peft"):
            with pytest.raises(InputError, match="LoRA, DoRA, LoHa and LoKr can be saved"):
                save_adapter(tmp_path / "a.safetensors", changes, TARGETS["sd1"], dialect)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_baked_in_is_merged(kind: str) -> None:
    built = model("sd1")
    changes = random_changes(TARGETS["sd1"], KINDS[kind], every=2)
    use = LoadedAdapter("some", Path("some"), changes).use(0.6, 0.3)
    bake = baker([use])
    before = {
        (part, name): tensor.clone() for part, net in built.parts.items() for name, tensor in net.state_dict().items()
    }
    merger = Merger(built.parts)
    with merger.using([use]):
        for part, network in built.parts.items():
            for name, tensor in network.state_dict().items():
                original = before[part, name]
                baked = bake(part, name, original)
                assert torch.equal(baked, tensor) and baked.dtype == original.dtype
                touched = (part, name.rpartition(".")[0]) in changes
                assert touched or baked is original
    merger.restore()


def test_hashes_are_those_of_other_programs(tmp_path: Path) -> None:
    """AUTOMATIC1111 takes a safetensors file without its header; metadata may be edited without changing it."""
    path = _file(_pair(LAYER), tmp_path)
    first = read_adapter(path, TARGETS["sd1"])
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert first.short_hash == hashlib.sha256(content[header:]).hexdigest()[:12]
    assert first.sha256 == hashlib.sha256(content).hexdigest()
    second = read_adapter(_file(_pair(LAYER), tmp_path, {"title": "new"}), TARGETS["sd1"])
    assert second.short_hash == first.short_hash and second.sha256 != first.sha256


def test_a_pytorch_file_is_read_without_running_it(tmp_path: Path) -> None:
    changes = random_changes(TARGETS["sd1"], KINDS["lora"], every=9)
    path = tmp_path / "style.pt"
    torch.save(kohya_tensors(changes, kohya), path)
    adapter = read_adapter(path, TARGETS["sd1"])
    assert _equal(adapter.changes, changes)
    assert adapter.short_hash == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_adapters_are_told_from_other_files() -> None:
    for dialect, (family, name) in DIALECTS.items():
        for kind, make in KINDS.items():
            tensors = kohya_tensors(random_changes(TARGETS[family], make, every=9), name)
            assert looks_like_adapter(list(tensors)), (dialect, kind)
    checkpoint = [f"{part}.{name}" for part, net in model("sd1").parts.items() for name in net.state_dict()]
    assert not looks_like_adapter(checkpoint)
    assert not looks_like_adapter(["emb_params"]) and not looks_like_adapter([])


def test_targets_are_the_layers_of_the_networks() -> None:
    built = model("sdxl")
    assert Targets.of(built.spec, built.parts).layers == TARGETS["sdxl"].layers
    assert {"unet", "tower", "tower_2"} == {part for part, _ in TARGETS["sdxl"].layers}
