"""What the loop needs to know of a thing that is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

Losses = Mapping[str, Tensor]
"""Named scalars; "loss" is the one that is minimised, the others are shown."""


@dataclass(frozen=True)
class Batch:
    """What one player's loss is computed from, a function of the seed and the step alone.

    `indices`: picture numbers (B,) on the CPU. `generator`: on the device of the training.
    """

    step: int
    indices: Tensor
    generator: torch.Generator


@dataclass(frozen=True)
class Player:
    """A module with its own optimiser. Most objectives have one; an adversarial one has two, which move in turn."""

    name: str
    module: nn.Module
    loss: Callable[[nn.Module, Batch], Losses]
    starts: int = 0
    """First step (0 first) at which it moves."""
    averaged: bool = True
    """Whether a running average of its weights is kept."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Factors of the learning rate by the beginning of a parameter's name, before those of the recipe."""


class Uncompiled(nn.Module):
    """Calls a module's forward directly, past its compiled form, which would be compiled again for other shapes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any) -> Any:
        return self.module.forward(*inputs)


class Objective(Protocol):
    """One kind of training. The loop moves its players; the objective knows the data and what to save."""

    name: str

    def players(self) -> list[Player]:
        """The modules that are trained, in the order in which they move within a step."""
        ...

    def place(self, device: torch.device) -> None:
        """Move what every step reads to the device of the training; called once, before the players move there."""
        ...

    def size(self) -> int:
        """How many training pictures there are."""
        ...

    def sample(self) -> Image.Image | None:
        """A sheet that shows the present state, drawn from fixed seeds."""
        ...

    def validate(self) -> dict[str, float]:
        """Numbers on held-out data, from fixed seeds."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was trained into the model folder. The modules hold the averaged weights when this is called."""
        ...


@runtime_checkable
class Named(Protocol):
    """An objective that can tell its pictures apart."""

    def picture(self, index: int) -> str:
        """What messages call a picture."""
        ...
