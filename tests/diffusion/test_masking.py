"""Known parts stay, whatever the sampler does with the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rein.diffusion.guidance import guided
from rein.diffusion.masking import Mask, masked
from rein.diffusion.noise import PictureNoise
from rein.diffusion.samplers import SAMPLERS, SamplerOptions
from rein.diffusion.schedule import make_schedule
from rein.diffusion.spacing import spaced_sigmas

SCHEDULE = make_schedule("scaled_linear", 1000, 0.00085, 0.012, False, 1.0)


def shrinking(x: Tensor, sigma: Tensor) -> Tensor:
    return x / (1 + sigma**2)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_ends_with_the_known_part(name: str) -> None:
    known = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    values = torch.zeros(1, 1, 6, 6)
    values[..., 2:, 1:4] = 1
    pair = guided(lambda x, sigma: (shrinking(x, sigma), 0.5 * shrinking(x, sigma)), shrinking, 3.0)
    denoise = masked(pair, known, Mask(values))
    sigmas, noise = spaced_sigmas("leading", 8, SCHEDULE), PictureNoise([5])
    start = known + noise.draw((2, 6, 6)) * sigmas[0]
    *_, last = SAMPLERS[name].function(denoise, start, sigmas, noise, SamplerOptions(schedule=SCHEDULE))
    assert torch.allclose(last.x * (1 - values), known * (1 - values), atol=1e-6)
    *_, plain = SAMPLERS[name].function(pair, start, sigmas, PictureNoise([5]), SamplerOptions(schedule=SCHEDULE))
    assert not torch.allclose(plain.x * (1 - values), known * (1 - values), atol=1e-2)


def test_a_soft_mask_frees_grey_parts_late() -> None:
    values = torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(1, 1, 1, 4)
    mask = Mask(values, (8.0, 4.0, 2.0, 1.0))
    free = [mask.at(level).flatten().tolist() for level in (8.0, 4.0, 2.0, 1.0)]
    assert free == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]]


def test_a_grey_mask_that_is_not_soft_mixes() -> None:
    mixed = masked(lambda x, sigma: x + 2, torch.zeros(1, 1, 1, 2), Mask(torch.tensor([0.0, 0.5]).reshape(1, 1, 1, 2)))
    assert mixed(torch.zeros(1, 1, 1, 2), torch.tensor(1.0)).flatten().tolist() == [0, 1]
