"""Small models and latents for the objectives that make another U-Net out of a model's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from rein.formats.checkpoint import LoadedModel, load_model
from rein.training.loop import Loop
from rein.training.objective import Objective
from rein.training.shown_data import ShownSet
from tests.pipeline.small import save_small
from tests.training.tiny import NEVER

SIDE = 4
CAPTIONS = [("a red apple", "an apple, flat style"), ("two green apples on a table",), ("a blue car",), ("a house",)]


_SAVED = TemporaryDirectory(prefix="rein-tests-")


@cache
def _saved(family: str) -> Path:
    return save_small(Path(_SAVED.name) / family, family, torch.float32)


def small_model(family: str) -> LoadedModel:
    """One of the small models of the pipeline's tests, in float32, in memory of its own."""
    return load_model(_saved(family))


def shown_set(channels: int, extra: int, count: int = 12) -> ShownSet:
    """Random latents (count, channels, 4, 4) and two of what may be shown beside each."""
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(count, channels, SIDE, SIDE, generator=generator)
    shown = torch.randn(count, 2, extra, SIDE, SIDE, generator=generator).clamp(-1, 1)
    return ShownSet(latents, shown, [CAPTIONS[index % len(CAPTIONS)] for index in range(count)])


def loop_values(**options: Any) -> dict[str, Any]:
    """What a table of a stage has besides its own options: a few steps in fp32, no state but the last."""
    values = {"steps": 4, "batch_size": 4, "learning_rate": 2e-3, "warm_up": 0, "precision": "fp32", "ema": 0.5}
    return values | {"checkpoint_minutes": NEVER, "sample_minutes": NEVER, "seed": 5} | options


def trained(folder: Path, make: Callable[[], Objective], table: Any, stop: int | None = None) -> Loop:
    """A loop run to its end, or left after `stop` steps with the state of that step saved."""
    loop = Loop(make(), table, folder, "a recipe's hash")
    loop.resume()
    for report in loop.run():
        if report.step == stop:
            loop._save(loop.seconds)
            break
    return loop


def weights(loop: Loop) -> dict[str, Tensor]:
    """What has been trained, in memory of its own."""
    return {name: value.clone() for name, value in loop.players[0].module.state_dict().items()}
