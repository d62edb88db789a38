"""Every kind of adapter against its formula written from the paper, and damaged ones refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rein.formats.adapters_names import Target
from rein.nn.adapters import Change, bias_change, check_fit, weight_change
from tests.formats.random_adapters import KINDS
from tests.nn.injection import reference

SHAPES = {"linear": (8, 12), "pointwise": (8, 12, 1, 1), "convolution": (8, 6, 3, 3)}


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _error(change: Change, weight: Tensor) -> float:
    ours, theirs = weight_change(change, weight), reference(change, weight)
    assert ours is not None and ours.shape == weight.shape and ours.dtype == torch.float32
    return float(np.abs(ours.double().numpy() - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_its_formula(kind: str, shape: str) -> None:
    target = Target(SHAPES[shape], bias=True)
    change = KINDS[kind](torch.Generator().manual_seed(3), target)
    check_fit(change, target.weight, target.bias)
    assert _error(change, _random(*target.weight)) < 1e-6


@pytest.mark.parametrize(
    "tensors",
    [
        {"w1": _random(4, 3), "w2": _random(2, 4)},
        {"w1_a": _random(4, 2), "w1_b": _random(2, 3), "w2": _random(2, 4)},
        {"w1_a": _random(4, 2), "w1_b": _random(2, 3), "w2_a": _random(2, 1), "w2_b": _random(1, 4)},
    ],
    ids=["whole", "first in halves", "both in halves"],
)
def test_lokr_in_every_division(tensors: dict[str, Tensor]) -> None:
    assert _error(Change("lokr", tensors, 0.5), _random(8, 12)) < 1e-6


def test_lokr_with_a_whole_kernel() -> None:
    assert _error(Change("lokr", {"w1": _random(4, 3), "w2": _random(2, 2, 3, 3)}), _random(8, 6, 3, 3)) < 1e-6


@pytest.mark.parametrize("side", [(8, 1), (1, 12)])
@pytest.mark.parametrize("kind", ["lora", "loha", "lokr", "full"])
def test_dora_over_any_kind_by_rows_and_by_columns(kind: str, side: tuple[int, int]) -> None:
    change = KINDS[kind](torch.Generator().manual_seed(4), Target((8, 12), bias=False))
    change = Change(kind, {**change.tensors, "magnitude": _random(*side).abs() + 0.5}, change.scale)
    weight = _random(8, 12)
    assert _error(change, weight) < 2e-6
    delta = weight_change(change, weight)
    assert delta is not None
    lengths = (weight + delta).norm(dim=1 if side[1] == 1 else 0)
    assert torch.allclose(lengths, change.tensors["magnitude"].flatten(), rtol=1e-5)


def test_ia3_scales_what_goes_in_or_what_comes_out() -> None:
    weight, x, rows, columns = _random(8, 12), _random(5, 12), _random(8), _random(12)
    outward, inward = (
        weight_change(Change("ia3", {"gain": gain}), weight) for gain in (rows[:, None], columns[None, :])
    )
    assert outward is not None and inward is not None
    assert torch.allclose(x @ (weight + outward).t(), (x @ weight.t()) * (1 + rows), atol=1e-5)
    assert torch.allclose(x @ (weight + inward).t(), (x * (1 + columns)) @ weight.t(), atol=1e-5)


def test_biases() -> None:
    bias, own, by_scale, gain = (_random(8, seed=seed) for seed in range(4))
    tensors = {"up": _random(8, 2), "down": _random(2, 12), "bias": own, "up_bias": by_scale, "bias_gain": gain}
    delta = bias_change(Change("lora", tensors, 0.5), bias)
    assert delta is not None
    assert torch.allclose(delta, own + 0.5 * by_scale + gain * bias)
    assert weight_change(Change("bias", {"bias": own}), _random(8, 12)) is None
    assert bias_change(Change("full", {"difference": _random(8, 12)}), bias) is None


_BROADCAST = [(1, "a", (8, 2)), (1, "b", (2, 12)), (2, "a", (1, 2)), (2, "b", (2, 12))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change("lora", {"up": _random(8, 2), "down": _random(3, 12)}), "do not fit one another"),
        (Change("lora", {"up": _random(8, 2), "down": _random(2, 11)}), r"give \(8, 11\) where \(8, 12\)"),
        (Change("lora", {"up": _random(12, 2), "down": _random(2, 8)}), r"give \(12, 8\)"),
        (Change("lokr", {"w1": _random(2, 2), "w2": _random(5, 6)}), r"give \(10, 12\)"),
        (Change("full", {"difference": _random(12, 8)}), r"give \(12, 8\)"),
        (Change("full", {"difference": _random(8, 12), "magnitude": _random(7, 1)}), "magnitude"),
        (Change("ia3", {"gain": _random(7, 1)}), "one number a row or a column"),
        (Change("ia3", {"gain": _random(1, 1)}), "one number a row or a column"),
        (
            Change("loha", {f"w{n}_{side}": _random(*shape) for n, side, shape in _BROADCAST}),
            r"factors \(8, 12\) and \(1, 12\)",
        ),
        (Change("bias", {"bias": _random(7)}), r"its bias \(7,\) is not \(8,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: Change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fit(change, (8, 12), bias=True)


def test_a_bias_needs_a_layer_with_one() -> None:
    with pytest.raises(ValueError, match="does not have"):
        check_fit(Change("bias", {"bias": _random(8)}), (8, 12), bias=False)
