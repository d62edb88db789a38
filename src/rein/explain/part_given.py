"""The page's part on what a picture was given besides words: a start, a mask, further channels, adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from rein.explain.drawing import Drawing
from rein.explain.given import LayerChange
from rein.explain.network_drawing import rounded
from rein.explain.part_steps import noise_share, seen_latents
from rein.explain.pictures import grey, thumbnail, veil
from rein.html import Content, Markup, figure, picture, table, tag

_CHANNELS_SHOWN = 17
_LAYERS_SHOWN = 12


def given_part(drawing: Drawing) -> list[Content]:
    """Everything that was given, and what it changed; empty where there is nothing but words and noise."""
    begun, adapters = drawing.explanation.beginning, drawing.explanation.adapters
    parts: list[Content] = []
    if begun.latents is not None:
        parts += _start(drawing, begun.latents)
    if begun.mask is not None:
        parts += _mask(begun.mask)
    if begun.extra is not None:
        parts += _channels(begun.extra, begun.extra_kind)
    if adapters:
        parts += _adapters(adapters)
    return parts


def _start(drawing: Drawing, latents: Tensor) -> list[Content]:
    explanation = drawing.explanation
    begun, first = explanation.beginning, explanation.kept[0]
    decoded = thumbnail(drawing.decoded(latents))
    figures = [
        figure(
            picture(decoded, "The picture to start from", "image/webp"),
            "The picture to start from, through the encoder and back: all that the machine keeps of it",
        ),
        figure(
            picture(drawing.colours.picture(latents), "Its latents", class_="pixels"), "Its latents, in false colours"
        ),
        figure(
            picture(drawing.colours.picture(seen_latents(first)), "What the network sees first", class_="pixels"),
            "What the network sees first, in the same colours",
        ),
    ]
    left, visited = len(begun.left_out), len(explanation.sigmas) - 1
    if begun.under_noise:
        share = f"{100 * noise_share(first.sigma):.0f} % of what the network sees is noise"
        way = f"Strength {explanation.request.strength:g}: of {left + visited} steps the first {left} are left out. "
        said = f"{way}The picture is put under noise of level {first.sigma:.3g}, where {share}, and drawn from there."
    else:
        said = "It begins with noise alone, and all steps are drawn; the picture comes in by the mask or by channels."
    if begun.part_of_source:
        said += " The result is laid into the picture that was given."
    return [tag("h3", "A picture"), tag("p", said), tag("div", *figures, class_="strip card")]


def _mask(mask: Tensor) -> list[Content]:
    height, width = mask.shape
    drawn = 100 * float(mask.mean())
    figures = [
        figure(
            picture(grey(mask, stretched=False), "The mask", class_="pixels"), f"{width} × {height}: white is drawn"
        ),
        figure(
            tag("div", picture(veil(mask), "What is kept is dark"), class_="seen"),
            "Over the finished picture: what is dark was kept",
        ),
    ]
    said = (
        f"The mask at the size of the latents leaves {drawn:.0f} % of the places to draw. At every step the network "
        "answers for all of them, and where the mask is black the known picture takes its answer's place."
    )
    return [tag("h3", "A mask"), tag("p", said), tag("div", *figures, class_="strip card")]


def _channels(extra: Tensor, kind: str) -> list[Content]:
    count, height, width = extra.shape
    tiles = [
        figure(picture(grey(channel), f"Further channel {number}", class_="pixels"), str(number))
        for number, channel in enumerate(extra[:_CHANNELS_SHOWN], 1)
    ]
    said = (
        f"This U-Net has {count} more channel{'s' if count > 1 else ''} than there are latents: {kind}, {width} × "
        f"{height}. It sees the same in {'them' if count > 1 else 'it'} at every step, without noise."
    )
    return [
        tag("h3", kind[0].upper() + kind[1:]),
        tag("p", said),
        tag("div", tag("div", *tiles, class_="tiles"), class_="card"),
    ]


def _adapters(changes: tuple[LayerChange, ...]) -> list[Content]:
    said = (
        f"The adapters change {len(changes)} layers, by adding to their weights. A layer's change is told relative to "
        "the length of its weight; the parts of the whole are of squared lengths, and sum to 100 %."
    )
    strongest = max(change.share for change in changes) or 1.0
    rows = [
        (
            network_name(change.part),
            tag("code", change.layer),
            f"{rounded(100 * change.share)} %",
            gauge(change.share / strongest),
        )
        for change in changes[:_LAYERS_SHOWN]
    ]
    most = f"The {len(rows)} layers that are changed most" if len(rows) < len(changes) else "All of them"
    return [
        tag("h3", "Adapters: where they act most"),
        tag("p", said),
        tag(
            "div",
            tag("div", _parts(changes, region_of, "part of the networks"), class_="card"),
            tag("div", _parts(changes, kind_of, "kind of layer"), class_="card"),
            class_="row",
        ),
        tag("p", most, class_="note"),
        table(("network", "layer", "change", ""), rows),
    ]


def _parts(changes: Iterable[LayerChange], name_of: Callable[[LayerChange], str], head: str) -> Markup:
    """How much of the whole change falls to each group of layers, in the order of the networks."""
    sums: dict[str, float] = {}
    for change in sorted(changes, key=lambda change: (change.part, _natural(change.layer))):
        sums[name_of(change)] = sums.get(name_of(change), 0.0) + change.size**2
    whole, most = sum(sums.values()) or 1.0, max(sums.values()) or 1.0
    rows = [(name, f"{100 * value / whole:.1f} %", gauge(value / most)) for name, value in sums.items()]
    return table((head, "of the whole", ""), rows)


def _natural(path: str) -> tuple[tuple[int, str], ...]:
    """A path whose numbers are in their order; down before middle before up."""
    ranks = {"down_blocks": "1", "mid_block": "2", "up_blocks": "3"}
    return tuple((int(part), "") if part.isdigit() else (-1, ranks.get(part, part)) for part in path.split("."))


def network_name(part: str) -> str:
    """ "unet", "tower", "tower_2" in words."""
    return "U-Net" if part == "unet" else f"text tower{part.removeprefix('tower').replace('_', ' ')}"


def region_of(change: LayerChange) -> str:
    """Where a layer stands: "U-Net, down 2", "text tower"."""
    name, *rest = change.layer.split(".")
    where = {"down_blocks": "down", "up_blocks": "up", "mid_block": "middle"}.get(name)
    if change.part != "unet" or where is None:
        return network_name(change.part) + ("" if change.part != "unet" else ", rest")
    return f"U-Net, {where}" + ("" if name == "mid_block" else f" {int(rest[0]) + 1}")


def kind_of(change: LayerChange) -> str:
    """What a layer does, by its name."""
    kinds = {"attn2": "cross-attention", "attn1": "self-attention", "self_attn": "attention between tokens"}
    kinds |= {"ff": "feed-forward", "mlp": "feed-forward", "resnets": "residual blocks"}
    return next((kinds[name] for name in change.layer.split(".") if name in kinds), "others")


def gauge(share: float) -> Markup:
    """A bar of a length from 0 to 1."""
    return tag("span", tag("i", style=f"width:{100 * min(max(share, 0.0), 1.0):.1f}%"), class_="gauge")
