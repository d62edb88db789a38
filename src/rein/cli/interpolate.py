"""`rein interpolate`: the pictures on the way from one prompt or seed to another, as an animation or a sheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from rein.cli.app import app
from rein.cli.help import Sectioned
from rein.cli.options import DEVICE, LARGER, MASK, MODEL, REQUEST, Given, load_model, request_fields, takes, without
from rein.cli.progress import Meter, Pace, meter
from rein.cli.values import number, whole
from rein.errors import InputError, InterruptedWork, quoted

if TYPE_CHECKING:
    from PIL import Image

    from rein.pipeline.interpolate import Way
    from rein.pipeline.model import Model
    from rein.pipeline.result import Result

_EXAMPLES = """
\b
Examples:
  rein interpolate "a red apple, flat style" "a green pear, flat style" --frames 12 -o fruit.webp
  rein interpolate "a house" "a house" --seed 1 --to-seed 2 --frames 8 -o houses.png
  rein interpolate "a cat" "a dog" --way arc --back --fps 12 -o cat-dog.webp --set sampler=ddim

A .webp file is an animation, a .png or .jpg file a sheet with the way under each picture.
"""

_ANIMATED = ".webp"
_LABEL = "{:.2f}"


Frames = Annotated[int, typer.Option(parser=whole, metavar="N", help="Pictures, 2 to 1000.")]
ToSeed = Annotated[
    int | None, typer.Option(parser=whole, metavar="N", help="Seed of the last picture. [default: the same]")
]
Mixing = Annotated[str, typer.Option(metavar="W", help="How words are mixed: line, or arc.")]
Pictures = Annotated[float, typer.Option(parser=number, metavar="X", help="Pictures a second of an animation.")]
Back = Annotated[bool, typer.Option("--back", help="Let an animation go back again, without a jump.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="A .webp, .png or .jpg file; it is replaced.")
]

_TAKEN = without(REQUEST, "prompt", "prompt_file", "loops", "loop_strength", "outpaint", *MASK, *LARGER)
"""Of a request: what a picture on the way between two can have."""


@app.command("interpolate", epilog=_EXAMPLES, cls=Sectioned)
@takes(*_TAKEN, "seamless", "tile", *MODEL, *DEVICE)
def interpolate(
    *,
    start: Annotated[str, typer.Argument(metavar="PROMPT", help="What the first picture shows.")],
    to: Annotated[str, typer.Argument(metavar="PROMPT", help="What the last one shows; may be the same.")],
    frames: Frames = 8,
    to_seed: ToSeed = None,
    way: Mixing = "line",
    fps: Pictures = 8.0,
    back: Back = False,
    output: Output = Path("interpolated.webp"),
    given: Given,
) -> None:
    """Draw the way from one prompt or seed to another."""
    if way not in ("line", "arc"):
        raise InputError(f"--way is {quoted(way)}: it must be line or arc")
    if not 0.1 <= fps <= 100:
        raise InputError(f"--fps is {fps:g}: it must be a number from 0.1 to 100")
    walk = _Walk({"prompt": start} | request_fields(given), to, frames, to_seed, cast("Way", way))
    with meter() as shown:
        shown.show("starting")
        from rein.files import format_of

        format_of(output)
        try:
            walk.draw(shown, given, output)
        except KeyboardInterrupt:
            raise InterruptedWork(f"interrupted: {len(walk.images)} of {frames} pictures were drawn") from None
    walk.write(output, fps, back)
    print(output)


class _Walk:
    """The frames of one run."""

    def __init__(self, wanted: dict[str, Any], to: str, frames: int, to_seed: int | None, way: Way) -> None:
        self._wanted, self._to, self._frames, self._to_seed, self._way = wanted, to, frames, to_seed, way
        self.images: list[Image.Image] = []
        self._first: Result | None = None

    def draw(self, shown: Meter, given: Given, path: Path) -> None:
        """Raises `InputError` and what drawing raises."""
        from rein.pipeline.interpolate import shares
        from rein.pipeline.request import Request

        shares(self._frames)
        request = Request.model_validate(self._wanted)
        shown.show(f"loading {given['model']}")
        self._run(shown, load_model(given), request, path)

    def _run(self, shown: Meter, model: Model, request: Any, path: Path) -> None:
        from rein.image_files import check_sides
        from rein.images import caption, grid_size
        from rein.pipeline.interpolate import interpolated

        pace = Pace()
        steps = interpolated(model.parts, request, self._to, self._frames, self._to_seed, self._way)
        for place, step in steps:
            done, total = place * step.steps + step.index + 1, self._frames * step.steps
            if place == step.index == 0 and path.suffix.lower() != _ANIMATED:
                width, height = step.job.picture_size()
                below = caption(_LABEL.format(0), width).height
                check_sides(grid_size(self._frames, (width, height + below)), path)
            shown.show(f"picture {place + 1} of {self._frames}", done, total, pace.note(done, total))
            if step.last:
                self.images += step.result.images
                self._first = self._first or step.result

    def write(self, path: Path, fps: float, back: bool) -> None:
        """The animation, or the sheet, with what it was made of. Raises `OutputError`."""
        from rein.image_files import write_animation, write_image
        from rein.images import grid
        from rein.pipeline.interpolate import record, shares

        assert self._first is not None
        about = record(self._first.single(0), self._to, self._frames, self._to_seed, self._way)
        texts = {
            "parameters": self._first.infotext(0),
            "rein": json.dumps(self._first.manifest(0) | about, ensure_ascii=False),
        }
        if path.suffix.lower() == _ANIMATED:
            images = self.images + (self.images[-2:0:-1] if back else [])
            write_animation(images, path, fps, texts)
        else:
            labels = [_LABEL.format(share) for share in shares(self._frames)]
            write_image(grid(self.images, labels=labels), path, texts)
