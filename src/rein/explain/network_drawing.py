"""A network drawn as SVG: a box for each block, rows for its levels, down on the left and up on the right.

The bar in a box says how much of the network's time the block takes; where no time was measured, of its multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rein.explain.network import Block, Network
from rein.html import Markup, join, tag

_BOX_WIDTH, _BOX_HEIGHT, _STEP, _GAP, _MARGIN, _HEAD = 316, 40, 49, 84, 14, 26

_HALF = _BOX_WIDTH // 2

_TONES = {
    "residual block": "residual",
    "transformer": "attends",
    "transformer layer": "attends",
    "attention": "attends",
    "halve": "resizes",
    "double": "resizes",
}
_TONE_NAMES = {
    "residual": "residual block: looks at neighbours",
    "attends": "transformer: looks at all other places, or words",
    "resizes": "half or double the size",
    "other": "the rest",
}
_WIDE_KINDS = ("up_blocks", "decoder", "post_quant_conv", "conv_norm_out", "conv_out")

STYLE = """
.network{font:12.5px system-ui,sans-serif;max-width:44rem;min-width:33rem}
.network.single{max-width:22rem;min-width:19rem}
.network text{fill:var(--ink)}.network .soft{fill:var(--soft);font-size:11px}
.network .level{fill:var(--tint);opacity:.45}.network .flow{stroke:var(--soft);fill:none}
.network .skip{stroke:var(--soft);stroke-dasharray:3 4;fill:none}.network .tip{fill:var(--soft)}
.network .box{fill:var(--card);stroke:var(--line)}.network .tone{fill:var(--soft)}
.network .residual .tone{fill:var(--c0)}.network .attends .tone{fill:var(--c1)}.network .resizes .tone{fill:var(--c2)}
"""

_ALONE = (
    ":root{--card:#fff;--ink:#22242a;--soft:#5d6270;--line:#c9c6bd;--c0:#3652c9;--c1:#c2410c;--c2:#0f766e;"
    "--tint:#eceffb;--paper:#fbfaf7}@media (prefers-color-scheme:dark){:root{--card:#1d2027;--ink:#e8e6e1;"
    "--soft:#a2a7b4;--line:#454b57;--c0:#93a8ff;--c1:#ff9f68;--c2:#5ed0c3;--tint:#262c42;--paper:#14161b}}"
    ".network,.network.single{min-width:0;max-width:none}.paper{fill:var(--paper)}"
)
"""Colours of a drawing that is a file of its own; in a page they are the page's."""


@dataclass
class _Level:
    """Blocks of one size: on the way down, between, and on the way up."""

    label: str
    down: list[Block] = field(default_factory=list)
    middle: list[Block] = field(default_factory=list)
    up: list[Block] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return max(len(self.down), len(self.up), len(self.middle))


def network_svg(network: Network, alone: bool = False) -> Markup:
    """The drawing; `alone` makes it a file of its own, with colours for light and dark."""
    levels = _levels(network)
    double = any(level.up or level.middle for level in levels)
    width = 2 * _MARGIN + _BOX_WIDTH + (_GAP + _BOX_WIDTH if double else 0)
    parts: list[Markup] = []
    top, last = _MARGIN, None
    for level in levels:
        high = _HEAD + level.rows * _STEP
        parts.append(tag("rect", x=4, y=top, width=width - 8, height=high - 4, rx=8, class_="level"))
        parts.append(tag("text", level.label, x=_MARGIN, y=top + 17, class_="soft"))
        parts += _columns(level, network, top + _HEAD)
        if last is not None:
            parts += _between(last, level, top)
        last, top = level, top + high
    if network.name == "unet":
        parts += _skips(levels)
    if network.name == "autoencoder":
        parts += _latents(levels[-1], top)
    parts += _legend(network, top + 6)
    top += 30 + 17 * len(_tones(network))
    said = f"{network.title}: {len(network.blocks)} blocks, {count(network.parameters)} parameters"
    attributes = {"viewBox": f"0 0 {width} {top}", "role": "img", "aria_label": said}
    classes = "network" if double else "network single"
    if not alone:
        return tag("svg", *parts, class_=classes, **attributes)
    paper = tag("rect", width=width, height=top, class_="paper")
    style = Markup(f"<style>{STYLE}{_ALONE}</style>")
    size = {"xmlns": "http://www.w3.org/2000/svg", "width": width, "height": top}
    return tag("svg", style, paper, *parts, class_=classes, **size, **attributes)


