"""Small models of every family with random weights, in memory and as single files."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.families import family
from rein.formats.keys import key_map, part_names
from rein.formats.saving import ModuleSource, write_single
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import ModelSpec
from rein.nn.unet import UNet


@cache
def small(name: str) -> tuple[ModelSpec, dict[str, nn.Module]]:
    """The specification and the networks of a shrunken family. Shared: do not change them."""
    spec = family(name, full=False).spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        modules = [UNet(spec.unet), Autoencoder(spec.autoencoder), *(TextTower(config) for config in spec.towers)]
    return spec, {part: m.eval().requires_grad_(False) for part, m in zip(part_names(spec), modules, strict=True)}


def original_state(name: str) -> dict[str, Tensor]:
    """The tensors of a family's single file under their original names, in a table to change."""
    return dict(_original_state(name))


@cache
def _original_state(name: str) -> dict[str, Tensor]:
    spec, networks = small(name)
    keys = key_map(spec)
    parts = networks.items()
    return {name: tensor for part, module in parts for name, tensor in keys.to_original(part, module.state_dict())}


def single_file(folder: Path, name: str = "sd15", dtype: torch.dtype | None = None) -> Path:
    """A family's single file, as Rein writes it."""
    path = folder / f"{name}.safetensors"
    path.write_bytes(_single_file(name, dtype))
    return path


@cache
def _single_file(name: str, dtype: torch.dtype | None) -> bytes:
    spec, networks = small(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_single(path, spec, ModuleSource(networks), dtype)
        return path.read_bytes()
