"""First weights: what starts at zero, and CLIP's widths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rein.nn.clip import TextTower
from rein.nn.initial import initialise_tower, initialise_unet
from rein.nn.specs import POCKET
from rein.nn.unet import UNet
from tests.nn.peers import SMALL_UNETS


def test_a_new_unet_predicts_zero_and_learns_at_once() -> None:
    torch.manual_seed(1)
    unet = initialise_unet(UNet(SMALL_UNETS["pocket"].config))
    config = unet.config
    given = torch.randn(2, config.in_channels, 8, 8), torch.tensor([5.0, 900.0]), torch.randn(2, 6, 20)
    out = unet(*given, torch.randn(2, config.pooled_width))
    assert out.abs().max() == 0
    (out - torch.randn(out.shape)).square().mean().backward()
    assert unet.conv_out.weight.grad is not None and unet.conv_out.weight.grad.abs().max() > 0


def test_residual_branches_start_as_the_identity() -> None:
    """With the last layer made to speak, what it says does not depend on text or time."""
    torch.manual_seed(1)
    unet = initialise_unet(UNet(SMALL_UNETS["sd1"].config))
    torch.nn.init.normal_(unet.conv_out.weight)
    x = torch.randn(1, 4, 8, 8)
    first = unet(x, torch.tensor([3.0]), torch.randn(1, 5, 20))
    assert first.abs().max() > 0
    assert torch.equal(first, unet(x, torch.tensor([800.0]), torch.randn(1, 5, 20)))


def test_a_new_tower_has_clips_deviations() -> None:
    torch.manual_seed(1)
    config = replace(POCKET.towers[0], layers=8)
    tower = initialise_tower(TextTower(config))
    layer, width, depth = tower.text_model.encoder.layers[0], config.width, (2 * 8) ** -0.5
    weights = dict(layer.named_parameters())
    expected = {
        "self_attn.q_proj.weight": width**-0.5,
        "self_attn.out_proj.weight": width**-0.5 * depth,
        "mlp.fc1.weight": (2 * width) ** -0.5,
        "mlp.fc2.weight": width**-0.5 * depth,
    }
    for name, deviation in expected.items():
        assert float(weights[name].detach().std()) == pytest.approx(deviation, rel=0.02), name
    assert float(tower.text_model.embeddings.token_embedding.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(tower.text_model.embeddings.position_embedding.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
