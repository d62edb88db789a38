"""Lines and arcs between tensors."""

from __future__ import annotations

import math

import pytest
import torch

from rein.diffusion.interpolation import lerp, slerp


def unit_noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_quarter_circle() -> None:
    start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for share in (0.0, 0.25, 0.5, 1.0):
        angle = share * math.pi / 2
        expected = torch.tensor([math.cos(angle), math.sin(angle)])
        assert torch.allclose(slerp(start, end, share, 0), expected, atol=1e-6)


def test_each_vector_turns_by_its_own_angle() -> None:
    start = torch.tensor([[1.0, 1.0], [0.0, 0.0]])  # columns: one vector each
    end = torch.tensor([[0.0, 0.5], [1.0, math.sqrt(0.75)]])  # 90 and 60 degrees away
    half = slerp(start, end, 0.5, 0)
    angles = torch.atan2(half[1], half[0]) * 180 / math.pi
    assert angles.tolist() == pytest.approx([45.0, 30.0], abs=1e-4)


@pytest.mark.parametrize("dim", [1, (0, 1, 2)])
def test_noise_keeps_its_spread_on_the_way_and_both_ends(dim: int | tuple[int, ...]) -> None:
    start, end = unit_noise(1, 4, 64, 64), unit_noise(2, 4, 64, 64)
    for share in (0.2, 0.5, 0.8):
        assert float(slerp(start, end, share, dim).std()) == pytest.approx(1, abs=0.02)
        assert float(lerp(start, end, share).std()) < 0.9
    assert torch.equal(slerp(start, end, 0.0, dim), start)
    assert torch.equal(slerp(start, end, 1.0, dim), end)


def test_parallel_vectors_go_along_the_line() -> None:
    start = unit_noise(1, 4, 8, 8)
    assert torch.equal(slerp(start, start, 0.3, 1), lerp(start, start, 0.3))
    near = start + 1e-3 * unit_noise(2, 4, 8, 8)
    assert torch.equal(slerp(start, near, 0.25, 1), lerp(start, near, 0.25))


def test_single_parallel_and_opposite_columns_stay_finite() -> None:
    start = unit_noise(1, 4, 1, 64)  # of columns with one number, every pair is parallel or opposite
    end = unit_noise(2, 4, 1, 64)
    assert torch.allclose(slerp(start, end, 0.3, 1), lerp(start, end, 0.3), atol=1e-5)
