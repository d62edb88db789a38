"""Options of commands that begin with a picture, or go on to a larger one; shared, so that they mean the same."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from rein.cli.values import number, whole
from rein.errors import InputError, quoted

_PANEL, _MASK, _LARGER = "Begin with a picture", "Paint a part of it", "Larger and other pictures"

_SIDES = ("left", "top", "right", "bottom")

Init = Annotated[
    str | None, typer.Option("--init", "-i", metavar="IMAGE", help="PNG, JPEG or WebP.", rich_help_panel=_PANEL)
]
Strength = Annotated[
    float | None,
    typer.Option(
        parser=number, metavar="X", rich_help_panel=_PANEL, help="How much to change it, 0 to 1. [default: 0.75]"
    ),
]
Resize = Annotated[
    str,
    typer.Option(
        metavar="M", rich_help_panel=_PANEL, help="To width and height: crop, stretch, fill (with its edges) or latent."
    ),
]
Loops = Annotated[
    int,
    typer.Option(parser=whole, metavar="N", rich_help_panel=_PANEL, help="Each result is the next start, 1 to 100."),
]
LoopStrength = Annotated[
    float, typer.Option(parser=number, metavar="X", rich_help_panel=_PANEL, help="Times the strength, each time.")
]
Outpaint = Annotated[
    str | None,
    typer.Option(
        metavar="M", rich_help_panel=_PANEL, help="Pixels to add: left=64,top=32, all=64, or the new size: 768x512."
    ),
]
Depth = Annotated[
    str | None,
    typer.Option(metavar="IMAGE", rich_help_panel=_PANEL, help="Of depth models: the map, bright being near."),
]
DepthModel = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER", rich_help_panel=_PANEL, help="A transformers model that estimates the depth of --init."
    ),
]
ImageGuidance = Annotated[
    float | None,
    typer.Option(
        parser=number,
        metavar="X",
        rich_help_panel=_PANEL,
        help="Of editing models: how closely to keep to --init, 0 to 100.",
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(metavar="IMAGE", rich_help_panel=_MASK, help="White is painted anew, black and transparent stay."),
]
MaskInvert = Annotated[bool, typer.Option("--mask-invert", rich_help_panel=_MASK, help="Paint the black parts.")]
MaskBlur = Annotated[
    float, typer.Option(parser=number, metavar="PX", rich_help_panel=_MASK, help="Softens the mask's edge, 0 to 256.")
]
Fill = Annotated[
    str,
    typer.Option(
        metavar="C", rich_help_panel=_MASK, help="Begin with: original, fill (colours around), noise, nothing."
    ),
]
OnlyMasked = Annotated[
    bool, typer.Option("--only-masked", rich_help_panel=_MASK, help="Draw the part round the mask at full size.")
]
MaskPadding = Annotated[
    int, typer.Option(parser=whole, metavar="PX", rich_help_panel=_MASK, help="Seen round it with --only-masked.")
]
SoftMask = Annotated[
    bool, typer.Option("--soft-mask", rich_help_panel=_MASK, help="Grey parts change as much as they are bright.")
]
Hires = Annotated[
    float | None,
    typer.Option(
        parser=number, metavar="X", rich_help_panel=_LARGER, help="Draw, make X times larger (1 to 8), draw over it."
    ),
]
Upscaler = Annotated[
    str, typer.Option(metavar="U", rich_help_panel=_LARGER, help="With --hires: latent, lanczos, or an ESRGAN file.")
]
HiresSteps = Annotated[
    int | None, typer.Option(parser=whole, metavar="N", rich_help_panel=_LARGER, help="[default: those of --steps]")
]
HiresStrength = Annotated[
    float, typer.Option(parser=number, metavar="X", rich_help_panel=_LARGER, help="How much is drawn over, 0 to 1.")
]
Seamless = Annotated[
    str, typer.Option(metavar="A", rich_help_panel=_LARGER, help="Edges that meet when tiled: none, x, y or both.")
]
Tile = Annotated[
    int | None,
    typer.Option(
        parser=whole, metavar="PX", rich_help_panel=_LARGER, help="Decode in parts of this side: less memory."
    ),
]
Refiner = Annotated[
    str | None, typer.Option(metavar="PATH", rich_help_panel=_LARGER, help="A second model that draws the last steps.")
]
RefinerSwitch = Annotated[
    float, typer.Option(parser=number, metavar="X", rich_help_panel=_LARGER, help="After this share of them, 0 to 1.")
]


def margins(text: str | None, picture: str | None) -> tuple[int, int, int, int] | None:
    """What `--outpaint` says: pixels by side, or the size that the picture shall have, itself in the middle.

    Raises:
        InputError: it says neither; a size smaller than the picture's.
    """
    if text is None:
        return None
    size = re.fullmatch(r"\s*(\d{1,5})\s*x\s*(\d{1,5})\s*", text)
    if size is not None:
        return _around((int(size[1]), int(size[2])), picture)
    found = dict.fromkeys(_SIDES, 0)
    for entry in text.split(","):
        name, sign, value = (part.strip() for part in entry.partition("="))
        if not sign or name not in (*_SIDES, "all") or not re.fullmatch(r"\d{1,5}", value):
            raise InputError(
                f"--outpaint {quoted(text)}: write pixels by side (left=64,top=32 or all=64), or a size (768x512)"
            )
        found |= dict.fromkeys(_SIDES if name == "all" else (name,), int(value))
    return found["left"], found["top"], found["right"], found["bottom"]


def _around(size: tuple[int, int], picture: str | None) -> tuple[int, int, int, int]:
    from rein.image_files import picture_size

    if picture is None:
        raise InputError("--outpaint needs the picture that it enlarges: give --init")
    old = picture_size(picture)
    if size[0] < old[0] or size[1] < old[1]:
        raise InputError(
            f"--outpaint {size[0]}x{size[1]}: the picture is {old[0]}x{old[1]} already; give a larger size"
        )
    left, top = (size[0] - old[0]) // 2, (size[1] - old[1]) // 2
    return left, top, size[0] - old[0] - left, size[1] - old[1] - top
