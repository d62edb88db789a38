"""The tensors of an adapter file sorted by layer and role. Dialects are rows: what a name ends with, and what it means.

kohya      lora_unet_down_blocks_0_..._to_q.lora_down.weight   also LyCORIS: hada_, lokr_, diff, w_norm, on_input
PEFT       unet.down_blocks.0....to_q.lora_A.weight            also with base_model.model. before it
diffusers  unet....attn1.processor.to_q_lora.down.weight       before PEFT
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rein.errors import DamagedFileError

Role = tuple[str, str]
"""(kind, role); kind "" where the role may stand with any."""

_ENDINGS: dict[str, Role] = {
    ".lora_up.weight": ("lora", "up"),
    ".lora_down.weight": ("lora", "down"),
    ".lora_mid.weight": ("lora", "mid"),
    ".lora_B.weight": ("lora", "up"),
    ".lora_A.weight": ("lora", "down"),
    ".lora_B.bias": ("lora", "up_bias"),
    ".lora.up.weight": ("lora", "up"),
    ".lora.down.weight": ("lora", "down"),
    ".lora_linear_layer.up.weight": ("lora", "up"),
    ".lora_linear_layer.down.weight": ("lora", "down"),
    ".up.weight": ("lora", "up"),
    ".down.weight": ("lora", "down"),
    **{f".hada_{factor}": ("loha", factor) for factor in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f".lokr_{factor}": ("lokr", factor) for factor in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    ".diff": ("full", "difference"),
    ".w_norm": ("full", "difference"),
    ".diff_b": ("", "bias"),
    ".b_norm": ("", "bias"),
    ".weight": ("ia3", "weight"),
    ".on_input": ("ia3", "on_input"),
    ".ia3_l": ("ia3", "ia3_l"),
    ".alpha": ("", "alpha"),
    ".dora_scale": ("", "dora_scale"),
    ".lora_magnitude_vector": ("", "magnitude_vector"),
    ".lora_magnitude_vector.weight": ("", "magnitude_vector"),
}

_OTHER_KINDS = {
    ".oft_blocks": "OFT",
    ".oft_diag": "OFT",
    ".oft_R": "OFT",
    ".oft_R.weight": "OFT",
    ".boft_R": "BOFT",
    ".a1.weight": "GLoRA",
    ".b1.weight": "GLoRA",
    ".bm.weight": "GLoRA",
    ".lora_E": "AdaLoRA",
    ".vera_lambda_b": "VeRA",
    ".hra_u": "HRA",
    ".lora_embedding_A": "LoRA of token vectors",
}
_OTHER_BEGINNINGS = {
    "control_model.": "ControlNet",
    "lllite_": "ControlNet-LLLite",
    "image_proj.": "IP-Adapter",
    "ip_adapter.": "IP-Adapter",
}
_HYPERNETWORK = re.compile(r"\d+\.\d+\.linear\.?\d+\.(weight|bias)")
"""A layer's width, which of two networks (for keys, for values), and a layer of that."""

LARGEST_CONFIG = 2**20
"""Bytes that are read of an `adapter_config.json`, of which real ones have a few hundred."""


@dataclass
class Group:
    """The tensors of one layer, by role, with the names that they have in the file."""

    names: dict[Role, str] = field(default_factory=dict)

    @property
    def roles(self) -> frozenset[str]:
        """What is there."""
        return frozenset(role for _, role in self.names)

    @property
    def kinds(self) -> set[str]:
        """The kinds that its tensors belong to: one in a sound file, none where only a bias changes."""
        return {kind for kind, _ in self.names if kind}


@dataclass
class Sorted:
    """A file's names by layer, as it spells the layers; those of no known ending; and kinds that Rein does not know."""

    groups: dict[str, Group] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)
    foreign: str | None = None


