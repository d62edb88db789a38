"""Adapter files (LoRA and its relatives) read into one neutral form, whatever their dialect.

A file is checked in full when it is read: every tensor finite, every pair complete, every shape that of its layer.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from rein.errors import DamagedFileError, InputError, quoted
from rein.formats.adapters_dialects import Group, PeftScales, sorted_names
from rein.formats.adapters_family import refuse_other_family
from rein.formats.adapters_layers import LayerReader
from rein.formats.adapters_names import Target, Targets
from rein.formats.weights import Weights, open_weights
from rein.nn.adapters import Change, Place, check_fit
from rein.nn.adapters_merge import Use, acting_on, changed_bias, changed_weight

SHOWN = 5
"""How many names a message has at most."""


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter in memory, sorted by the layers of a model.

    Fields:
        name: the file's name without its ending.
        changes: what it does to each layer.
        unmatched: names in the file that match nothing in the model.
    """

    name: str
    path: Path
    changes: Mapping[Place, Change]
    unmatched: tuple[str, ...] = ()
    safetensors: bool = True

    @cached_property
    def kinds(self) -> dict[str, int]:
        """How many layers each kind changes."""
        return dict(Counter(change.kind for change in self.changes.values()))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        with self.path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    @cached_property
    def short_hash(self) -> str:
        """Twelve digits as AUTOMATIC1111 has them: of a safetensors file, SHA-256 of what follows its header."""
        if not self.safetensors:
            return self.sha256[:12]
        with self.path.open("rb") as handle:
            handle.seek(8 + int.from_bytes(handle.read(8), "little"))
            return hashlib.file_digest(handle, "sha256").hexdigest()[:12]

    def use(self, weight: float, text_weight: float | None = None) -> Use:
        """With strengths for the U-Net and, if it is another, for the text towers."""
        text = weight if text_weight is None else text_weight
        strengths = {part: weight if part == "unet" else text for part, _ in self.changes}
        return Use(self.name, self.changes, strengths)

    def report(self) -> str:
        """What in the file matches nothing, as one line; empty where all does."""
        if not self.unmatched:
            return ""
        shown = ", ".join(self.unmatched[:SHOWN]) + (", ..." if len(self.unmatched) > SHOWN else "")
        count, layers = len(self.unmatched), len(self.changes)
        return f"adapter {quoted(self.name)}: {count} names match nothing in this model: {shown} ({layers} layers do)"


def looks_like_adapter(names: Sequence[str]) -> bool:
    """Whether a file with these names is an adapter, by its names alone."""
    found = sorted_names(names, Path("file"))
    kinds = [group for group in found.groups.values() if group.kinds or "bias" in group.roles]
    return bool(kinds or found.foreign) and 2 * len(found.rest) <= len(names)


def read_adapter(path: str | os.PathLike[str], targets: Targets) -> LoadedAdapter:
    """Read an adapter for a model.

    Tensors stay in the mapped file until they are used.

    Raises:
        InputError: there is no such file; it is no adapter, of a kind that Rein does not have, or for another family.
        DamagedFileError: it is incomplete, has NaN or infinity, or shapes that do not fit together.
    """
    path = Path(path)
    weights = open_weights(path)
    if not weights:
        raise DamagedFileError(f"cannot use {path}: it holds no tensors")
    found = sorted_names(weights, path)
    if found.foreign is not None:
        known = "LoRA, LoCon, LoHa, LoKr, DoRA, IA3, full differences"
        raise InputError(f"cannot use {path}: it is an adapter of the kind {found.foreign}; known kinds: {known}")
    if not found.groups:
        raise InputError(
            f"cannot use {path}: it is no adapter: the first of its names is {quoted(next(iter(weights)))}"
        )
    refuse_other_family(path, weights, found.groups, targets)
    changes, unmatched = _changes(weights, found.groups, targets)
    unmatched += found.rest
    if not changes:
        none = f"none of its {len(weights)} names, the first {quoted(unmatched[0])}, is of model {targets.spec.name!r}"
        raise InputError(f"cannot use {path}: {none}")
    return LoadedAdapter(path.stem, path, changes, tuple(sorted(unmatched)), weights.container == "safetensors")


def _changes(weights: Weights, groups: Mapping[str, Group], targets: Targets) -> tuple[dict[Place, Change], list[str]]:
    """The changes of all layers that the model has, and the names of the others."""
    reader = LayerReader(weights, PeftScales.of(weights.path, weights.metadata))
    changes: dict[Place, Change] = {}
    unmatched: list[str] = []
    for layer, group in groups.items():
        places = targets.places.get(layer, ())
        if not places or group.roles == {"alpha"}:
            unmatched += group.names.values()
            continue
        try:
            place, change = _fitting(reader, layer, group, [(place, targets.layers[place]) for place in places])
            if place in changes:
                raise ValueError("the file has it under another name, too")
        except ValueError as error:
            raise DamagedFileError(f"cannot use {weights.path}: layer {quoted(layer, 120)}: {error}") from error
        changes[place] = change
    return changes, unmatched


def _fitting(
    reader: LayerReader, layer: str, group: Group, candidates: Sequence[tuple[Place, Target]]
) -> tuple[Place, Change]:
    """The change, made for the first of the layers that it fits."""
    for number, (place, target) in enumerate(candidates, 1):
        try:
            change = reader.change(layer, place, group, target)
            check_fit(change, target.weight, target.bias)
        except ValueError:
            if number == len(candidates):
                raise
            continue
        return place, change
    raise AssertionError("there is at least one candidate")


def baker(uses: Sequence[Use]) -> Callable[[str, str, Tensor], Tensor]:
    """A function (part, native parameter name, tensor) -> the tensor with adapters merged in, in the same precision.

    What no adapter touches comes back as the very same tensor. It raises `InputError` where a result is not finite.
    """
    table = acting_on(uses)

    def bake(part: str, name: str, tensor: Tensor) -> Tensor:
        path, _, last = name.rpartition(".")
        acting = table.get((part, path))
        if acting is None or last not in ("weight", "bias"):
            return tensor
        return changed_weight(tensor, acting) if last == "weight" else changed_bias(tensor, acting)

    return bake
