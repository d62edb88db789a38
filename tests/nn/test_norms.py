"""Group norms with statistics from elsewhere."""

from __future__ import annotations

import torch
from torch import nn

from rein.nn.norms import fixed_norms, group_norms, recorded_norms


def network() -> nn.Sequential:
    torch.manual_seed(1)
    made = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 6, 1), nn.GroupNorm(3, 6))
    for layer in group_norms(made):
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return made.requires_grad_(False)


def maps(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    # Bright on the left and dark on the right, with more contrast on the left.
    slope = torch.linspace(3, 0.5, shape[-1])
    return torch.randn(*shape, generator=generator) * slope + slope


def test_with_their_own_statistics_they_are_plain_norms() -> None:
    made, x = network(), maps(2, 3, 10, 16)
    plain = made(x)
    with recorded_norms(made) as statistics:
        assert torch.equal(made(x), plain)
    assert [len(statistics[layer]) for layer in group_norms(made)] == [1, 1]
    with fixed_norms(made, statistics):
        assert torch.allclose(made(x), plain, atol=1e-5)


def test_statistics_pooled_over_parts_make_parts_agree() -> None:
    made, x = network(), maps(1, 3, 10, 16)
    left, right = x[..., :8], x[..., 8:]
    first = nn.Sequential(*list(made)[:2])
    apart = torch.cat([first(left), first(right)], dim=-1)
    with recorded_norms(first) as statistics:
        first(left)
        first(right)
    with fixed_norms(first, statistics):
        joined = torch.cat([first(left), first(right)], dim=-1)
    # Of a first norm they are exact; deeper ones see what the parts' own statistics made of it.
    assert torch.allclose(joined, first(x), atol=1e-5)
    assert (apart - first(x)).abs().max() > 0.3


def test_afterwards_all_is_as_it_was() -> None:
    made, x = network(), maps(1, 3, 4, 4)
    plain = made(x)
    with recorded_norms(made) as statistics:
        made(5 * x)
    with fixed_norms(made, statistics):
        assert (made(x) - plain).abs().max() > 0.1
    assert torch.equal(made(x), plain)
    with fixed_norms(made, {}):
        assert torch.equal(made(x), plain)
    half = network().to(torch.bfloat16)
    with fixed_norms(half, statistics):
        assert half(x.bfloat16()).dtype == torch.bfloat16
