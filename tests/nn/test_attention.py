"""Attention and its probe point, beside sums written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rein.nn.attention import Attention, PixelAttention, SpatialTransformer, attention_maps
from tests.nn.peers import relative_error

WIDTH, HEADS = 24, 3


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(1)
    return Attention(WIDTH, 10, HEADS)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    """Queries (2, 5, width) and a context (2, 7, 10)."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, 5, WIDTH, generator=generator) * 3, torch.randn(2, 7, 10, generator=generator) * 3


def plain_maps(attention: Attention, x: Tensor, context: Tensor) -> Tensor:
    """softmax(q k^T / sqrt d) head by head and picture by picture, in float64."""
    query, key = (x @ attention.to_q.weight.T).double(), (context @ attention.to_k.weight.T).double()
    size = WIDTH // HEADS
    maps = torch.empty(len(x), HEADS, x.shape[1], context.shape[1], dtype=torch.float64)
    for picture in range(len(x)):
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = torch.einsum("qd,kd->qk", query[picture, :, part], key[picture, :, part]) / math.sqrt(size)
            weights = (scores - scores.amax(dim=1, keepdim=True)).exp()
            maps[picture, head] = weights / weights.sum(dim=1, keepdim=True)
    return maps


@torch.no_grad()
def test_the_maps_of_a_probe_are_the_softmax(attention: Attention, inputs: tuple[Tensor, Tensor]) -> None:
    x, context = inputs
    assert attention.probe is None
    expected = attention(x, context)
    maps: list[Tensor] = []
    attention.probe = lambda query, key: maps.append(attention_maps(query, key))
    probed = attention(x, context)
    assert torch.equal(probed, expected)
    assert len(maps) == 1 and maps[0].shape == (2, HEADS, 5, 7)
    reference = plain_maps(attention, x, context)
    assert relative_error(maps[0].double(), reference) <= 1e-5
    assert reference.std() > 0.05  # not all alike, so that a wrong scale would show


@torch.no_grad()
def test_the_output_is_the_maps_times_the_values(attention: Attention, inputs: tuple[Tensor, Tensor]) -> None:
    x, context = inputs
    maps = plain_maps(attention, x, context)
    values = (context @ attention.to_v.weight.T).double().unflatten(2, (HEADS, -1))
    mixed = torch.einsum("bhqk,bkhd->bqhd", maps, values).flatten(2).float()
    out = attention.to_out[0]
    assert isinstance(out, nn.Linear) and out.bias is not None
    assert relative_error(attention(x, context), mixed @ out.weight.T + out.bias) <= 1e-5


@torch.no_grad()
def test_known_keys_give_the_same_output_and_the_same_probe(
    attention: Attention, inputs: tuple[Tensor, Tensor]
) -> None:
    x, context = inputs
    seen: list[tuple[Tensor, Tensor]] = []
    attention.probe = lambda query, key: seen.append((query, key))
    expected = attention(x, context)
    assert torch.equal(attention(x, known=attention.keys_and_values(context)), expected)
    assert torch.equal(seen[0][0], seen[1][0]) and torch.equal(seen[0][1], seen[1][1])


@torch.no_grad()
def test_without_a_context_the_input_answers_itself() -> None:
    torch.manual_seed(1)
    attention, x = Attention(WIDTH, WIDTH, HEADS), torch.randn(2, 5, WIDTH)
    assert torch.equal(attention(x), attention(x, x))


@torch.no_grad()
def test_maps_of_half_precision_sum_to_one() -> None:
    query, key = torch.randn(2, 1, 2, 9, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    maps = attention_maps(query, key)
    assert maps.dtype == torch.float32
    assert torch.allclose(maps.sum(dim=-1), torch.ones(1, 2, 9), atol=1e-6)


@torch.no_grad()
def test_the_middle_of_the_autoencoder_has_a_probe_too() -> None:
    torch.manual_seed(1)
    attention, x = PixelAttention(16, 4, 1e-6), torch.randn(1, 16, 3, 4)
    expected = attention(x)
    seen: list[torch.Size] = []
    attention.probe = lambda query, key: seen.extend([query.shape, key.shape])
    assert torch.equal(attention(x), expected)
    assert seen == [(1, 1, 12, 16)] * 2


@torch.no_grad()
def test_linear_and_convolutional_projection_are_the_same_map() -> None:
    torch.manual_seed(1)
    linear = SpatialTransformer(WIDTH, 10, HEADS, 1, True, 4)
    convolution = SpatialTransformer(WIDTH, 10, HEADS, 1, False, 4)
    state = linear.state_dict()
    for name in ("proj_in.weight", "proj_out.weight"):
        state[name] = state[name][:, :, None, None]
    convolution.load_state_dict(state)
    x, context = torch.randn(2, WIDTH, 3, 5), torch.randn(2, 7, 10)
    assert relative_error(convolution(x, context), linear(x, context)) <= 1e-6
