"""The order of convolutions' weights in memory: channels last, in which they compute on every device.

Ordering copies. Weights that are views of a mapped file may wait for it until their layer is first called: the network
is ready at once, and layers that are never called cost nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import nn

_WAITS = "waits_for_order"
_TURN = threading.Lock()
"""Several threads may call a layer for the first time together."""


def put_in_order(layer: nn.Module) -> None:
    """Make the layer's own weights of four dimensions channels last, in place; values stay."""
    with torch.inference_mode(False), torch.no_grad():
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.dim() != 4 or parameter.is_contiguous(memory_format=torch.channels_last):
                continue
            ordered = parameter.detach().contiguous(memory_format=torch.channels_last)
            if parameter.is_inference():  # may not be changed outside inference mode
                setattr(layer, name, nn.Parameter(ordered, requires_grad=False))
            else:
                parameter.data = ordered


def order_when_called(layer: nn.Module, then: Callable[[], None] = lambda: None) -> None:
    """Put the weights of `layer` in order just before its first call, and call `then` after that."""

    def order(called: nn.Module, _: object) -> None:
        with _TURN:
            called._forward_pre_hooks.pop(handle.id, None)  # of a deep copy, too, which has the same hooks
            if waits(called):
                put_in_order(called)
                delattr(called, _WAITS)
                then()

    handle = layer.register_forward_pre_hook(order)
    setattr(layer, _WAITS, True)


def waits(layer: nn.Module) -> bool:
    """Whether the weights of `layer` are put in order when it is called."""
    return getattr(layer, _WAITS, False)
