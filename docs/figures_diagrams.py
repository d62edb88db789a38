"""Diagrams drawn from the live modules, as SVG: see figures.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from torch import nn

import rein
from rein.explain.network import Network, networks
from rein.explain.network_drawing import network_svg
from rein.html import Markup, join, tag
from rein.nn.specs import ModelSpec

WIDTH, HEIGHT, BOX = 1000, 366, 150
STYLE = """
svg{font:14px system-ui,sans-serif}
rect{fill:#eceffb;stroke:#3652c9;stroke-width:1.5}
text{fill:#22242a;text-anchor:middle}
.data{fill:#5d6270;font-size:12.5px}.name{font-weight:600}
path{fill:none;stroke:#3652c9;stroke-width:1.5}
.paper{fill:#fff;stroke:none}
"""


@dataclass(frozen=True)
class Box:
    """A part of the machine at a place of the diagram: its name, and a line on what it is."""

    x: int
    y: int
    name: str
    about: str

    def drawn(self) -> Markup:
        """The box with its two lines."""
        middle = self.x + BOX // 2
        return join(
            [
                tag("rect", x=self.x, y=self.y, width=BOX, height=52, rx=8),
                tag("text", self.name, x=middle, y=self.y + 22, class_="name"),
                tag("text", self.about, x=middle, y=self.y + 41, class_="data"),
            ]
        )


def _arrow(path: str) -> Markup:
    return tag("path", d=path, marker_end="url(#tip)")


def _note(words: str, x: float, y: float) -> Markup:
    return tag("text", words, x=x, y=y, class_="data")


def _size(module: nn.Module) -> str:
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{count / 1e6:.1f} million weights"


def machine() -> str:
    """The embedded model from words to picture, with the shapes that flow and the size of each network."""
    parts = rein.load(device="cpu").parts
    spec: ModelSpec = parts.spec
    tower, side = spec.towers[0], spec.native_size // spec.autoencoder.downscale
    latents = f"{side} × {side} × {spec.autoencoder.latent_channels}"
    context = f"{tower.context_length} × {tower.width}"
    decoder = nn.ModuleList([parts.autoencoder.decoder, parts.autoencoder.post_quant_conv])
    boxes = [
        Box(20, 30, "tokenizer", f"{tower.vocabulary_size:,} pieces"),
        Box(300, 30, "text tower", _size(parts.towers[0])),
        Box(300, 150, "U-Net", _size(parts.unet)),
        Box(660, 150, "sampler", "one noise level less"),
        Box(660, 290, "decoder", _size(decoder)),
    ]
    arrows = [
        _arrow("M95 12V26"),
        _arrow("M170 56H296"),
        _arrow("M375 82V146"),
        _arrow("M20 176H296"),
        _arrow("M450 176H656"),
        _arrow("M690 202V226Q690 238 678 238H387Q375 238 375 226V206"),
        _arrow("M775 202V286"),
        _arrow("M660 316H560"),
    ]
    notes = [
        _note("“a red apple, flat style”", 95, 6),
        _note(f"{tower.context_length} numbers", 233, 48),
        _note(f"context, {context}", 440, 118),
        _note(f"noise, {latents}", 130, 168),
        _note("made by the seed", 130, 194),
        _note("what is under the noise", 553, 168),
        _note("a little less noisy: again, some twenty times", 532, 256),
        _note(f"finished latents, {latents}", 872, 250),
        _note(f"a picture, {spec.native_size} × {spec.native_size} × {spec.autoencoder.picture_channels}", 465, 320),
    ]
    head = tag(
        "marker",
        tag("path", d="M0 0L8 4L0 8z", style="fill:#3652c9"),
        id="tip",
        viewBox="0 0 8 8",
        refX=7,
        refY=4,
        markerWidth=8,
        markerHeight=8,
        orient="auto",
    )
    body = [
        Markup(f"<style>{STYLE}</style>"),
        tag("defs", head),
        tag("rect", x=-20, y=-14, width=WIDTH, height=HEIGHT, class_="paper"),
    ]
    inside = join([*body, *arrows, *(box.drawn() for box in boxes), *notes])
    return tag("svg", inside, xmlns="http://www.w3.org/2000/svg", viewBox=f"-20 -14 {WIDTH} {HEIGHT}", role="img")


@cache
def _networks() -> dict[str, Network]:
    """The embedded model's networks by name, without times, which would differ from machine to machine."""
    return {network.name: network for network in networks(rein.load(device="cpu").parts, timed=False)}


def _drawing(name: str) -> str:
    return str(network_svg(_networks()[name], alone=True))


FIGURES: dict[str, Callable[[], str]] = {
    "machine": machine,
    **{f"drawing-{name}": partial(_drawing, name) for name in ("unet", "autoencoder", "text-tower", "discriminator")},
}
