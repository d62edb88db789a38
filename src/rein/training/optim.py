"""Optimiser pieces: parameter groups, the learning-rate schedule, and the running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rein.errors import InputError, nearest, quoted, require
from rein.training.sharding import local, parted
from rein.training.tables import LoopTable, OptimiserName

FACTOR = "factor"
"""A parameter group's key for what multiplies the learning rate."""


def make_optimiser(module: nn.Module, table: LoopTable, rates: Mapping[str, float] | None = None) -> Optimizer:
    """The optimiser of a table for the parameters that learn.

    Weight decay acts on matrices and kernels, not on biases and norms. A parameter whose factor is 0 no longer learns.

    Args:
        rates: factors of the learning rate by the beginning of a parameter's name; those of the table go before them.

    Raises:
        InputError: nothing learns, a beginning that no parameter has, or an optimiser that needs another device.
        MissingExtraError: the optimiser's library is not installed.
    """
    known = {**(rates or {}), **table.rates}
    _check_rates(module, table.rates)
    sorted_by: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        factor = _factor(name, known)
        if factor == 0:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            sorted_by.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    if not sorted_by:
        raise InputError("nothing learns: every factor in rates is 0")
    groups = [
        {
            "params": parameters,
            "weight_decay": table.weight_decay if matrix else 0.0,
            "lr": table.learning_rate * factor,
            FACTOR: factor,
        }
        for (factor, matrix), parameters in sorted(sorted_by.items(), key=lambda item: (item[0][0], not item[0][1]))
    ]
    return _OPTIMISERS[table.optimiser](groups, table)


def _factor(name: str, rates: Mapping[str, float]) -> float:
    """That of the longest beginning that the name has, 1 where it has none."""
    fitting = [start for start in rates if name == start or name.startswith(f"{start}.")]
    return rates[max(fitting, key=len)] if fitting else 1.0


def _check_rates(module: nn.Module, rates: Mapping[str, float]) -> None:
    names = [name for name, _ in module.named_parameters()]
    for start, factor in rates.items():
        if not any(_factor(name, {start: -1.0}) == -1.0 for name in names):
            beginnings = sorted({part for name in names for part in _beginnings(name)})
            raise InputError(f"rates: no parameter's name begins with {quoted(start)}: {nearest(start, beginnings)}")
        if not (math.isfinite(factor) and factor >= 0):
            raise InputError(f"rates: {start} is {factor}: it must be a number of at least 0")


def _beginnings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, min(4, len(parts)))]


Groups = list[dict[str, Any]]


def _adamw(groups: Groups, table: LoopTable) -> Optimizer:
    """Loshchilov & Hutter 2019."""
    return torch.optim.AdamW(groups, lr=table.learning_rate, betas=table.betas, fused=True)


def _adamw_8bit(groups: Groups, table: LoopTable) -> Optimizer:
    """Dettmers et al. 2022, by bitsandbytes."""
    if any(parameter.device.type != "cuda" for group in groups for parameter in group["params"]):
        raise InputError("optimiser adamw8bit runs on a GPU alone: choose adamw here")
    made: Optimizer = require("bitsandbytes", "optimisers").optim.AdamW8bit(
        groups, lr=table.learning_rate, betas=table.betas
    )
    return made


def _schedule_free(groups: Groups, table: LoopTable) -> Optimizer:
    """Defazio et al. 2024, by its authors. It averages the weights itself."""
    if table.ema:
        raise InputError("optimiser schedule-free averages the weights itself: set ema = 0")
    library = require("schedulefree", "optimisers")
    made: Optimizer = library.AdamWScheduleFree(groups, lr=table.learning_rate, betas=table.betas)
    made.train()  # type: ignore[attr-defined]
    return made


def _prodigy(groups: Groups, table: LoopTable) -> Optimizer:
    """Mishchenko & Defazio 2023, by its authors. It finds the rate itself, which then is a factor of it, usually 1."""
    if len({group[FACTOR] for group in groups}) > 1:
        raise InputError("optimiser prodigy finds one rate for all parameters: leave rates and text_rate out")
    library = require("prodigyopt", "optimisers")
    made: Optimizer = library.Prodigy(groups, lr=table.learning_rate, betas=table.betas)
    return made


_OPTIMISERS: dict[OptimiserName, Callable[[Groups, LoopTable], Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw_8bit,
    "schedule-free": _schedule_free,
    "prodigy": _prodigy,
}


def rate_factor(step: int, table: LoopTable) -> float:
    """Factor of the learning rate at `step` (0 first): linear warm-up, a plateau, the chosen decay to 0 at the end."""
    warm = min(1.0, (step + 1) / table.warm_up) if table.warm_up else 1.0
    start = table.decay_from * table.steps
    if table.decay == "none" or step < start:
        return warm
    rest = (step - start) / max(1.0, table.steps - start)
    return warm * (1.0 - rest if table.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * rest)))


class Average:
    """Exponential moving average of the parameters that learn, in fp32, kept beside them or on the CPU.

    The decay rises from 0 with the step (1 + n) / (10 + n), so that early averages do not remember the initialisation.
    """

    def __init__(self, module: nn.Module, decay: float, on_cpu: bool = False) -> None:
        self.decay = decay
        place = torch.device("cpu") if on_cpu else None
        self.tensors: dict[str, Tensor] = {
            name: value.detach().clone().to(place, torch.float32) for name, value in learning(module).items()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the weights after `step` (1 first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(module.named_parameters())
        kept = [local(value) for value in self.tensors.values()]
        now = [local(parameters[name].detach()).to(value.device, torch.float32) for name, value in self.tensors.items()]
        torch._foreach_lerp_(kept, now, 1.0 - decay)

    def state(self) -> dict[str, Tensor]:
        """The averaged tensors by parameter name."""
        return self.tensors

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for name, kept in self.tensors.items():
            kept.copy_(parted(tensors[name], kept))


def learning(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def swap(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put `tensors` into the module's parameters of these names and return what stood there, to be swapped back."""
    parameters = dict(module.named_parameters())
    before = {name: parameters[name].detach().clone() for name in tensors}
    for name, value in tensors.items():
        parameters[name].copy_(value)
    return before
