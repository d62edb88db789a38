"""The state of a run as one safetensors file: weights, averages, optimiser moments, step.

Nothing in it is executed when read.
No generator needs saving: every draw of the loop is a function of the seed and the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rein.errors import DamagedFileError, InputError
from rein.formats.tensors import read_header, read_tensors, write_tensors
from rein.training.optim import Average

FILE_NAME = "state.safetensors"


@dataclass
class Trained:
    """A player as the loop holds it: the bare module, its optimiser and the average of its weights."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    average: Average | None


def save_state(path: Path, trained: Mapping[str, Trained], step: int, seconds: float, recipe: str) -> None:
    """Write the state after `step` finished steps. The file under its final name is complete (see `write_tensors`)."""
    tensors: dict[str, Tensor] = {}
    for name, entry in trained.items():
        tensors |= {f"{name}/weights/{key}": value for key, value in entry.module.state_dict().items()}
        if entry.average is not None:
            tensors |= {f"{name}/average/{key}": value for key, value in entry.average.state().items()}
        for number, parameter in enumerate(_parameters(entry.optimiser)):
            for key, value in entry.optimiser.state.get(parameter, {}).items():
                tensors[f"{name}/optimiser/{number}/{key}"] = torch.as_tensor(value)
    kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_tensors(path, kept, {"step": str(step), "seconds": f"{seconds:.3f}", "recipe": recipe})


def load_state(path: Path, trained: Mapping[str, Trained], recipe: str) -> tuple[int, float]:
    """Put a saved state into the players. Returns the number of finished steps and the seconds they took.

    Raises:
        InputError: the state was made by another recipe.
        DamagedFileError: the file cannot be read, or tensors of it are missing.
    """
    metadata = read_header(path).metadata
    if metadata.get("recipe") != recipe:
        raise InputError(f"{path} was made by another recipe; give the same recipe, or another --output for a new run")
    tensors = read_tensors(path)
    try:
        for name, entry in trained.items():
            entry.module.load_state_dict(_under(tensors, f"{name}/weights/"))
            if entry.average is not None:
                entry.average.load(_under(tensors, f"{name}/average/"))
            for number, parameter in enumerate(_parameters(entry.optimiser)):
                saved = _under(tensors, f"{name}/optimiser/{number}/")
                if saved:
                    place = parameter.device
                    entry.optimiser.state[parameter] = {
                        key: value.clone() if key == "step" else _like(value, parameter).to(place)
                        for key, value in saved.items()
                    }
        return int(metadata["step"]), float(metadata["seconds"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise DamagedFileError(f"{path} is not a complete training state: {' '.join(str(error).split())}") from error


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy in the parameter's memory layout, so that the optimiser's arithmetic runs in the same order as before."""
    copy = torch.empty_like(parameter, device="cpu", dtype=value.dtype)
    copy.copy_(value)
    return copy


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
