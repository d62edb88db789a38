"""Learning rates by number, parameter groups, and the average of the weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from rein.errors import InputError
from rein.nn.autoencoder import Autoencoder
from rein.training.loop import Loop
from rein.training.optim import Average, make_optimiser, rate_factor, swap
from tests.training.tiny import CONFIG, RECIPE, LineObjective, line_table, same, state


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
    groups = make_optimiser(module, line_table(weight_decay=0.25, betas=(0.5, 0.6))).param_groups
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


@pytest.mark.parametrize("optimiser", ["adamw", "schedule-free", "prodigy"])
def test_every_optimiser_learns_and_is_continued_bit_for_bit(optimiser: str, tmp_path: Path) -> None:
    rate = 1.0 if optimiser == "prodigy" else 0.05
    options = {"optimiser": optimiser, "learning_rate": rate, "ema": 0.0, "steps": 30, "warm_up": 0, "decay": "none"}
    settings = line_table(**options)
    whole = Loop(LineObjective([1.0]), settings, tmp_path / "whole", RECIPE)
    losses = [report.losses["loss"] for report in whole.run()]
    assert losses[-1] < 0.7 * losses[0]
    often = line_table(**options, checkpoint_minutes=1e-9, sample_minutes=1e-9)
    run = Loop(LineObjective([1.0]), often, tmp_path / "parts", RECIPE).run()
    for _ in range(11):
        next(run)
    run.close()
    resumed = Loop(LineObjective([1.0]), settings, tmp_path / "parts", RECIPE)
    assert resumed.resume() == 11
    list(resumed.run())
    assert same(state(tmp_path / "whole"), state(tmp_path / "parts"))


def test_schedule_free_shows_and_saves_its_average(tmp_path: Path) -> None:
    settings = line_table(optimiser="schedule-free", ema=0.0, steps=20)
    made = Loop(LineObjective([1.0]), settings, tmp_path, RECIPE)
    list(made.run())
    layer = made.trained["line"].module
    during = [parameter.detach().clone() for parameter in layer.parameters()]
    with made.averaged():
        averaged = [parameter.detach().clone() for parameter in layer.parameters()]
    after = [parameter.detach() for parameter in layer.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(during, after, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(during, averaged, strict=True))


def test_rates_by_the_beginning_of_a_name() -> None:
    module = Autoencoder(CONFIG)
    settings = line_table(rates={"encoder": 0.5, "encoder.conv_in": 2.0, "decoder": 0.0})
    groups = make_optimiser(module, settings, {"quant_conv": 0.1, "encoder": 9.0}).param_groups
    rates = {id(parameter): group["lr"] / 0.05 for group in groups for parameter in group["params"]}
    wanted = {"encoder.conv_in": 2.0, "encoder.conv_out": 0.5, "quant_conv": 0.1, "post_quant_conv": 1.0}
    for name, factor in wanted.items():
        assert rates[id(module.get_parameter(f"{name}.weight"))] == pytest.approx(factor)
    assert not module.decoder.conv_in.weight.requires_grad and id(module.decoder.conv_in.weight) not in rates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": {"encodr": 0.5}}, "no parameter's name begins with 'encodr': did you mean 'encoder'"),
        ({"rates": {"encoder": -1.0}}, "encoder is -1.0: it must be a number of at least 0"),
        ({"rates": dict.fromkeys(("encoder", "decoder", "quant_conv", "post_quant_conv"), 0.0)}, "nothing learns"),
        ({"optimiser": "schedule-free", "ema": 0.5}, "set ema = 0"),
        ({"optimiser": "adamw8bit"}, "runs on a GPU alone"),
        ({"optimiser": "prodigy", "rates": {"encoder": 0.5}}, "one rate for all"),
    ],
)
def test_what_cannot_be_optimised_so_is_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_optimiser(Autoencoder(CONFIG), line_table(**options))


def test_an_average_of_what_learns_on_the_cpu() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    average = Average(layer, 0.5, on_cpu=True)
    assert average.state().keys() == {"weight"} and average.state()["weight"].device.type == "cpu"