def _levels(network: Network) -> list[_Level]:
    """The blocks by the size of what they are given; those without places come first, a U-Net's middle last."""
    levels: dict[str, _Level] = {}
    for block in network.blocks:
        label = _label(block, network.name)
        level = levels.setdefault(label, _Level(label))
        first = block.name.partition(".")[0]
        if label == "middle":
            level.middle.append(block)
        elif network.name in ("unet", "autoencoder") and first in _WIDE_KINDS:
            level.up.append(block)
        else:
            level.down.append(block)
    return sorted(levels.values(), key=lambda level: (level.label == "middle") - level.label.startswith("no places"))


def _label(block: Block, network: str) -> str:
    if network == "unet" and block.name.startswith("mid_block"):
        return "middle"
    if len(block.given) == 3:
        return f"{block.given[2]} × {block.given[1]} places"
    places = block.gives[0] if len(block.gives) == 2 else 0
    return f"{places} tokens" if places else "no places: one row of numbers"


def _columns(level: _Level, network: Network, top: int) -> list[Markup]:
    """The boxes of a level; those on the way up from the bottom."""
    right, middle = _MARGIN + _BOX_WIDTH + _GAP, _MARGIN + (_BOX_WIDTH + _GAP) // 2
    parts = [_box(block, network, (_MARGIN, top + row * _STEP)) for row, block in enumerate(level.down)]
    parts += [_box(block, network, (middle, top + row * _STEP)) for row, block in enumerate(level.middle)]
    rows = level.rows
    parts += [_box(block, network, (right, top + (rows - 1 - row) * _STEP)) for row, block in enumerate(level.up)]
    for row in range(1, len(level.down)):
        parts.append(_arrow((_MARGIN + _HALF, top + row * _STEP - (_STEP - _BOX_HEIGHT)), _STEP - _BOX_HEIGHT))
    for row in range(1, len(level.middle)):
        parts.append(_arrow((middle + _HALF, top + row * _STEP - (_STEP - _BOX_HEIGHT)), _STEP - _BOX_HEIGHT))
    for row in range(1, len(level.up)):
        parts.append(_arrow((right + _HALF, top + (rows - row) * _STEP), -(_STEP - _BOX_HEIGHT)))
    return parts


def _box(block: Block, network: Network, at: tuple[int, int]) -> Markup:
    x, y = at
    share = _share(block, network)
    facts = [f"{count(block.parameters)} parameters", f"{count(block.multiply_adds)} multiply-adds"]
    if block.seconds is not None:
        facts.append(duration(block.seconds))
    tone = _TONES.get(block.kind.rpartition("× ")[2], "other")
    return tag(
        "g",
        tag("title", f"{block.name}: {shape(block.given)} to {shape(block.gives)}, {', '.join(facts)}"),
        tag("rect", x=x, y=y, width=_BOX_WIDTH, height=_BOX_HEIGHT, rx=6, class_="box"),
        tag("rect", x=x, y=y, width=5, height=_BOX_HEIGHT, rx=2, class_="tone"),
        tag("text", block.kind, x=x + 13, y=y + 15),
        tag("text", shape(block.gives), x=x + _BOX_WIDTH - 8, y=y + 15, text_anchor="end", class_="soft"),
        tag("text", " · ".join(facts), x=x + 13, y=y + 29, class_="soft"),
        tag("rect", x=x + 13, y=y + 34, width=round(share * (_BOX_WIDTH - 21), 1), height=3, rx=1, class_="tone"),
        class_=tone,
    )


def _share(block: Block, network: Network) -> float:
    """The block's part of the network's time, or of its multiply-adds; 1 for the largest block."""
    timed = all(entry.seconds is not None for entry in network.blocks)
    values = [(entry.seconds or 0.0) if timed else float(entry.multiply_adds) for entry in network.blocks]
    own = (block.seconds or 0.0) if timed else float(block.multiply_adds)
    return own / max(*values, 1e-12)


def _arrow(at: tuple[int, int], length: int) -> Markup:
    """An arrow from a place downwards, or upwards for a negative length."""
    x, y = at
    end, back = y + length, -5 if length > 0 else 5
    return join(
        [
            tag("line", x1=x, x2=x, y1=y, y2=end + back, class_="flow"),
            tag("path", d=f"M{x - 4} {end + back}h8L{x} {end}z", class_="tip"),
        ]
    )


