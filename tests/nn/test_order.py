"""Convolutions whose weights are put in order when they are first called."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from rein.nn.order import order_when_called, put_in_order, waits


def convolution(seed: int = 0) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(6, 8, 3, padding=1).eval().requires_grad_(False)


def picture() -> Tensor:
    return torch.randn(1, 6, 5, 5, generator=torch.Generator().manual_seed(1))


def ordered(layer: nn.Conv2d) -> bool:
    return layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_first_call_puts_the_weights_in_order_once_and_says_so() -> None:
    plain, layer, told = convolution(), convolution(), []
    order_when_called(layer, lambda: told.append(ordered(layer)))
    kept = layer.weight
    assert waits(layer) and not ordered(layer)
    with torch.inference_mode():
        answers = [layer(picture()) for _ in range(2)]
    assert ordered(layer) and not waits(layer) and told == [True]
    assert layer.weight is kept and torch.equal(layer.weight, plain.weight)
    assert all(torch.allclose(answer, plain(picture()), atol=1e-6) for answer in answers)


def test_a_copy_waits_by_itself() -> None:
    layer = convolution()
    order_when_called(layer)
    other = copy.deepcopy(layer)
    other(picture())
    assert (waits(layer), waits(other)) == (True, False)
    assert ordered(other) and not ordered(layer) and not other._forward_pre_hooks


def test_what_was_written_before_the_first_call_counts() -> None:
    layer = convolution()
    order_when_called(layer)
    layer.weight.zero_()
    assert torch.equal(layer(picture())[0, :, 0, 0], layer.bias)  # type: ignore[arg-type]


def test_threads_that_call_together_all_get_the_answer() -> None:
    layer, told = convolution(), []
    order_when_called(layer, lambda: told.append(1))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: layer(picture()), range(8)))
    assert told == [1] and all(torch.equal(answer, answers[0]) for answer in answers)


def test_weights_made_in_inference_mode_and_others_that_need_no_order() -> None:
    with torch.inference_mode():
        layer = convolution()
    put_in_order(layer)
    assert ordered(layer)
    linear = nn.Linear(3, 4)
    before = linear.weight.data_ptr()
    put_in_order(linear)
    pixelwise = nn.Conv2d(3, 4, 1)
    place = pixelwise.weight.data_ptr()
    put_in_order(pixelwise)
    assert (linear.weight.data_ptr(), pixelwise.weight.data_ptr()) == (before, place)
