"""Memory of a training: less of it for more time, and how much a step will take before it is taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from rein.errors import InputError
from rein.nn.attention import SpatialTransformer
from rein.nn.clip import TextLayer
from rein.nn.layers import ResidualBlock

BLOCKS = (ResidualBlock, SpatialTransformer, TextLayer)
"""What networks are made of: so much is computed a second time, or brought together, at once."""


def recompute_blocks(module: nn.Module) -> None:
    """Let every block of the networks keep its input alone and compute the rest again in the backward pass.

    Source: Chen et al. 2016 ("Training Deep Nets with Sublinear Memory Cost").
    """
    for block in module.modules():
        if isinstance(block, BLOCKS):
            block.forward = partial(_recomputed, block.forward)  # type: ignore[method-assign]


def _recomputed(forward: Callable[..., Tensor], *inputs: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    out: Tensor = checkpoint(forward, *inputs, use_reentrant=False)
    return out


@dataclass(frozen=True)
class Footprint:
    """What a pass takes: bytes that it keeps for the backward pass, and seconds of both passes."""

    kept: int
    seconds: float


def measured(loss: Callable[[], Tensor], module: nn.Module) -> Footprint:
    """Do one pass forward and back, and count. No weight is changed, no gradient stays."""
    known = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    began = time.monotonic()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss()
    value.backward()
    settle(value.device)
    module.zero_grad(set_to_none=True)
    return Footprint(sum(kept.values()), time.monotonic() - began)


def settle(device: torch.device) -> None:
    """Wait for a GPU, which works on while Python goes on, so that what it did is timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Preflight:
    """What a run will take.

    Fields:
        learning, all_parameters: how many numbers learn, and how many there are.
        bytes: memory besides the weights: gradients, two moments, the average, and what a batch keeps.
        seconds: of all steps, without what is shown and kept on the way; None where it was not measured.
    """

    learning: int
    all_parameters: int
    bytes: int
    seconds: float | None = None

    @classmethod
    def of(cls, modules: Sequence[nn.Module], kept: int, parts: int = 1) -> Preflight:
        """For a run whose batches keep so many bytes for the backward pass, its weights parted among processes."""
        parameters = [parameter for module in modules for parameter in module.parameters()]
        learning = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        return cls(learning, sum(parameter.numel() for parameter in parameters), 16 * learning // parts + kept)

    def check(self, device: torch.device) -> None:
        """See that it fits. Raises `InputError` with what to do where it does not."""
        free = free_memory(device)
        if free is not None and self.bytes > free:
            raise InputError(
                f"the run needs about {self.bytes / 2**30:.1f} GiB and {free / 2**30:.1f} are free: "
                "lower batch_size, set checkpointing = true, or teach a LoRA"
            )

    def told(self) -> str:
        """As one line."""
        share = f"{self.learning:,} of {self.all_parameters:,} weights learn"
        minutes = "" if self.seconds is None else f", {self.seconds / 60:.1f} minutes of steps"
        return f"{share}; about {self.bytes / 2**20:,.0f} MiB of memory besides them{minutes}"


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device, as the system tells; None where it does not."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as handle:
            fields = dict(line.split(":", 1) for line in handle)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
