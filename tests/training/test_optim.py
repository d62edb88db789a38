"""Learning rates by number, parameter groups, and the average of the weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rein.nn.autoencoder import Autoencoder
from rein.training.optim import Average, adamw, rate_factor, swap
from tests.training.tiny import CONFIG, line_table


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"decay": "none", "warm_up": 0}, [1.0] * 8),
        ({"decay": "none", "warm_up": 4}, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ({"decay": "linear", "warm_up": 0, "decay_from": 0.5}, [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        ({"decay": "linear", "warm_up": 0, "decay_from": 0.0}, [1 - step / 8 for step in range(8)]),
        ({"decay": "linear", "warm_up": 0, "decay_from": 1.0}, [1.0] * 8),
        ({"decay": "linear", "warm_up": 2, "decay_from": 0.0}, [0.5, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (
            {"decay": "cosine", "warm_up": 0, "decay_from": 0.5},
            [1, 1, 1, 1, *(0.5 * (1 + math.cos(math.pi * part)) for part in (0, 0.25, 0.5, 0.75))],
        ),
    ],
)
def test_the_rate_follows_its_schedule(options: dict[str, object], expected: list[float]) -> None:
    settings = line_table(**options)
    assert [rate_factor(step, settings) for step in range(8)] == pytest.approx(expected, abs=1e-12)


def test_the_last_step_of_a_decay_still_moves() -> None:
    for decay in ("linear", "cosine"):
        assert 0 < rate_factor(7, line_table(decay=decay)) < rate_factor(6, line_table(decay=decay))
        assert rate_factor(8, line_table(decay=decay)) == pytest.approx(0)


def test_weight_decay_acts_on_matrices_and_kernels_only() -> None:
    module = Autoencoder(CONFIG)
    frozen = module.quant_conv.weight.requires_grad_(False)
    groups = adamw(module, line_table(weight_decay=0.25, betas=(0.5, 0.6))).param_groups
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]
    assert all(parameter.ndim == 4 for parameter in groups[0]["params"])
    assert all(parameter.ndim == 1 for parameter in groups[1]["params"])
    assert all(group["betas"] == (0.5, 0.6) and group["lr"] == 0.05 for group in groups)
    taken = {id(parameter) for group in groups for parameter in group["params"]}
    assert taken == {id(parameter) for parameter in module.parameters() if parameter is not frozen}


def test_the_average_is_the_formula() -> None:
    """decay * average + (1 - decay) * weight, the decay rising as (1 + n) / (10 + n) up to its limit."""
    layer, generator = nn.Linear(3, 2), torch.Generator().manual_seed(1)
    expected = {name: value.detach().double().clone() for name, value in layer.named_parameters()}
    average = Average(layer, 0.4)
    decays = []
    for step in range(1, 9):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        average.update(layer, step)
        decays.append(min(0.4, (1 + step) / (10 + step)))
        for name, parameter in layer.named_parameters():
            expected[name] = decays[-1] * expected[name] + (1 - decays[-1]) * parameter.detach().double()
    assert decays[0] == 2 / 11 and decays[-1] == 0.4
    for name, value in expected.items():
        assert torch.allclose(average.state()[name].double(), value, rtol=1e-6, atol=1e-6)


def test_an_average_of_half_precision_weights_is_kept_in_full() -> None:
    layer = nn.Linear(4, 4).bfloat16()
    average = Average(layer, 0.9999)
    before = average.state()["weight"].clone()
    with torch.no_grad():
        layer.weight += 1
    for step in range(200_000, 200_003):  # each moves it by a ten-thousandth, less than bfloat16 can tell
        average.update(layer, step)
    moved = average.state()["weight"] - before
    assert average.state()["weight"].dtype == torch.float32
    assert torch.allclose(moved, torch.full_like(moved, 3e-4), rtol=0.15)


def test_swapping_twice_restores_every_bit() -> None:
    layer = nn.Linear(4, 4)
    own = {name: value.detach().clone() for name, value in layer.named_parameters()}
    other = {name: torch.randn_like(value) for name, value in own.items()}
    before = swap(layer, other)
    assert all(torch.equal(value, other[name]) for name, value in layer.named_parameters())
    swap(layer, before)
    assert all(torch.equal(value, own[name]) for name, value in layer.named_parameters())


def test_an_average_takes_back_what_it_gave() -> None:
    layer = nn.Linear(4, 4)
    average = Average(layer, 0.5)
    given = {name: value.clone() for name, value in average.state().items()}
    with torch.no_grad():
        layer.weight += 1
    average.update(layer, 1)
    assert not torch.equal(average.state()["weight"], given["weight"])
    average.load(given)
    assert all(torch.equal(average.state()[name], value) for name, value in given.items())
