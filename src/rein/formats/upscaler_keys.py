"""Upscalers known by the names and shapes of their tensors, and those names in Rein's terms.

One network has three sets of names: those of ESRGAN's first files ("model.1.sub.0.RDB1..."), of its later ones
("RRDB_trunk.0.RDB1...") and of Real-ESRGAN ("body.0.rdb1..."), which are Rein's own. Shapes tell scale and widths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from rein.errors import InputError
from rein.nn.upscaler import RRDBConfig, SRVGGConfig, folding

Shapes = Mapping[str, tuple[int, ...]]

OUTER = ("params_ema.", "params.", "")
"""Tables that files have round their weights, the averaged ones first: they are what is meant to be used."""

_WRAPPERS = ("", "module.")
_FIRST = "model.1.sub.0.RDB1.conv1.0.weight"
_SECOND = "RRDB_trunk.0.RDB1.conv1.weight"
_THIRD = "body.0.rdb1.conv1.weight"
_OTHERS = {
    "layers.0.residual_group.blocks.0.attn.qkv.weight": "SwinIR, HAT or DAT",
    "model.1.sub.0.RDB1.conv1x1.weight": "ESRGAN+",
    "upsample.0.weight": "a Transformer",
}
_BLOCK = re.compile(r"body\.(\d+)\.rdb1\.conv1\.weight")


@dataclass(frozen=True)
class FoundUpscaler:
    """An upscaler among the tensors of a file.

    Fields:
        config: its shape; None where it is of another kind, or parts of it are missing.
        names: the file's name of each tensor, by Rein's name.
        note: what it is, in words.
    """

    config: RRDBConfig | SRVGGConfig | None
    names: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def find_upscaler(shapes: Shapes) -> FoundUpscaler | None:
    """The upscaler in a file with tensors of these shapes; None where there is none."""
    for prefix in (outer + wrapper for outer in OUTER for wrapper in _WRAPPERS):
        inner = {name.removeprefix(prefix): name for name in shapes if name.startswith(prefix)}
        kind = next((title for mark, title in _OTHERS.items() if mark in inner), None)
        if kind is not None:
            return FoundUpscaler(None, note=f"an upscaler of finished pictures ({kind}), which Rein does not run")
        translate = _translation(inner)
        if translate is not None:
            names = {translate(name): whole for name, whole in inner.items()}
            return _dense({ours: shapes[theirs] for ours, theirs in names.items()}, names)
        if _is_compact({name: shapes[whole] for name, whole in inner.items()}):
            return _compact({name: shapes[whole] for name, whole in inner.items()}, inner)
    return None


def _translation(names: Iterable[str]) -> Callable[[str], str] | None:
    """What makes Rein's name of a file's; None for other networks than RRDBNet."""
    known = set(names)
    if _THIRD in known:
        return str
    if _SECOND in known:
        return _from_second
    if _FIRST in known:
        return _from_first(known)
    return None


def _from_second(name: str) -> str:
    for pattern, ours in (
        (r"RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
        (r"trunk_conv\.", "conv_body."),
        (r"upconv(\d)\.", r"conv_up\1."),
        (r"HRconv\.", "conv_hr."),
    ):
        name, changed = re.subn(f"^{pattern}", ours, name)
        if changed:
            break
    return name


def _from_first(names: set[str]) -> Callable[[str], str]:
    """In the first files layers are numbered through: model.0, the blocks in model.1, then for each doubling an
    enlargement, a convolution and an activation; at the end two convolutions with an activation between."""
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(r"model\.(\d{1,3})\.weight", name))]
    last = max(numbers, default=0)
    layers = {"0": "conv_first", f"{last - 2}": "conv_hr", f"{last}": "conv_last"}
    layers |= {f"{3 * number}": f"conv_up{number}" for number in range(1, (last - 4) // 3 + 1)}

    def translate(name: str) -> str:
        block = re.match(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", name)
        if block:
            return f"body.{block[1]}.rdb{block[2]}.conv{block[3]}.{name[block.end() :]}"
        after = re.match(r"model\.1\.sub\.\d+\.(weight|bias)$", name)
        if after:
            return f"conv_body.{after[1]}"
        layer = re.match(r"model\.(\d+)\.(weight|bias)$", name)
        return f"{layers[layer[1]]}.{layer[2]}" if layer and layer[1] in layers else name

    return translate


def _dense(shapes: Shapes, names: Mapping[str, str]) -> FoundUpscaler:
    first, last = (shapes.get(f"{layer}.weight", ()) for layer in ("conv_first", "conv_last"))
    growth = shapes[_THIRD]
    if not len(first) == len(last) == len(growth) == 4:
        return _incomplete(names, "an ESRGAN upscaler")
    doublings = sum(re.fullmatch(r"conv_up\d\.weight", name) is not None for name in shapes)
    blocks = sum(_BLOCK.fullmatch(name) is not None for name in shapes)
    try:
        config = RRDBConfig(last[0], first[0], growth[0], blocks, doublings, folding(first[1], last[0]))
    except InputError:
        return _incomplete(names, "an ESRGAN upscaler")
    return FoundUpscaler(config, names, f"an ESRGAN upscaler, x{config.scale}, of {_several(blocks, 'block')}")


def _is_compact(shapes: Shapes) -> bool:
    first = shapes.get("body.0.weight", ())
    return len(first) == 4 and first[2:] == (3, 3) and shapes.get("body.1.weight") == first[:1]


def _compact(shapes: Shapes, names: Mapping[str, str]) -> FoundUpscaler:
    numbers = [int(found[1]) for name in shapes if (found := re.fullmatch(r"body\.(\d{1,4})\.weight", name))]
    first, last = shapes["body.0.weight"], shapes[f"body.{max(numbers)}.weight"]
    title = "a compact Real-ESRGAN upscaler"
    # Convolutions and activations take turns, and a convolution ends the row.
    if max(numbers) % 2 or max(numbers) + 1 != len(numbers) or len(last) != 4:
        return _incomplete(names, title)
    try:
        config = SRVGGConfig(first[1], first[0], max(numbers) // 2 - 1, folding(last[0], first[1]))
    except InputError:
        return _incomplete(names, title)
    return FoundUpscaler(config, names, f"{title}, x{config.scale}, of {_several(config.layers, 'layer')}")


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _incomplete(names: Mapping[str, str], title: str) -> FoundUpscaler:
    return FoundUpscaler(None, names, f"{title}, with parts missing or of another form")
