"""The patch discriminator beside a plain functional one; what a score sees, and what it does not."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.nn.discriminator import PatchDiscriminator
from rein.nn.specs import DiscriminatorConfig
from tests.nn.peers import relative_error

CONFIG = DiscriminatorConfig(channels=16)


@pytest.fixture
def judge() -> PatchDiscriminator:
    torch.manual_seed(1)
    return PatchDiscriminator(CONFIG)


def pixels(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2)) * 2 - 1


def plain(judge: PatchDiscriminator, x: Tensor) -> Tensor:
    """The three-layer form of Isola et al.: four strides of 2, 2, 2, 1 and a last convolution, kernels of 4."""
    state = judge.state_dict()
    x = functional.leaky_relu(functional.conv2d(x, state["main.0.weight"], state["main.0.bias"], 2, 1), 0.2)
    for place, stride in ((2, 2), (5, 2), (8, 1)):
        x = functional.conv2d(x, state[f"main.{place}.weight"], None, stride, 1)
        groups = x.unflatten(1, (16, -1))
        variance, mean = torch.var_mean(groups, dim=(2, 3, 4), keepdim=True, correction=0)
        x = ((groups - mean) / (variance + 1e-5).sqrt()).flatten(1, 2)
        scale, shift = (state[f"main.{place + 1}.{name}"][:, None, None] for name in ("weight", "bias"))
        x = functional.leaky_relu(x * scale + shift, 0.2)
    return functional.conv2d(x, state["main.11.weight"], state["main.11.bias"], 1, 1)


@torch.no_grad()
def test_the_scores_equal_a_plain_form(judge: PatchDiscriminator) -> None:
    x = pixels(2, 64, 48)
    assert relative_error(judge(x), plain(judge, x)) <= 1e-5


def test_the_usual_form_has_its_weights() -> None:
    """64 channels and three layers: five convolutions, two of them with bias, and three norms."""
    judge = PatchDiscriminator(DiscriminatorConfig())
    widths = [3, 64, 128, 256, 512, 1]
    kernels = sum(16 * before * after for before, after in pairwise(widths))
    assert sum(p.numel() for p in judge.parameters()) == kernels + 64 + 1 + 2 * (128 + 256 + 512) == 2_765_633


@pytest.mark.parametrize(
    ("layers", "side", "scores", "seen"), [(1, 64, 31 - 1, 16), (2, 64, 14, 34), (3, 128, 14, 70), (4, 256, 14, 142)]
)
def test_shape_and_receptive_field(layers: int, side: int, scores: int, seen: int) -> None:
    """A score sees a square of 16, 34, 70 or 142 pixels (Isola et al. 2017, appendix 6.1), norms aside."""
    judge = PatchDiscriminator(DiscriminatorConfig(channels=16, layers=layers))
    assert judge(pixels(1, side, side)).shape == (1, 1, scores, scores)
    for place, layer in enumerate(judge.main):
        if isinstance(layer, nn.GroupNorm):
            judge.main[place] = nn.Identity()
    x = pixels(1, side, side).requires_grad_()
    judge(x)[0, 0, scores // 2, scores // 2].backward()
    assert x.grad is not None
    touched = x.grad[0].abs().sum(dim=0) > 0
    rows, columns = touched.any(dim=1).nonzero(), touched.any(dim=0).nonzero()
    assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == seen


def test_a_score_does_not_depend_on_the_other_pictures(judge: PatchDiscriminator) -> None:
    x = pixels(3, 48, 48).requires_grad_()
    together = judge(x)
    for index in range(3):
        alone = judge(x[index : index + 1])
        assert relative_error(together[index : index + 1].detach(), alone.detach()) <= 1e-5
    together[0].sum().backward()
    assert x.grad is not None
    assert x.grad[0].abs().max() > 0 and x.grad[1:].abs().max() == 0
