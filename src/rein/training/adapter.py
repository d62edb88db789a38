"""An adapter while it learns: PEFT puts it beside the layers of some networks, and it is saved for others to read.

Sources: Hu et al. 2021 (LoRA), Yeh et al. 2023 (LoCon, LoHa, LoKr), Liu et al. 2024 (DoRA).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from rein.errors import require
from rein.formats.adapters_dialects import PeftScales, sorted_names
from rein.formats.adapters_layers import LayerReader
from rein.formats.adapters_names import targets_of
from rein.formats.adapters_save import save_adapter
from rein.nn.adapters import Change, Place
from rein.nn.attention import SpatialTransformer
from rein.nn.clip import TextLayer
from rein.nn.layers import Downsample, ResidualBlock, Upsample
from rein.nn.specs import ModelSpec

KOHYA_FILE, PEFT_FILE = "adapter.safetensors", "adapter-peft.safetensors"
_ADAPTER = "default"
"""PEFT's name for the only adapter of a network."""


class AdapterSettings(Protocol):
    """What the tables of stages with an adapter say of it: see `LoraTable`."""

    @property
    def kind(self) -> str: ...

    @property
    def rank(self) -> int: ...

    @property
    def alpha(self) -> float | None: ...

    @property
    def convolutions(self) -> bool: ...

    @property
    def seed(self) -> int: ...

    @property
    def steps(self) -> int: ...


class LearningAdapter:
    """An adapter in the layers of `networks` (by part), which begins as no change and alone is to learn.

    Raises:
        MissingExtraError: PEFT is not installed.
    """

    def __init__(self, networks: Mapping[str, nn.Module], spec: ModelSpec, settings: AdapterSettings) -> None:
        peft = require("peft", "train")
        self.networks, self.spec, self.settings = networks, spec, settings
        with torch.random.fork_rng(devices=[]):  # first weights are the seed's; the caller's random numbers stay
            torch.manual_seed(settings.seed)
            for network in networks.values():
                config = _config(peft, settings, list(_layers(network, _with_convolutions(settings))))
                peft.inject_adapter_in_model(config, network, _ADAPTER)

    def changes(self) -> dict[Place, Change]:
        """What the adapter does to each layer, in Rein's own form."""
        targets, settings = targets_of(self.spec), self.settings
        scales = PeftScales({"lora_alpha": _alpha(settings), "r": settings.rank})
        found: dict[Place, Change] = {}
        for part, network in self.networks.items():
            learned = {name: value.detach().cpu() for name, value in network.named_parameters() if value.requires_grad}
            names = {_file_name(name): value for name, value in learned.items()}
            reader = LayerReader(names, scales)
            for layer, group in sorted_names(names, Path("the adapter")).groups.items():
                place = (part, layer)
                found[place] = reader.change(layer, place, group, targets.layers[place])
        return found

    def save(self, folder: Path, provenance: Mapping[str, str]) -> None:
        """Write the adapter in kohya's dialect and in PEFT's, in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        targets, settings = targets_of(self.spec), self.settings
        told = {
            **provenance,
            "ss_network_module": "networks.lora" if settings.kind in ("lora", "dora") else "lycoris.kohya",
            "ss_network_dim": str(settings.rank),
            "ss_network_alpha": str(_alpha(settings)),
            "ss_steps": str(settings.steps),
        }
        half = {place: _halved(change) for place, change in self.changes().items()}
        save_adapter(folder / KOHYA_FILE, half, targets, "kohya", told)
        save_adapter(folder / PEFT_FILE, half, targets, "peft", told)


def _halved(change: Change) -> Change:
    return Change(change.kind, {role: tensor.half() for role, tensor in change.tensors.items()}, change.scale)


def _alpha(table: AdapterSettings) -> float:
    return float(table.rank if table.alpha is None else table.alpha)


def _with_convolutions(table: AdapterSettings) -> bool:
    return table.kind == "locon" or (table.kind != "lora" and table.convolutions)


def _layers(network: nn.Module, convolutions: bool) -> Iterator[str]:
    """Paths of the layers that learn: those of the transformers; with `convolutions` those of the other blocks too."""
    blocks: tuple[type[nn.Module], ...] = (SpatialTransformer, TextLayer)
    if convolutions:
        blocks = (*blocks, ResidualBlock, Downsample, Upsample)
    seen: dict[str, None] = {}
    for path, block in network.named_modules():
        if isinstance(block, blocks):
            for inner, layer in block.named_modules():
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    seen[f"{path}.{inner}"] = None
    return iter(seen)


def _config(peft: Any, table: AdapterSettings, layers: list[str]) -> Any:
    """PEFT's configuration of an adapter; it begins as no change."""
    alpha = _alpha(table)
    if table.kind in ("loha", "lokr"):
        kind = peft.LoHaConfig if table.kind == "loha" else peft.LoKrConfig
        return kind(r=table.rank, alpha=alpha, target_modules=layers)
    return peft.LoraConfig(r=table.rank, lora_alpha=alpha, target_modules=layers, use_dora=table.kind == "dora")


def _file_name(name: str) -> str:
    """A parameter's name as files have it, without PEFT's name of the adapter."""
    return name.replace(f".{_ADAPTER}.", ".").removesuffix(f".{_ADAPTER}")
