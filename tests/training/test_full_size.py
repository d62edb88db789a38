"""Stable Diffusion 1.5 at full size with random weights: an adapter learns for two steps, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rein.formats.checkpoint import LoadedModel
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import SD15
from rein.nn.unet import UNet
from rein.text.tokenizer import clip_tokenizer
from rein.training.adapter import KOHYA_FILE
from rein.training.lessons import Lesson
from rein.training.loop import Loop
from rein.training.lora import LoraObjective
from rein.training.tables_teach import LoraTable
from rein.training.teach import Lessons
from tests.training.lessons import COMMON
from tests.training.tiny import RECIPE


class Unseen(LoraObjective):
    """Draws no sheet: at full size that takes minutes."""

    def sample(self) -> None:  # type: ignore[override]
        return None


@pytest.mark.slow
def test_a_lora_of_sd15(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet, tower = UNet(SD15.unet).eval(), TextTower(SD15.towers[0]).eval()
    model = LoadedModel(
        SD15, unet, Autoencoder(SD15.autoencoder), (tower,), (clip_tokenizer(),), Path("random"), {}, "a hash"
    )
    values = COMMON | {"steps": 2, "batch_size": 1, "precision": "bf16", "checkpointing": True}
    latents = [Lesson(torch.randn(4, 32, 32).half(), None, ("a cat",), f"{number}.png") for number in range(2)]
    made = Unseen(model, LoraTable(objective="lora", rank=8, text_rate=1e-3, **values), Lessons(latents))
    name = "mid_block.attentions.0.proj_in.base_layer.weight"
    before = unet.get_parameter(name).detach().clone()
    loop = Loop(made, made.table, tmp_path, RECIPE)
    assert loop.preflight().learning < 5e6 < 8e8 < loop.preflight().all_parameters
    reports = list(loop.run())
    assert len(reports) == 2 and all(0 < report.losses["loss"] < 10 for report in reports)
    assert torch.equal(before, unet.get_parameter(name))
    loop.finish(tmp_path / "out")
    assert 1e6 < (tmp_path / "out" / KOHYA_FILE).stat().st_size < 2e7
