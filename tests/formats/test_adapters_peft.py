"""Adapters of PEFT: saved by it, read by us, merged into the same networks; the outputs are compared."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from rein.formats.adapters import read_adapter
from rein.nn.adapters_merge import Merger
from tests.formats.adapter_models import model
from tests.formats.random_adapters import randomise
from tests.nn.peers import relative_error

_BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
UNET_LAYERS = [
    f"{_BLOCK}.attn2.to_k",
    f"{_BLOCK}.attn1.to_out.0",
    f"{_BLOCK}.ff.net.0.proj",
    "down_blocks.1.attentions.0.proj_in",
    "down_blocks.1.resnets.0.conv1",
    "up_blocks.1.resnets.0.conv_shortcut",
    "up_blocks.1.resnets.0.time_emb_proj",
    "conv_in",
]
TOWER_LAYERS = ["q_proj", "v_proj", "out_proj", "fc1", "fc2"]
KEPT = ("lora_", "hada_", "lokr_", "ia3_l", "magnitude")


def _lora(layers: list[str], **more: Any) -> Any:
    return peft.LoraConfig(r=4, lora_alpha=6, target_modules=layers, lora_dropout=0.0, **more)


CONFIGS: dict[str, Callable[[list[str]], Any]] = {
    "lora": _lora,
    "lora with ranks and alphas of some layers": lambda layers: _lora(
        layers, rank_pattern={layers[0]: 2}, alpha_pattern={layers[1]: 3}
    ),
    "lora by the root of the rank": lambda layers: _lora(layers, use_rslora=True),
    "dora": lambda layers: _lora(layers, use_dora=True),
    "loha": lambda layers: peft.LoHaConfig(r=3, alpha=5, target_modules=layers, use_effective_conv2d=True),
    "loha, kernels flattened": lambda layers: peft.LoHaConfig(r=3, alpha=5, target_modules=layers),
    "lokr": lambda layers: peft.LoKrConfig(r=2, alpha=5, target_modules=layers, use_effective_conv2d=True),
    "lokr, both in halves": lambda layers: peft.LoKrConfig(
        r=1, alpha=5, target_modules=layers, decompose_both=True, decompose_factor=4
    ),
    "lokr, both whole": lambda layers: peft.LoKrConfig(r=64, alpha=5, target_modules=layers),
    "ia3": lambda layers: peft.IA3Config(target_modules=layers, feedforward_modules=[layers[-1]]),
}


@pytest.mark.parametrize(
    ("family", "kind"), [*(("sd1", kind) for kind in CONFIGS if "rank" not in kind), ("sdxl", "lora")]
)
def test_a_unet_with_an_adapter_of_peft(family: str, kind: str, tmp_path: Path) -> None:
    built = model(family)
    adapted = peft.get_peft_model(copy.deepcopy(built.peer_unet), CONFIGS[kind](UNET_LAYERS)).eval()
    randomise(adapted.named_parameters(), KEPT)
    adapted.save_pretrained(tmp_path)
    adapter = read_adapter(tmp_path / "adapter_model.safetensors", built.targets)
    assert adapter.unmatched == () and {path for _, path in adapter.changes} == set(UNET_LAYERS)
    plain, expected = built.run(), built.run_peer(adapted)
    merger = Merger(built.parts)
    with merger.using([adapter.use(1.0)]):
        merged = built.run()
    merger.restore()
    assert relative_error(merged, expected) < 2e-5
    assert relative_error(plain, expected) > 1e-2, "the adapter does something"
    assert torch.equal(built.run(), plain)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if "kernels" not in kind])
def test_a_text_tower_with_an_adapter_of_peft(kind: str, tmp_path: Path) -> None:
    built = model("sd1")
    adapted = peft.get_peft_model(copy.deepcopy(built.peer_towers[0]), CONFIGS[kind](TOWER_LAYERS)).eval()
    randomise(adapted.named_parameters(), KEPT)
    adapted.save_pretrained(tmp_path)
    adapter = read_adapter(tmp_path / "adapter_model.safetensors", built.targets)
    assert {part for part, _ in adapter.changes} == {"tower"} and adapter.unmatched == ()
    plain, expected = built.run_tower(0), built.run_peer_tower(adapted)
    merger = Merger(built.parts)
    with merger.using([adapter.use(0.0, 1.0)]):
        merged = built.run_tower(0)
    merger.restore()
    assert relative_error(merged, expected) < 2e-5
    assert relative_error(plain, expected) > 1e-2
