"""LoRA files in every dialect that diffusers reads: it and we load the same file, and give the same pictures."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers
from torch import Tensor

from rein.formats.adapters import read_adapter
from rein.formats.adapters_names import Targets, targets_of
from rein.formats.adapters_save import save_adapter
from rein.formats.key_names import renamed, unet_modules
from rein.formats.tensors import write_tensors
from rein.nn.adapters import Change, Place
from rein.nn.adapters_merge import Merger
from rein.nn.specs import SD15, SDXL, ModelSpec
from rein.nn.unet import UNet
from tests.formats.adapter_models import Model, Name, headless, kohya, kohya_xl, model, peft, processors
from tests.formats.random_adapters import KINDS, kohya_tensors, random_changes
from tests.nn.peers import UNET_SD15, UNET_SDXL, native_state, relative_error, unet_peer

_LAYERS = r"(to_[qkv]|to_out\.0|proj_in|ff\.net\.2|conv1|[qv]_proj|fc1)$"
_KOHYA = r"(to_[qkv]|to_out\.0|proj_in|ff\.net\.2|conv1|fc1)$"
"""diffusers 0.42 with transformers 5 loses the attention of text towers in kohya's files, and says so."""
_ATTENTION = r"to_([qkv]|out\.0)$"


def _changes(family: str, layers: str) -> dict[Place, Change]:
    chosen = random_changes(model(family).targets, KINDS["lora"], seed=3)
    found = [place for place in chosen if re.search(layers, place[1])]
    towers = [place for place in found if place[0] != "unet"]
    return {place: _weaker(chosen[place]) for place in [*found[: len(found) - len(towers) : 3], *towers]}


def _weaker(change: Change) -> Change:
    tensors = {role: tensor if role == "magnitude" else tensor * 0.5 for role, tensor in change.tensors.items()}
    return Change(change.kind, tensors, change.scale)


def _original(place: Place) -> str:
    if place[0] != "unet":
        return kohya_xl(place)
    return "lora_unet_" + renamed(place[1], unet_modules(model("sdxl").spec.unet)).replace(".", "_")


def _kohya_file(name: Name, changes: dict[Place, Change], path: Path) -> None:
    write_tensors(path, kohya_tensors(changes, name))