def sorted_names(names: Iterable[str], path: Path) -> Sorted:
    """Sort the names of a file.

    Raises:
        DamagedFileError: a layer has the same tensor twice.
    """
    found = Sorted()
    for name in names:
        plain = name.replace("base_model.model.", "", 1).replace(".default.", ".").removesuffix(".default")
        layer, ending = _split(plain)
        found.foreign = found.foreign or _foreign_kind(plain)
        if ending is None:
            found.rest.append(name)
            continue
        group, role = found.groups.setdefault(layer, Group()), _ENDINGS[ending]
        if role in group.names:
            raise DamagedFileError(f"cannot read {path}: layer {layer!r} has {group.names[role]!r} and {name!r}")
        group.names[role] = name
    for layer, group in list(found.groups.items()):
        # A plain ".weight" belongs to an adapter only beside the mark of IA3.
        if ("ia3", "weight") in group.names and ("ia3", "on_input") not in group.names:
            found.rest.append(group.names.pop(("ia3", "weight")))
        if not group.names:
            del found.groups[layer]
    return found


def _split(name: str) -> tuple[str, str | None]:
    """A layer's name and the ending, the longest known; None where there is none."""
    pieces = name.split(".")
    for count in (3, 2, 1):
        ending = "." + ".".join(pieces[-count:])
        if len(pieces) > count and ending in _ENDINGS:
            return ".".join(pieces[:-count]), ending
    return name, None


def _foreign_kind(name: str) -> str | None:
    if is_hypernetwork([name]):
        return "hypernetwork"
    for beginning, kind in _OTHER_BEGINNINGS.items():
        if name.startswith(beginning):
            return kind
    pieces = name.rsplit(".", 2)
    return next((_OTHER_KINDS[e] for e in ("." + ".".join(pieces[-2:]), "." + pieces[-1]) if e in _OTHER_KINDS), None)


def is_hypernetwork(names: Iterable[str]) -> bool:
    """Whether one of the names is of a hypernetwork as AUTOMATIC1111 and NovelAI write them."""
    return any(_HYPERNETWORK.fullmatch(name) for name in names)


@dataclass(frozen=True)
class PeftScales:
    """What PEFT keeps outside the tensors: alpha and rank, by layer where they differ."""

    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, metadata: Mapping[str, str]) -> PeftScales:
        """From the texts of a file as diffusers writes them, else from the `adapter_config.json` beside it.

        Raises:
            DamagedFileError: either is not what it should be.
        """
        beside = path.with_name("adapter_config.json")
        text, where = metadata.get("lora_adapter_metadata"), f"the metadata of {path}"
        if text is None and path.name.startswith("adapter_model.") and beside.is_file():
            with beside.open("rb") as handle:
                text, where = handle.read(LARGEST_CONFIG + 1).decode("utf-8", "replace"), str(beside)
        if text is None:
            return cls()
        try:
            values = json.loads(text) if len(text) <= LARGEST_CONFIG else None
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise DamagedFileError(f"cannot read {where}: it is not a short JSON object")
        return cls(values)

    def scale(self, part_name: str, layer: str, rank: int | None) -> float:
        """alpha / rank of a layer, 1 where nothing is said. With `use_rslora` the root of the rank divides.

        Raises:
            ValueError: the numbers are no numbers.
        """
        alpha = self._of(part_name, layer, "alpha_pattern", ("lora_alpha", "alpha"))
        rank = rank or self._of(part_name, layer, "rank_pattern", ("r",))
        if alpha is None or rank is None:
            return 1.0
        for value in (alpha, rank):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
                raise ValueError(f"its alpha or rank is {value!r}, not a number above 0")
        return float(alpha) / (math.sqrt(rank) if self._get(part_name, "use_rslora") else rank)

    def on_input(self, layer: str) -> bool:
        """Whether IA3 scales what goes into the layer."""
        listed = self.values.get("feedforward_modules")
        return isinstance(listed, list) and any(isinstance(end, str) and _ends(layer, end) for end in listed)

    def _get(self, part_name: str, key: str) -> Any:
        return self.values.get(f"{part_name}.{key}", self.values.get(key))

    def _of(self, part_name: str, layer: str, pattern: str, keys: tuple[str, ...]) -> Any:
        by_layer = self._get(part_name, pattern)
        for end, value in by_layer.items() if isinstance(by_layer, dict) else ():
            if _ends(layer, end.removeprefix("^")):
                return value
        return next((value for key in keys if (value := self._get(part_name, key)) is not None), None)


def _ends(layer: str, end: str) -> bool:
    return layer == end or layer.endswith(f".{end}")