def _between(above: _Level, below: _Level, top: int) -> list[Markup]:
    """Arrows from one level to the next, and back up; to and from the middle they turn."""
    parts, space = [], _STEP - _BOX_HEIGHT
    left, right = _MARGIN + _HALF, _MARGIN + _BOX_WIDTH + _GAP + _HALF
    from_down, end = top - (above.rows - len(above.down)) * _STEP - space, top + _HEAD
    if below.middle:
        box = _MARGIN + (_BOX_WIDTH + _GAP) // 2
        first, last = end + _BOX_HEIGHT // 2, end + (len(below.middle) - 1) * _STEP + _BOX_HEIGHT // 2
        down = f"M{left} {from_down}V{first}H{box - 6}"
        up = f"M{box + _BOX_WIDTH} {last}H{right}V{top - space + 6}"
        parts += [tag("path", d=down, class_="flow"), tag("path", d=up, class_="flow")]
        parts.append(tag("path", d=f"M{box - 6} {first - 4}v8L{box} {first}z", class_="tip"))
        parts.append(tag("path", d=f"M{right - 4} {top - space + 6}h8L{right} {top - space}z", class_="tip"))
        return parts
    if above.down and below.down and not above.label.startswith("no places"):
        parts.append(_arrow((left, from_down), end - from_down))
    if above.up and below.up:
        first_up = end + (below.rows - len(below.up)) * _STEP
        parts.append(_arrow((right, first_up), -(first_up - top + space)))
    return parts


def _skips(levels: Sequence[_Level]) -> list[Markup]:
    """What a U-Net hands across: the results of the way down, level by level."""
    parts, top = [], _MARGIN
    for level in levels:
        if level.down and level.up:
            y, start = top + _HEAD + (len(level.down) - 1) * _STEP + _BOX_HEIGHT // 2, _MARGIN + _BOX_WIDTH
            parts.append(tag("line", x1=start + 4, x2=start + _GAP - 9, y1=y, y2=y, class_="skip"))
            parts.append(tag("path", d=f"M{start + _GAP - 9} {y - 4}v8L{start + _GAP - 3} {y}z", class_="tip"))
            words = tag("text", "handed on", x=start + _GAP // 2, y=y - 6, text_anchor="middle", class_="soft")
            parts.append(words)
        top += _HEAD + level.rows * _STEP
    return parts


def _latents(level: _Level, floor: int) -> list[Markup]:
    """From what the encoder made to where the decoder begins; `floor` is the lower end of the last level."""
    if not (level.down and level.up):
        return []
    last = floor - (level.rows - len(level.down)) * _STEP - _STEP + _BOX_HEIGHT // 2
    first, start = floor - _STEP + _BOX_HEIGHT // 2, _MARGIN + _BOX_WIDTH
    end = start + _GAP
    path = f"M{start} {last}H{start + _GAP // 2}V{first}H{end - 6}"
    tip = tag("path", d=f"M{end - 6} {first - 4}v8L{end} {first}z", class_="tip")
    words = tag("text", "latents", x=start + _GAP // 2, y=last - 6, text_anchor="middle", class_="soft")
    return [tag("path", d=path, class_="flow"), tip, words]


def _tones(network: Network) -> list[str]:
    used = {_TONES.get(block.kind.rpartition("× ")[2], "other") for block in network.blocks}
    return [tone for tone in _TONE_NAMES if tone in used]


def _legend(network: Network, top: int) -> list[Markup]:
    timed = all(block.seconds is not None for block in network.blocks)
    bar = "the bar: its part of the time" if timed else "the bar: its part of the multiply-adds"
    parts = [tag("text", f"{bar}, the largest being full", x=_MARGIN, y=top + 10, class_="soft")]
    for row, tone in enumerate(_tones(network), 1):
        y = top + 10 + 17 * row
        swatch = tag("rect", x=_MARGIN, y=y - 9, width=10, height=10, rx=2, class_="tone")
        parts.append(tag("g", swatch, tag("text", _TONE_NAMES[tone], x=_MARGIN + 17, y=y, class_="soft"), class_=tone))
    return parts


def shape(sizes: Sequence[int]) -> str:
    """ "96 × 16 × 16"."""
    return " × ".join(str(size) for size in sizes)


def count(number: int) -> str:
    """ "1.23 M", "45.6 k", "789"."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}" if number < 999.5 * size else f"{number / size:.0f} {letter}"
    return str(number)


def duration(seconds: float) -> str:
    """ "1.2 s", "34 ms", "123 ms", "0.56 ms"."""
    return f"{rounded(seconds)} s" if seconds >= 0.9995 else f"{rounded(1000 * seconds)} ms"


def rounded(value: float) -> str:
    """Two digits, or all those before the point: "0.56", "1.2", "123"."""
    return f"{value:.2g}" if abs(value) < 99.5 else f"{value:.0f}"
