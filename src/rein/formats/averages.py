"""Averaged weights (EMA) in single files: a second U-Net beside the plain one, or the only one there is.

CompVis' LitEma, which wrote them, keeps the average of `model.diffusion_model.out.2.bias` as
`model_ema.diffusion_modelout2bias`. The dots are lost, so names are not turned back but looked up among a family's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from rein.errors import InputError
from rein.formats.keys import Entry, KeyMap, Place, key_map
from rein.formats.places import PUBLISHED_UNET, Shapes
from rein.nn.specs import ModelSpec

AVERAGES = "model_ema."
_OUTER = "model."


def has_averages(names: Iterable[str]) -> bool:
    """Whether there are averages among the tensors of a file."""
    return any(name.startswith(AVERAGES) for name in names)


def average_of(name: str) -> str:
    """What the average of a U-Net's tensor is called, by the published name of that."""
    return AVERAGES + name.removeprefix(_OUTER).replace(".", "")


def averaged_keys(keys: KeyMap, names: Iterable[str], path: Path) -> KeyMap:
    """The map of a file that is to be read with its averaged U-Net. Raises `InputError` where the file has none."""
    if not has_averages(names):
        raise InputError(f"{path} has no averaged (EMA) weights: leave out the choice of them")

    def chosen(entry: Entry) -> Entry:
        return replace(entry, original=average_of(entry.original)) if entry.part == "unet" else entry

    return KeyMap(tuple(chosen(entry) for entry in keys.entries))


def refuse_for_folder(folder: Path) -> None:
    """Say that averages beside plain weights are a matter of single files. Raises `InputError`."""
    raise InputError(f"{folder} is a folder and has one U-Net, so no averaged (EMA) one besides: leave the choice out")


def with_plain_names(shapes: Shapes, rows: Iterable[ModelSpec]) -> Shapes:
    """The shapes of a file with averages alone as if they were the plain U-Net, so that it can be measured.

    Names go by the family that has the most of them; where none has any, the shapes stay as they are.
    """
    best: Mapping[str, str] = {}
    for row in rows:
        entries = key_map(row, {"unet": Place(PUBLISHED_UNET, "original")}).entries
        found = {average_of(entry.original): entry.original for entry in entries}
        known = {name: plain for name, plain in found.items() if name in shapes}
        best = known if len(known) > len(best) else best
        if len(best) == len(found):
            break
    return {best.get(name, name): shape for name, shape in shapes.items()}
