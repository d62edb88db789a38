"""The state of a run as one safetensors file: weights that learn, averages, optimiser moments, step.

Nothing in it is executed when read. Weights that do not learn are those of the model that the run starts from.
No generator needs saving: every draw of the loop is a function of the seed and the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rein.errors import DamagedFileError, InputError
from rein.formats.header import STATE_LIMIT
from rein.formats.tensors import read_header, read_tensors, write_tensors
from rein.training.optim import Average
from rein.training.sharding import parted, whole

FILE_NAME = "state.safetensors"


@dataclass
class Trained:
    """A player as the loop holds it: the bare module, its optimiser and the average of its weights."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    average: Average | None


def save_state(path: Path | None, trained: Mapping[str, Trained], step: int, seconds: float, recipe: str) -> None:
    """Write the state after `step` finished steps. The file under its final name is complete (see `write_tensors`).

    Processes that hold parts of the weights all call it; those that write nothing give no path.
    """
    tensors: dict[str, Tensor] = {}
    for name, entry in trained.items():
        tensors |= {f"{name}/weights/{key}": value for key, value in _changing(entry.module).items()}
        if entry.average is not None:
            tensors |= {f"{name}/average/{key}": value for key, value in entry.average.state().items()}
        for number, parameter in enumerate(_parameters(entry.optimiser)):
            for key, value in entry.optimiser.state.get(parameter, {}).items():
                tensors[f"{name}/optimiser/{number}/{key}"] = torch.as_tensor(value)
    kept = {key: whole(value.detach()).cpu().contiguous() for key, value in tensors.items()}
    if path is None:
        return
    told = {"step": str(step), "seconds": f"{seconds:.3f}", "recipe": recipe}
    told |= {f"groups/{name}": json.dumps(_numbers(entry.optimiser)) for name, entry in trained.items()}
    write_tensors(path, kept, told)


def load_state(path: Path, trained: Mapping[str, Trained], recipe: str) -> tuple[int, float]:
    """Put a saved state into the players. Returns the number of finished steps and the seconds they took.

    Raises:
        InputError: the state was made by another recipe.
        DamagedFileError: the file cannot be read, or tensors of it are missing.
    """
    metadata = read_header(path, STATE_LIMIT).metadata
    if metadata.get("recipe") != recipe:
        raise InputError(
            f"{path} was made by another recipe or from other pictures: give the same, or another --output"
        )
    tensors = read_tensors(path, most=STATE_LIMIT)
    try:
        for name, entry in trained.items():
            _put_back(entry.module, _under(tensors, f"{name}/weights/"))
            if entry.average is not None:
                entry.average.load(_under(tensors, f"{name}/average/"))
            for number, parameter in enumerate(_parameters(entry.optimiser)):
                saved = _under(tensors, f"{name}/optimiser/{number}/")
                if saved:
                    place = parameter.device
                    entry.optimiser.state[parameter] = {
                        key: _like(value, parameter).to(place) if value.shape == parameter.shape else value.clone()
                        for key, value in saved.items()
                    }
            groups = json.loads(metadata[f"groups/{name}"])
            for group, numbers in zip(entry.optimiser.param_groups, groups, strict=True):
                group |= numbers
        return int(metadata["step"]), float(metadata["seconds"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise DamagedFileError(f"{path} is not a complete training state: {' '.join(str(error).split())}") from error


def _changing(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: the parameters that learn, and the buffers."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def _put_back(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    wanted = _changing(module)
    if wanted.keys() != tensors.keys():
        raise KeyError(f"{len(wanted.keys() ^ tensors.keys())} weights are missing or foreign")
    module.load_state_dict({name: parted(value, wanted[name]) for name, value in tensors.items()}, strict=False)


def _numbers(optimiser: torch.optim.Optimizer) -> list[dict[str, float]]:
    """What an optimiser keeps of each group beside tensors: the step count or the rate that some find themselves."""
    return [
        {key: value for key, value in group.items() if isinstance(value, bool | int | float) and key != "params"}
        for group in optimiser.param_groups
    ]


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy in the parameter's memory layout, so that the optimiser's arithmetic runs in the same order as before."""
    if isinstance(parameter, DTensor):
        return parted(value, parameter)
    copy = torch.empty_like(parameter, device="cpu", dtype=value.dtype)
    copy.copy_(value)
    return copy


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
