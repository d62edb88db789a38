"""The page's last parts: which word acted where, the decoder, the picture and what would change."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rein.explain.drawing import Drawing
from rein.explain.heatmaps import HeatMaps
from rein.explain.pictures import grey, thumbnail, veil
from rein.explain.trace import Explanation
from rein.explain.whatif import Strip, says_something
from rein.explain.words import Group
from rein.html import Content, Markup, figure, picture, table, tag

_WORDS_LARGE = 18
_LAYERS_SHOWN = 16
_CHANNELS_SHOWN = 16
_STRIP_SIDE = 160


def where_part(explanation: Explanation) -> list[Content]:
    """For each part of the prompt a card for each word: over the whole run, and early, in the middle and late; then
    layer by layer."""
    parts: list[Content] = []
    for number, maps in enumerate(explanation.maps, 1):
        if len(explanation.maps) > 1:
            weight = explanation.words.weights[number - 1]
            parts.append(tag("h3", f"Part {number} of {len(explanation.maps)}, weight {weight:g}"))
        parts += _maps_of(maps)
    return parts


def _maps_of(maps: HeatMaps) -> list[Content]:
    if not maps.filled:
        return [tag("p", "This network has no cross-attention, or its text changed on the way: there are no maps.")]
    mean, thirds = maps.mean(), list(maps.thirds())
    shares = mean.mean(dim=(1, 2)).tolist()
    shown = [number for number, group in enumerate(maps.groups) if _has_card(group)]
    shown.sort(key=lambda number: not says_something(maps.groups[number].label))  # small words come last
    cards = [
        _card(maps.groups[number], shares[number], mean[number], [(name, part[number]) for name, part in thirds])
        for number in shown[:_WORDS_LARGE]
    ]
    parts: list[Content] = []
    if cards:
        parts.append(tag("div", *cards, class_="acts"))
        parts.append(_layers(maps, shown[:_WORDS_LARGE]))
    if len(shown) > _WORDS_LARGE:
        parts.append(tag("p", f"The first {_WORDS_LARGE} words are drawn, of {len(shown)}.", class_="note"))
    rows = [(group.label, f"{100 * share:.1f} %") for group, share in zip(maps.groups, shares, strict=True)]
    parts.append(tag("details", tag("summary", "Shares of all, which sum to 100 %"), table(("token", "share"), rows)))
    return parts


def _has_card(group: Group) -> bool:
    return group.kind == "word" and any(sign.isalnum() for sign in group.label)


def _card(group: Group, share: float, mean: Tensor, thirds: Sequence[tuple[str, Tensor]]) -> Markup:
    figures = [_overlay(mean, group.label, "all steps and layers"), *(_overlay(m, group.label, n) for n, m in thirds)]
    heading = tag("h3", group.label, tag("span", f"{100 * share:.1f} %"))
    return tag("div", heading, tag("div", *figures, class_="four"), class_="card")


def _overlay(values: Tensor, word: str, caption: str) -> Markup:
    said = f"Where “{word}” acted, {caption}: most at the {region(values)}"
    return figure(tag("div", picture(veil(values), said), class_="seen"), caption)


def region(values: Tensor) -> str:
    """Where a map (h, w) is highest, in words."""
    height, width = values.shape
    place = int(values.flatten().argmax())
    row, column = (place // width + 0.5) / height, (place % width + 0.5) / width
    up = "top" if row < 1 / 3 else "bottom" if row > 2 / 3 else ""
    side = "left" if column < 1 / 3 else "right" if column > 2 / 3 else ""
    return f"{up} {side}".strip() or "middle"


def _layers(maps: HeatMaps, shown: Sequence[int]) -> Markup:
    names = maps.layers
    chosen = sorted(
        {round(i * (len(names) - 1) / max(min(_LAYERS_SHOWN, len(names)) - 1, 1)) for i in range(_LAYERS_SHOWN)}
    )
    chosen = [place for place in chosen if place < len(names)]
    rows: list[Content] = []
    for number in shown[:8]:
        word = maps.groups[number].label
        figures = []
        for place in chosen:
            values = maps.layer(names[place])[number]
            size = f"{values.shape[1]} × {values.shape[0]}"
            figures.append(_overlay(values, word, f"{layer_label(names[place])}, {size}"))
        rows += [tag("h3", word), tag("div", *figures, class_="layers")]
    return tag("details", tag("summary", f"Layer by layer ({len(names)} layers of the U-Net)"), *rows)


def layer_label(name: str) -> str:
    """A layer's place in words: "down_blocks.1.attentions.0.transformer_blocks.0" gives "down 2.1"."""
    parts = name.split(".")
    numbers = [str(int(part) + 1) for part in parts if part.isdigit()]
    if parts[0] == "mid_block":
        return "middle" if numbers[1:] in ([], ["1"]) else f"middle {numbers[1]}"
    numbers = numbers[:-1] if numbers[-1] == "1" and len(numbers) > 2 else numbers
    return f"{parts[0].removesuffix('_blocks')} {'.'.join(numbers)}"


def decoder_part(drawing: Drawing) -> list[Content]:
    """The finished latents, layer by layer, and what the decoder makes of them."""
    latents = drawing.explanation.kept[-1].latents
    channels, height, width = latents.shape
    tiles = [
        picture(grey(channel), f"Layer {number} of the latents", class_="pixels")
        for number, channel in enumerate(latents[:_CHANNELS_SHOWN], 1)
    ]
    numbers = latents.numel()
    pixels = 3 * drawing.drawn.width * drawing.drawn.height
    before = f"{channels} layers of {width} × {height}: {numbers:,} numbers."
    size = f"{drawing.drawn.width} × {drawing.drawn.height} pixels"
    after = f"{size}: {pixels:,} numbers, {pixels / numbers:.0f} times as many."
    laid = drawing.explanation.beginning.part_of_source
    if laid:
        after += " They are laid into the picture that was given."
    said = "What the decoder draws" if laid else "The finished picture"
    image = picture(drawing.small, said, "image/webp", style="width:100%")
    flow = (figure(tag("div", *tiles, class_="tiles"), before), tag("div", "→", class_="arrow"), figure(image, after))
    return [
        tag("div", *flow, class_="decode card"),
        tag("p", f"Decoding took {drawing.decode_seconds * 1000:.0f} ms.", class_="note"),
    ]


def picture_part(drawing: Drawing, strips: Sequence[Strip]) -> list[Content]:
    """The picture itself, and the same seed with one thing done otherwise."""
    said = "This is the finished picture, the very file that rein generate writes, with its settings inside. "
    more = (
        "Below, the same seed with one thing done otherwise: what stays is the noise's, what changes is that thing's."
    )
    image = picture(drawing.finished, "The finished picture")
    parts: list[Content] = [tag("p", said, more if strips else None), figure(image, _settings(drawing))]
    own = thumbnail(drawing.image, _STRIP_SIDE)
    for strip in strips:
        pictures = [figure(picture(own, "This picture", "image/webp"), "this picture", class_="own")]
        pictures += [
            figure(picture(thumbnail(v.image, _STRIP_SIDE), v.label, "image/webp"), v.label) for v in strip.variants
        ]
        parts += [tag("h3", strip.title[0].upper() + strip.title[1:]), tag("div", *pictures, class_="strip")]
    return parts


def _settings(drawing: Drawing) -> str:
    request = drawing.explanation.request
    return f"Seed {request.seed}, {request.steps} steps of {request.sampler}, guidance {request.guidance_scale:g}."
