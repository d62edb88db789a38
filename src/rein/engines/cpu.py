"""Networks laid out in memory as the CPU's matrix libraries want them. Names and values of the weights stay.

Small feature maps leave convolutions little to compute, and at every call much of their time goes to sorting weights
into the blocks that oneDNN computes with. Here they are sorted once.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rein.nn.order import put_in_order, waits

MOST_SORTED = 2**27
"""Sorted weights are a second copy, and reordering takes time. Networks with more (512 MiB in float32) keep what was
read: they are mostly busy with large maps, where the order of weights was measured to make no difference."""


def lay_out(module: nn.Module, sort: bool = False) -> nn.Module:
    """Lay out the weights of `module`, in place, for inference where they are; returns it.

    Convolutions run channels last on every device. On the CPU the weights of linear layers are stored transposed, which
    PyTorch shows as before, and with `sort` float32 convolutions become `SortedConv2d` and `PointwiseConv2d`: worth its
    time for a network that is called many times. Neither is done with more than `MOST_SORTED` weights. Convolutions
    that wait for their first call (`rein.nn.order`) go on waiting, unless they are sorted.
    """
    for layer in module.modules():
        if not waits(layer):
            put_in_order(layer)
    if any(parameter.device.type != "cpu" for parameter in module.parameters()):
        return module
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if sum(layer.weight.numel() for layer in linear) <= MOST_SORTED:
        for layer in linear:
            layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t(), layer.weight.requires_grad)
    if sort and sorting_available() and _weights_to_sort(module) <= MOST_SORTED:
        _replace_convolutions(module)
    return module


def sorting_available() -> bool:
    """Whether this build of PyTorch can keep weights sorted by oneDNN, and the processor is of the x86 kind."""
    sort, convolve = (torch._C._nn, "mkldnn_reorder_conv2d_weight"), (torch.ops.mkldnn, "_convolution_pointwise")
    there = torch.backends.mkldnn.is_available() and hasattr(*sort) and hasattr(*convolve)
    return there and platform.machine() in ("x86_64", "AMD64")


class _SameConv2d(nn.Conv2d):
    """A convolution that shares the parameters of another."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__(plain.in_channels, plain.out_channels, 1, device="meta")
        for name in ("kernel_size", "stride", "padding", "dilation", "groups", "weight", "bias"):
            setattr(self, name, getattr(plain, name))
        self.train(plain.training)


class SortedConv2d(_SameConv2d):
    """A convolution that keeps its weights in oneDNN's order beside them; they are sorted at the first call for a size.

    It acts in inference mode. Elsewhere it is an ordinary convolution.
    """

    _sorted: Any = None
    _sorted_for: tuple[Any, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_inference_mode_enabled() or x.dtype != torch.float32:
            return super().forward(x)
        # A weight that was changed in place, or replaced, is sorted again. Inference tensors do not count changes.
        version = 0 if self.weight.is_inference() else self.weight._version
        state = (id(self.weight), version, x.shape[2], x.shape[3], *self.padding)
        if state != self._sorted_for:
            self._sorted, self._sorted_for = self._sort(x), state
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self._sorted, self.bias, *geometry, "none", [], "")
        return out

    def _sort(self, x: Tensor) -> Any:
        weight = self.weight.detach().contiguous().to_mkldnn()
        sort: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        return sort(weight, self.padding, self.stride, self.dilation, self.groups, list(x.shape))


class PointwiseConv2d(_SameConv2d):
    """A 1x1 convolution computed as a matrix product over the pixels, which takes less time to start."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__(plain)
        transposed = plain.weight.detach().flatten(1).t().contiguous().t()
        self.weight = nn.Parameter(transposed[:, :, None, None], plain.weight.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)


def _replaceable(layer: nn.Module) -> bool:
    return (
        type(layer) is nn.Conv2d
        and layer.weight.dtype == torch.float32
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and layer.groups == 1
    )


def _pointwise(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == layer.stride == (1, 1) and layer.padding == (0, 0)


def _weights_to_sort(module: nn.Module) -> int:
    return sum(
        layer.weight.numel()
        for layer in module.modules()
        if _replaceable(layer) and isinstance(layer, nn.Conv2d) and not _pointwise(layer)
    )


def _replace_convolutions(module: nn.Module) -> None:
    for name, layer in list(module.named_modules()):
        if name and _replaceable(layer) and isinstance(layer, nn.Conv2d):
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, (PointwiseConv2d if _pointwise(layer) else SortedConv2d)(layer))
