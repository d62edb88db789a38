"""Weights, gradients and moments parted among processes (FSDP2), so that a model larger than one GPU can be taught.

Each block's weights come together when it is computed and part again after it (Zhao et al. 2023, "PyTorch FSDP"). What
one process alone does, such as drawing a sheet or writing a file, is done while all weights are together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rein.errors import InputError
from rein.training.memory import BLOCKS
from rein.training.tables import LoopTable


def wanted(processes: int) -> bool:
    """Whether Accelerate's launcher was told to part the weights (`--use_fsdp`) among several processes."""
    return processes > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes", "on", "y", "t")


def check_table(table: LoopTable, players: int) -> None:
    """See that a stage can be trained with parted weights. Raises `InputError` with what to do where it cannot."""
    if players > 1:
        raise InputError("FSDP: two networks that move in turn are not parted: train the autoencoder with --multi_gpu")
    for name, value, known in (("optimiser", table.optimiser, "adamw"), ("compile", table.compile, False)):
        if value != known:
            raise InputError(f"FSDP: {name} is {value}: with parted weights it must be {known}")
    if table.ema_on_cpu:
        raise InputError("FSDP: ema_on_cpu goes with whole weights alone: the average is parted as they are")


def shard(module: nn.Module, device: torch.device, processes: int) -> None:
    """Part the weights of a network, block by block. What is made of its parameters must be made after this."""
    module.to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    mesh = init_device_mesh(device.type, (processes,))
    for block in [block for block in module.modules() if isinstance(block, BLOCKS)]:
        if not isinstance(block, FSDPModule):
            fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; where it is parted, every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """What of a tensor lies here: itself, or the part of this process, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def parted(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, known to every process, parted as another is; as it is where that is whole."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def together(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Weights lie whole in every process, so that one of them can compute alone. All processes enter."""
    found = [part for module in modules for part in module.modules() if isinstance(part, FSDPModule)]
    for part in found:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in found:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)


@contextmanager
def plain(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Parameters are plain tensors, to be read by name and written to files, not computed with. All processes enter."""
    before: list[tuple[nn.Module, str, nn.Parameter]] = []
    for module in modules:
        for part in module.modules():
            for name, value in list(part._parameters.items()):
                if isinstance(value, DTensor):
                    before.append((part, name, value))
                    part._parameters[name] = nn.Parameter(whole(value.detach()), value.requires_grad)
    try:
        yield
    finally:
        for part, name, value in before:
            part._parameters[name] = value