def _peft_file(name: Name, up: str, down: str, changes: dict[Place, Change], path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for place, change in changes.items():
        tensors[name(place) + up] = change.tensors["up"] * change.scale  # these dialects have no alpha
        tensors[name(place) + down] = change.tensors["down"]
    write_tensors(path, tensors)


def _of_transformers_5(place: Place) -> str:
    return peft(place) if place[0] == "tower_2" else headless(place)


_UP, _DOWN = ".lora_B.weight", ".lora_A.weight"

Write = Callable[[dict[Place, Change], Path], None]

FILES: dict[str, tuple[str, str, Write]] = {
    "kohya, SD1": ("sd1", _KOHYA, lambda c, p: _kohya_file(kohya, c, p)),
    "kohya, SD2": ("sd2", _KOHYA, lambda c, p: _kohya_file(kohya, c, p)),
    "kohya, SDXL": ("sdxl", _KOHYA, lambda c, p: _kohya_file(kohya_xl, c, p)),
    "kohya, SDXL's own blocks": ("sdxl", _KOHYA, lambda c, p: _kohya_file(_original, c, p)),
    "PEFT": ("sd1", _LAYERS, lambda c, p: _peft_file(_of_transformers_5, _UP, _DOWN, c, p)),
    "PEFT, SDXL": ("sdxl", _LAYERS, lambda c, p: _peft_file(_of_transformers_5, _UP, _DOWN, c, p)),
    "diffusers": (
        "sd1", _ATTENTION, lambda c, p: _peft_file(peft, ".lora.up.weight", ".lora.down.weight", c, p)
    ),
    "processors": ("sd1", _ATTENTION, lambda c, p: _peft_file(processors, ".up.weight", ".down.weight", c, p)),
    "written by us, kohya": ("sdxl", _KOHYA, lambda c, p: save_adapter(p, c, model("sdxl").targets)),
    "written by us, PEFT": (
        "sd1", r"attn.*to_", lambda c, p: save_adapter(p, c, model("sd1").targets, "peft")
    ),
}  # fmt: skip


def loaded_by_diffusers(built: Model, path: Path) -> tuple[Any, list[Any]]:
    """Copies of the peers with the file loaded by diffusers' own reader."""
    loader: Any = StableDiffusionXLLoraLoaderMixin if len(built.towers) > 1 else StableDiffusionLoraLoaderMixin
    unet, towers = copy.deepcopy(built.peer_unet), [copy.deepcopy(tower) for tower in built.peer_towers]
    state, alphas = loader.lora_state_dict(str(path), unet_config=unet.config, local_files_only=True)
    loader.load_lora_into_unet(state, network_alphas=alphas, unet=unet, adapter_name="one")
    for tower, prefix in zip(towers, ("text_encoder", "text_encoder_2"), strict=False):
        if any(name.startswith(f"{prefix}.") for name in state):
            loader.load_lora_into_text_encoder(state, alphas, tower, prefix=prefix, adapter_name="one")
    return unet, towers


@pytest.mark.parametrize("dialect", FILES)
def test_diffusers_and_we_read_the_same(dialect: str, tmp_path: Path) -> None:
    family, layers, write = FILES[dialect]
    built, path = model(family), tmp_path / "some.safetensors"
    changes = _changes(family, layers)
    write(changes, path)
    adapter = read_adapter(path, built.targets)
    assert adapter.changes.keys() == changes.keys() and adapter.unmatched == ()
    unet, towers = loaded_by_diffusers(built, path)
    plain, expected = built.run(), built.run_peer(unet)
    merger = Merger(built.parts)
    with merger.using([adapter.use(1.0)]):
        merged, states = built.run(), [built.run_tower(index) for index in range(len(towers))]
    merger.restore()
    assert relative_error(merged, expected) < 2e-5
    assert relative_error(plain, expected) > 1e-2
    for state, tower in zip(states, towers, strict=True):
        if hasattr(tower, "peft_config"):
            assert relative_error(state, built.run_peer_tower(tower)) < 2e-5


def test_the_blocks_of_sdxl_have_the_names_that_diffusers_gives_them() -> None:
    """Every transformer layer and convolution of SDXL at full size, in kohya's names of the original blocks."""
    targets, originals = targets_of(SDXL), unet_modules(SDXL.unet)
    paths = [path for part, path in targets.layers if part == "unet" and path.startswith(("down", "mid", "up"))]
    names = {f"lora_unet_{renamed(path, originals).replace('.', '_')}.lora_down.weight": path for path in paths}
    assert len(names) == len(paths) > 1000

    class Config:
        layers_per_block = 2

    for name, path in names.items():
        (theirs,) = _maybe_map_sgm_blocks_to_diffusers({name: torch.empty(1)}, Config)
        inner = {"in_layers_0": "norm1", "in_layers_2": "conv1", "emb_layers_1": "time_emb_proj"}
        inner |= {"out_layers_0": "norm2", "out_layers_3": "conv2", "skip_connection": "conv_shortcut"}
        inner |= {"input_blocks": "down_blocks", "middle_block": "mid_block", "output_blocks": "up_blocks"}
        for old, new in inner.items():  # diffusers does these in a later step
            theirs = theirs.replace(old, new)
        theirs = theirs.removesuffix(".lora_down.weight")
        if "downsamplers" not in path:
            assert theirs == kohya_xl(("unet", path))
        assert targets.places[name.removesuffix(".lora_down.weight")] == (("unet", path),)


FULL: dict[str, tuple[ModelSpec, dict[str, Any]]] = {"sd15": (SD15, UNET_SD15), "sdxl": (SDXL, UNET_SDXL)}


@pytest.mark.slow
@pytest.mark.parametrize("family", FULL)
@torch.no_grad()
def test_at_full_size(family: str, tmp_path: Path) -> None:
    """A LoRA of rank 16 for every attention layer of a whole U-Net with random weights."""
    spec, options = FULL[family]
    torch.manual_seed(0)
    theirs: Any = unet_peer(options).eval()
    with torch.device("meta"):
        ours = UNet(spec.unet).eval()
    ours.load_state_dict(native_state(theirs), assign=True)
    targets, path = Targets.of(spec, {"unet": ours}), tmp_path / "full.safetensors"
    layers = [(place, target.weight) for place, target in targets.layers.items() if re.search(_ATTENTION, place[1])]
    changes = {place: _rank_16(*shape) for place, shape in layers}
    save_adapter(path, changes, targets)
    adapter = read_adapter(path, targets)
    assert adapter.changes.keys() == changes.keys()
    given: dict[str, Any] = {"x": torch.randn(1, 4, 32, 32), "context": torch.randn(1, 77, spec.unet.context_width)}
    more = {"text_embeds": torch.randn(1, 1280), "time_ids": torch.full((1, 6), 512.0)} if spec.unet.size_ids else {}
    time = torch.tensor([500])
    merger = Merger({"unet": ours})
    with merger.using([adapter.use(0.8)]):
        merged = ours(given["x"], time, given["context"], more.get("text_embeds"), more.get("time_ids"))
    merger.restore()  # the peer has the same tensors
    loader: Any = StableDiffusionXLLoraLoaderMixin if more else StableDiffusionLoraLoaderMixin
    state, alphas = loader.lora_state_dict(str(path), unet_config=theirs.config, local_files_only=True)
    loader.load_lora_into_unet(state, network_alphas=alphas, unet=theirs, adapter_name="one")
    theirs.set_adapters(["one"], 0.8)
    expected = theirs(given["x"], time, given["context"], added_cond_kwargs=more).sample
    assert relative_error(merged, expected) < 1e-4


def _rank_16(rows: int, columns: int) -> Change:
    return Change("lora", {"up": torch.randn(rows, 16) * 0.02, "down": torch.randn(16, columns) * 0.02}, 0.5)
