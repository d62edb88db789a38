"""Costs counted from shapes, against the same networks that really run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rein.nn.unet import UNet
from rein.pipeline.shapes import Cost, cost_of, decoder_cost, encoder_cost, unet_cost
from tests.pipeline.small import SPECS, networks


def on_meta(network: nn.Module, x: Tensor, call: Callable[[], Tensor]) -> Cost:
    return cost_of(network, call, (x,))


def test_values_by_hand() -> None:
    """Input, the first layer's result, the second's: never more than two alive besides the input, which stays."""
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(8, 100), nn.Linear(100, 50), nn.Linear(50, 2))
        x = torch.empty(3, 8)
    cost = on_meta(network, x, lambda: network(x))
    assert cost.operations == 2 * 3 * (8 * 100 + 100 * 50 + 50 * 2)
    assert cost.bytes == 4 * 3 * (8 + 100 + 50)


def test_views_and_weights_take_nothing_and_what_is_done_with_goes() -> None:
    with torch.device("meta"):
        network = nn.Linear(4, 4, bias=False)
        x = torch.empty(10, 4)

    def call() -> Tensor:
        first = x + 1
        second = first.t().reshape(4, 10).t()  # a view
        del first
        return second @ network.weight.t() + network.weight.sum()

    assert on_meta(network, x, call).bytes == pytest.approx(4 * (40 + 40 + 40 + 1), abs=4 * 40)
    loop_costs = []
    for times in (2, 50):

        def again(times: int = times) -> Tensor:
            value = x
            for _ in range(times):
                value = value * 2
            return value

        loop_costs.append(on_meta(network, x, again).bytes)
    assert loop_costs[0] == loop_costs[1] == 4 * 40 * 3


def test_attention_is_counted_without_its_table() -> None:
    with torch.device("meta"):
        network = nn.Linear(1, 1)
        query, key = torch.empty(2, 4, 1000, 8), torch.empty(2, 4, 500, 8)
    attend = nn.functional.scaled_dot_product_attention
    cost = cost_of(network, lambda: attend(query, key, key), (query, key))
    assert cost.operations == 2 * (2 * 2 * 4 * 1000 * 500 * 8)
    assert cost.bytes == 4 * 2 * 4 * 8 * (1000 + 500 + 1000)


@pytest.mark.parametrize("family", sorted(SPECS))
def test_operations_are_those_of_the_network_that_runs(family: str) -> None:
    spec = SPECS[family]
    unet, autoencoder, _ = networks(spec)
    x = torch.zeros(2, spec.unet.in_channels, 8, 8)
    context = torch.zeros(2, 12, spec.unet.context_width)
    pooled = torch.zeros(2, spec.unet.pooled_width) if spec.unet.pooled_width else None
    sizes = torch.zeros(2, spec.unet.size_ids) if spec.unet.size_ids else None
    for run, cost in (
        (lambda: unet(x, torch.zeros(2), context, pooled, sizes), unet_cost(spec, torch.float32, 2, 8, 8, 12)),
        (lambda: autoencoder.decode(x[:1, :4]), decoder_cost(spec, torch.float32, 8, 8)),
    ):
        # PyTorch's counter does not know the CPU's fused attention.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run()
        assert cost.operations == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_memory_grows_with_the_size_and_halves_with_half_precision() -> None:
    spec = SPECS["sd1"]
    small, large = (decoder_cost(spec, torch.float32, side, side) for side in (16, 32))
    assert large.bytes == pytest.approx(4 * small.bytes, rel=0.02)
    assert decoder_cost(spec, torch.float16, 32, 32).bytes == pytest.approx(large.bytes / 2, rel=0.05)
    assert encoder_cost(spec, torch.float32, 32, 32).bytes == pytest.approx(large.bytes, rel=0.5)
    rows = [unet_cost(spec, torch.float32, count, 16, 16, 12).bytes for count in (1, 2)]
    assert rows[1] == pytest.approx(2 * rows[0], rel=0.05)


def test_no_weights_are_made() -> None:
    """SD1.5's U-Net at a size beyond this machine, in the time and memory of its shapes."""
    spec = replace(SPECS["sd1"], unet=replace(SPECS["sd1"].unet, channels=(320, 640, 1280, 1280)))
    cost = unet_cost(spec, torch.float32, 2, 512, 512, 77)
    assert cost.bytes > 10e9
    with torch.device("meta"):
        assert all(parameter.is_meta for parameter in UNet(spec.unet).parameters())
