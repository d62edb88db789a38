"""The smallest real trainings: an autoencoder on two dozen drawn pictures, and one linear layer to follow by hand.

Run as a program, `python -m tests.training.tiny FOLDER PART`, it trains the autoencoder and ends as a crash would: it
kills itself some steps after it has written a state.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rein.formats.tensors import read_tensors
from rein.nn.specs import AutoencoderConfig
from rein.training.autoencoder import AutoencoderObjective
from rein.training.loop import Loop
from rein.training.objective import Batch, Losses, Player
from rein.training.state import FILE_NAME
from rein.training.tables import AutoencoderTable, LoopTable

CONFIG = AutoencoderConfig(
    latent_channels=3, channels=(16, 16), blocks_per_level=1, norm_groups=0, middle_attention=False, patch=2
)
SIDE = 32
RECIPE = "a recipe's hash"
NEVER = 1e6
"""Minutes that no test lasts: between checkpoints that are not wanted."""


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Discs of one colour on another, (count, 32, 32, 3)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    made = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for picture in made:
        middle, radius = random.uniform(8, 24, 2), random.uniform(4, 12)
        inside = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2
        picture[:] = random.integers(0, 256, 3)
        picture[inside] = random.integers(0, 256, 3)
    return made


def table(**options: Any) -> AutoencoderTable:
    """Twelve steps in fp32 without a discriminator, unless the options say otherwise."""
    values: dict[str, Any] = {
        "objective": "autoencoder",
        "steps": 12,
        "batch_size": 4,
        "learning_rate": 2e-3,
        "warm_up": 3,
        "precision": "fp32",
        "adversarial_from": 1.0,
        "discriminator_channels": 16,
        "checkpoint_minutes": NEVER,
        "sample_minutes": NEVER,
        "ema": 0.9,
        "seed": 5,
    }
    return AutoencoderTable(**values | options)


def objective(settings: AutoencoderTable) -> AutoencoderObjective:
    return AutoencoderObjective(CONFIG, settings, pictures(24), pictures(6, seed=1))


def loop(folder: Path, settings: AutoencoderTable) -> Loop:
    return Loop(objective(settings), settings, folder, RECIPE)


def state(folder: Path) -> dict[str, Tensor]:
    """The tensors of the saved state, in memory of their own."""
    return {name: value.clone() for name, value in read_tensors(folder / FILE_NAME).items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two states are equal to the last bit."""
    assert first.keys() == second.keys() and first
    return all(torch.equal(first[name], second[name]) for name in first)


class LineObjective:
    """One linear layer on fixed numbers. Each step's loss is scaled by its factor in `scales`; batches are kept."""

    name = "line"

    def __init__(self, scales: list[float], count: int = 10) -> None:
        generator = torch.Generator().manual_seed(7)
        self.inputs = torch.randn(count, 6, generator=generator)
        self.targets = torch.randn(count, 3, generator=generator)
        self.layer = nn.Linear(6, 3)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.scales = scales
        self.batches: list[list[int]] = []

    def players(self) -> list[Player]:
        return [Player("line", self.layer, self._loss)]

    def place(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def size(self) -> int:
        return len(self.inputs)

    def _loss(self, module: nn.Module, batch: Batch) -> Losses:
        self.batches.append(batch.indices.tolist())
        error = functional.mse_loss(module(self.inputs[batch.indices]), self.targets[batch.indices])
        return {"loss": error * self.scales[min(batch.step, len(self.scales) - 1)]}

    def sample(self) -> None:
        return None

    def validate(self) -> dict[str, float]:
        return {"error": float(functional.mse_loss(self.layer(self.inputs), self.targets))}

    def save(self, folder: Path) -> None:
        (folder / "weight.txt").write_text(repr(self.layer.weight.tolist()))


def line_table(**options: Any) -> LoopTable:
    values: dict[str, Any] = {"steps": 8, "batch_size": 4, "learning_rate": 0.05, "warm_up": 2, "precision": "fp32"}
    return LoopTable(**values | {"checkpoint_minutes": NEVER, "sample_minutes": NEVER} | options)


def crash(folder: Path, adversarial_from: float) -> Iterator[str]:
    """Train, keep a state at step 7, and die at step 9 by SIGKILL, which nothing can catch."""
    settings = table(adversarial_from=adversarial_from, checkpoint_minutes=1e-9)
    made = loop(folder, settings)
    for report in made.run():
        yield f"step {report.step} saved {report.saved}"
        if report.step == 7:
            made.table = settings.model_copy(update={"checkpoint_minutes": NEVER})
        if report.step == 9:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in crash(Path(sys.argv[1]), float(sys.argv[2])):
        print(line, flush=True)
