"""What an adapter does and whom it is for, and the same of a learned word: for `rein models inspect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rein.errors import DamagedFileError, InputError, quoted
from rein.formats.adapters import LoadedAdapter, read_adapter
from rein.formats.adapters_dialects import Group, Sorted, sorted_names
from rein.formats.adapters_family import family_title, foreign_family, text_width
from rein.formats.adapters_names import targets_of
from rein.formats.placed import PlacedTensor
from rein.formats.weights import Weights
from rein.nn.adapters import KINDS
from rein.nn.specs import VARIANTS, ModelSpec

_TITLES = {"lora": "LoRA", "loha": "LoHa", "lokr": "LoKr", "full": "full difference", "ia3": "IA3", "bias": "bias"}
_LENGTHS = frozenset(("dora_scale", "magnitude_vector"))


@dataclass(frozen=True)
class AdapterReport:
    """An adapter as it was found.

    Fields:
        spec: the first family that its layers fit; None for none that Rein draws with.
        kinds: layers of each kind, as people call it.
        ranks: layers of each rank, of kinds that have one.
        networks: layers of each part of a model that it changes, by the part's name; empty without a family.
        unmatched: names in the file that match nothing in the family.
        note: whom else it is for, where Rein does not know the kind or the family.
        problem: what keeps it from being used, though it is for a family that Rein knows; "" where nothing does.
    """

    kinds: Mapping[str, int]
    ranks: Mapping[int, int]
    spec: ModelSpec | None = None
    networks: Mapping[str, int] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    note: str = ""
    problem: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "kinds": dict(self.kinds),
            "ranks": {str(rank): count for rank, count in sorted(self.ranks.items())},
            "networks": dict(self.networks),
            "unmatched": {"count": len(self.unmatched), "names": list(self.unmatched)},
        }


def inspect_adapter(weights: Weights, rows: Iterable[ModelSpec] | None = None) -> AdapterReport:
    """Look at an adapter. Its numbers are read, since NaN in one of them keeps it from being used.

    Args:
        rows: the families to choose from; None for all that Rein knows.

    Raises:
        DamagedFileError: a layer has the same tensor twice.
    """
    found = sorted_names(weights, weights.path)
    groups = [group for group in found.groups.values() if group.kinds or "bias" in group.roles]
    kinds = Counter(_kind(group, weights.infos) for group in groups)
    ranks = Counter(rank for group in groups if (rank := _rank(group, weights.infos)) is not None)
    foreign = _foreign(weights, found)
    if foreign:
        return AdapterReport(kinds, ranks, note=foreign)
    known = list(families(VARIANTS.values() if rows is None else rows))
    width = text_width(weights, found.groups)
    fitting = [row for row in known if width is None or row.unet.context_width == width]
    tried = [(row, _read(weights, row)) for row in fitting]
    read = [(row, adapter) for row, adapter in tried if isinstance(adapter, LoadedAdapter)]
    if not read:
        lone, problem = (fitting[0], str(tried[0][1])) if len(tried) == 1 else (None, _not_finite(weights))
        whom = "for no model that Rein knows" + (f": {family_title(width)}" if width else "")
        return AdapterReport(kinds, ranks, lone, note="" if lone else whom, problem=problem)
    row, adapter = min(read, key=lambda entry: len(entry[1].unmatched))
    networks = Counter(part for part, _ in adapter.changes)
    return AdapterReport(kinds, ranks, row, networks, adapter.unmatched)


def families(rows: Iterable[ModelSpec]) -> Iterator[ModelSpec]:
    """Of rows that take the same adapters and learned words, the first: forms with more channels are left out."""
    seen: set[object] = set()
    for row in rows:
        same = (row.unet.channels, row.unet.transformer_depth, row.unet.context_width, row.towers)
        if row.unet.in_channels == row.unet.out_channels and same not in seen:
            seen.add(same)
            yield row


def _foreign(weights: Weights, found: Sorted) -> str:
    """What a file is that Rein uses for no family; "" for others."""
    if found.foreign is not None:
        return f"of the kind {found.foreign}, which Rein does not use"
    other = foreign_family(found.groups)
    return f"for {other}, which Rein does not draw with" if other else ""


def _read(weights: Weights, row: ModelSpec) -> LoadedAdapter | InputError | DamagedFileError:
    try:
        return read_adapter(weights.path, targets_of(row))
    except (InputError, DamagedFileError) as error:
        return error


def _not_finite(weights: Weights) -> str:
    """What is wrong with the numbers of an adapter that no family could be asked about; "" where nothing is."""
    for name in weights:
        if not bool(weights[name].float().isfinite().all()):
            return f"tensor {quoted(name)} has NaN or infinity: the file is damaged, or its training failed"
    return ""


def _kind(group: Group, infos: Mapping[str, PlacedTensor]) -> str:
    """What people call the kind of a layer: LoRA of a kernel is LoCon, lengths beside it make it DoRA."""
    if len(group.kinds) > 1:
        return "mixed"
    kind = next(iter(group.kinds), "bias")
    kernels = [infos[group.names["lora", role]].shape[2:] for role in ("down", "mid") if ("lora", role) in group.names]
    title = "LoCon" if any(extent > 1 for kernel in kernels for extent in kernel) else _TITLES[kind]
    return title if not group.roles & _LENGTHS else ("DoRA" if kind == "lora" else f"{title} with DoRA")


def _rank(group: Group, infos: Mapping[str, PlacedTensor]) -> int | None:
    if len(group.kinds) != 1:
        return None
    [kind] = group.kinds
    names = (group.names[kind, role] for role in KINDS[kind].rank if (kind, role) in group.names)
    return next((infos[name].shape[0] for name in names if infos[name].shape), None)
