"""What a denoiser is shown in training and what its errors count, by the formulas of the papers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rein.errors import InputError
from rein.nn.specs import POCKET, SD15, SD21, ModelSpec
from rein.training.noising import NoiseLoss
from rein.training.tables import NoiseTable


def loss(spec: ModelSpec = SD15, **options: Any) -> NoiseLoss:
    return NoiseLoss.of(NoiseTable(steps=1, batch_size=1, **options), spec)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


PICTURES = torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(1))


def errors(made: NoiseLoss, answer: float = 0.0, mask: Tensor | None = None) -> Tensor:
    return made(lambda x, timestep: torch.full_like(x, answer), PICTURES, seeded(), mask)


def test_the_right_answer_costs_nothing() -> None:
    """For each prediction: a network that knows picture and noise."""
    for spec in (SD15, SD21, POCKET):
        made = loss(spec)
        generator = seeded()
        sigma = made.levels(8, generator)
        noise = made.noise(PICTURES, generator)
        target = made.prediction.target(PICTURES, noise, sigma)
        assert made(lambda x, timestep, t=target: t, PICTURES, seeded()).abs().max() < 1e-10  # type: ignore[misc]
        assert errors(made).min() > 0.05


def test_errors_by_their_kind() -> None:
    """The target of an epsilon model is the noise, so an answer of 0 leaves the noise as the error."""
    made = loss()
    generator = seeded()
    made.levels(8, generator)
    noise = made.noise(PICTURES, generator)
    assert torch.allclose(errors(made), noise.square().mean((1, 2, 3)))
    assert torch.allclose(errors(loss(loss="l1")), noise.abs().mean((1, 2, 3)))
    bound = 0.3
    pseudo = (2 * bound * ((noise**2 + bound**2).sqrt() - bound)).mean((1, 2, 3))
    assert torch.allclose(errors(loss(loss="huber", huber=bound)), pseudo)
    wide = errors(loss(loss="huber", huber=1e3))
    assert torch.allclose(wide, noise.square().mean((1, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("limit", [1.0, 5.0])
def test_min_snr(limit: float) -> None:
    """Hang et al. 2023: min(SNR, limit) / SNR for epsilon, min(SNR, limit) / (SNR + 1) for v."""
    sigma = torch.tensor([0.05, 0.5, 2.0, 14.0])
    snr = sigma**-2
    for spec, below in ((SD15, snr), (SD21, snr + 1)):
        weight = loss(spec, min_snr=limit).weight(sigma)
        assert weight is not None and torch.allclose(weight, snr.clamp(max=limit) / below)


def test_debiased() -> None:
    """For epsilon 1 / sqrt(SNR); for v the same error of epsilon counts the same."""
    sigma = torch.tensor([0.05, 0.5, 2.0, 14.0])
    weight = loss(debiased=True).weight(sigma)
    assert weight is not None and torch.allclose(weight, sigma)
    v = loss(SD21, debiased=True).weight(sigma)
    assert v is not None and torch.allclose(v, sigma / (1 + sigma**2))
    assert loss().weight(sigma) is None


def test_offset_noise_has_a_mean_of_its_own() -> None:
    plain = loss().noise(torch.zeros(64, 4, 16, 16), seeded()).mean((2, 3)).std()
    moved = loss(noise_offset=0.5).noise(torch.zeros(64, 4, 16, 16), seeded()).mean((2, 3)).std()
    assert plain == pytest.approx(1 / 16, rel=0.2) and moved == pytest.approx(0.5, rel=0.2)


def test_pyramid_noise_has_unit_variance_and_coarse_parts() -> None:
    shape = torch.zeros(16, 4, 16, 16)
    plain, coarse = loss().noise(shape, seeded()), loss(pyramid=0.8).noise(shape, seeded())
    assert coarse.flatten(1).std(1) == pytest.approx(torch.ones(16), abs=1e-3)
    pooled = [torch.nn.functional.avg_pool2d(noise, 4).std() for noise in (plain, coarse)]
    assert pooled[1] > 1.8 * pooled[0]


def test_zero_terminal_snr_trains_to_pure_noise() -> None:
    made = loss(SD21, zero_terminal_snr=True)
    assert made.schedule.sigma_max == pytest.approx(4096, rel=1e-3) and loss(SD21).schedule.sigma_max < 20
    for spec, told in ((SD15, "epsilon"), (POCKET, "flow")):
        with pytest.raises(InputError, match=f"zero_terminal_snr: an? {told}"):
            loss(spec, zero_terminal_snr=True)


def test_two_weights_exclude_one_another() -> None:
    with pytest.raises(InputError, match="choose one"):
        loss(min_snr=5.0, debiased=True)


def test_masks() -> None:
    mask = torch.zeros(8, 1, 16, 16)
    mask[..., :8] = 1.0
    half, floor = errors(loss(), mask=mask), errors(loss(mask_floor=0.5), mask=mask)
    whole = errors(loss())
    other = errors(loss(), mask=1 - mask)
    assert torch.allclose(half + other, whole) and torch.allclose(floor, half + 0.5 * other)
