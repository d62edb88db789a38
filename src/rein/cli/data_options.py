"""The options of `rein data`: what each is called and says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rein.cli.values import number, whole

Source = Annotated[
    str,
    typer.Argument(metavar="FOLDER", help="A folder, metadata.jsonl or .csv, a tar archive, or an address of one."),
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")]
Also = Annotated[list[str] | None, typer.Option(metavar="PLACE", help="Read this too; may be repeated.")]
Side = Annotated[int, typer.Option(parser=whole, metavar="N", help="Side of a square picture in pixels.")]
Buckets = Annotated[
    bool, typer.Option("--buckets/--square", help="Keep shapes, each near one of some sizes; or cut all square.")
]
Step = Annotated[
    int | None,
    typer.Option(parser=whole, metavar="N", help="Sides are multiples of this. [default: 64, less below 512]"),
]
Longest = Annotated[float, typer.Option(parser=number, metavar="X", help="Long side over short side, at most.")]
Cut = Annotated[str, typer.Option(metavar="HOW", help="What is kept where the shape differs: centre, smart.")]
CropList = Annotated[
    Path | None, typer.Option(metavar="FILE.csv", help="Parts to keep: file_name,left,top,width,height.")
]
Minimum = Annotated[
    int | None, typer.Option(parser=whole, metavar="N", help="Shortest side that is taken. [default: half the size]")
]
ResizeIn = Annotated[str, typer.Option(metavar="SPACE", help="Average pixels in: srgb, linear, lab.")]
Duplicates = Annotated[
    str, typer.Option(metavar="N|keep", help="Leave out pictures that differ in at most N of 64 bits, 0 to 32.")
]
AlphaMasks = Annotated[
    bool, typer.Option("--alpha-masks", help="Make masks of what is opaque, where there is no mask file.")
]
Trigger = Annotated[str, typer.Option(metavar="WORDS", help="Put in front of every caption.", show_default=False)]
NeedCaptions = Annotated[bool, typer.Option("--need-captions", help="Leave out pictures without a caption.")]
Encoding = Annotated[
    str, typer.Option(metavar="NAME", help="Of caption files without a mark: utf-8, cp1252, shift_jis ...")
]
Column = Annotated[str | None, typer.Option(metavar="NAME", help="Of tables. [default: text, caption ...]")]
Augment = Annotated[
    str | None, typer.Option(metavar="FILE.toml|NAME", help="Changes for copies: light, strong, or a list.")
]
Copies = Annotated[int, typer.Option(parser=whole, metavar="N", help="Changed copies of each picture.")]
Seed = Annotated[int | None, typer.Option(parser=whole, metavar="N", help="Of the changes. [default: theirs]")]
Replace = Annotated[bool, typer.Option("--replace", help="Make a prepared OUT again.")]

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures; captions are written beside them.")]
CaptionModel = Annotated[
    str, typer.Option("--model", "-m", metavar="DIR", help="A BLIP, BLIP-2 or InstructBLIP model of transformers.")
]
Begin = Annotated[str, typer.Option(metavar="WORDS", help="The caption goes on from these words.", show_default=False)]
Tokens = Annotated[int, typer.Option(parser=whole, metavar="N", help="The most that is written, 1 to 400.")]
Beams = Annotated[int, typer.Option(parser=whole, metavar="N", help="Hypotheses kept on the way, 1 to 16.")]
Batch = Annotated[int, typer.Option(parser=whole, metavar="N", help="Pictures looked at together.")]
Rewrite = Annotated[bool, typer.Option("--replace", help="Also where there is a caption.")]

TowerModel = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME|PATH", help="A family, a model inside Rein, or one's place.")
]
Count = Annotated[int, typer.Option(parser=whole, metavar="N", help="How many to list.")]
Shortest = Annotated[int, typer.Option(parser=whole, metavar="N", help="Fewest letters.")]
Most = Annotated[int, typer.Option(parser=whole, metavar="N", help="Most letters.")]
