"""Optimiser pieces: parameter groups, the learning-rate schedule, and the running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rein.training.recipe import LoopTable


def adamw(module: nn.Module, table: LoopTable) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019). Weight decay acts on matrices and kernels, not on biases and norms."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": table.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, lr=table.learning_rate, betas=table.betas, fused=True)


def rate_factor(step: int, table: LoopTable) -> float:
    """Factor of the learning rate at `step` (0 first): linear warm-up, a plateau, the chosen decay to 0 at the end."""
    warm = min(1.0, (step + 1) / table.warm_up) if table.warm_up else 1.0
    start = table.decay_from * table.steps
    if table.decay == "none" or step < start:
        return warm
    rest = (step - start) / max(1.0, table.steps - start)
    return warm * (1.0 - rest if table.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * rest)))


class Average:
    """Exponential moving average of a module's parameters, in fp32, kept beside them.

    The decay rises from 0 with the step (1 + n) / (10 + n), so that early averages do not remember the initialisation.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors: dict[str, Tensor] = {n: p.detach().clone().float() for n, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the weights after `step` (1 first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(module.named_parameters())
        kept = list(self.tensors.values())
        torch._foreach_lerp_(kept, [parameters[name].float() for name in self.tensors], 1.0 - decay)

    def state(self) -> dict[str, Tensor]:
        """The averaged tensors by parameter name."""
        return self.tensors

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for name, kept in self.tensors.items():
            kept.copy_(tensors[name])


@torch.no_grad()
def swap(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put `tensors` into the module's parameters and return what stood there, to be swapped back."""
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for name, parameter in module.named_parameters():
        parameter.copy_(tensors[name])
    return before
