"""A model taken apart as one page: each of its networks drawn, with what every block costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from rein.explain.network import RUNS, Block, Network
from rein.explain.network_drawing import STYLE, count, duration, network_svg, shape
from rein.explain.page import BOOK
from rein.files import atomic_file
from rein.html import Markup, Page, section, table, tag
from rein.pipeline.model import Model

SAID = {
    "unet": "It is asked at every step: it gets the noisy latents, the noise level and the words, and says what is "
    "noise in them. It looks at the picture coarser and coarser (left), and puts the details back in (right), with "
    "what it saw on the way down handed across.",
    "autoencoder": "The encoder (left) makes latents of a picture, which are far fewer numbers; the decoder (right) "
    "makes a picture of latents. A picture from words needs the decoder alone, once, at the end.",
    "text-tower": "It reads the tokens of the prompt together, layer by layer, each looking at those before it. What "
    "comes out, a row of numbers for each token, is what the U-Net asks.",
    "discriminator": "It judges patches of pictures, real or decoded, and only while the autoencoder is trained: the "
    "decoder learns to draw so that it cannot tell them apart. It is no part of a finished model; this one has its "
    "shape, and has learned nothing.",
}
"""Two or three sentences on each network."""

_CHAPTERS = {"unet": "unet", "autoencoder": "decoder", "text-tower": "text-tower", "discriminator": "discriminator"}


def network_page(model: Model, networks: Sequence[Network], book: str | None = BOOK) -> Page:
    """The page; `book` as in `rein.explain.page.build_page`."""
    width, height = networks[0].size
    summary = f"Its networks at {width} × {height} pixels: blocks, shapes, parameters, multiply-adds, time."
    page = Page(f"{model.name}, taken apart", summary, style=STYLE)
    rows = [
        (
            network.title,
            f"{network.parameters:,}",
            count(network.multiply_adds),
            "" if network.seconds is None else duration(network.seconds),
        )
        for network in networks
    ]
    overview = table(("network", "parameters", "multiply-adds of a call", "time of a call"), rows)
    page.add(section("1", "Its networks", overview, tag("p", _how(model), class_="note"), anchor="networks"))
    for number, network in enumerate(networks, 2):
        page.add(_section(number, network, book))
    return page


def _how(model: Model) -> str:
    number = torch.get_num_threads()
    threads = f", {number} thread{'' if number == 1 else 's'}" if model.device.type == "cpu" else ""
    where = f"{model.device}, {str(model.dtype).removeprefix('torch.')}{threads}, PyTorch {torch.__version__}"
    return (
        f"Time: the median of {RUNS} calls with one picture, or the first call where that takes long ({where}). "
        "A multiply-add is one multiplication and one addition; those of attention are among them."
    )


def _section(number: int, network: Network, book: str | None) -> Markup:
    kind = network.name.rstrip("-0123456789")
    drawing = tag("div", network_svg(network), class_="wide")
    rows = [_row(block) for block in network.blocks]
    head = ("block", "what", "given", "gives", "parameters", "multiply-adds", "time")
    more = tag("details", tag("summary", f"All {len(rows)} blocks as a table"), table(head, rows))
    title = f"{network.title} in the book"
    link: Markup = tag("p", f"More: {title}.", class_="note")
    if book is not None:
        link = tag("a", title, href=f"{book.format('book/architecture')}#{_CHAPTERS[kind]}")
        link = tag("p", "More: ", link, class_="note")
    return section(str(number), network.title, tag("p", SAID[kind]), drawing, more, link, anchor=network.name)


def _row(block: Block) -> tuple[Markup | str, ...]:
    return (
        tag("code", block.name),
        block.kind,
        shape(block.given),
        shape(block.gives),
        f"{block.parameters:,}",
        count(block.multiply_adds),
        "" if block.seconds is None else duration(block.seconds),
    )


def write_drawings(networks: Sequence[Network], page: Path) -> list[Path]:
    """Each network as an SVG file beside the page; returns where they are. Raises as `rein.files.atomic_file`."""
    paths = [page.with_name(f"{page.stem}-{network.name}.svg") for network in networks]
    for path, network in zip(paths, networks, strict=True):
        with atomic_file(path) as handle:
            handle.write(network_svg(network, alone=True).encode("utf-8"))
    return paths
