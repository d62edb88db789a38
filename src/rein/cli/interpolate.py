"""`rein interpolate`: the pictures on the way from one prompt or seed to another, as an animation or a sheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from rein.cli.app import app
from rein.cli.progress import Meter, Pace, meter
from rein.cli.values import number, settings, whole
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


@app.command("interpolate", epilog=_EXAMPLES)
def interpolate(
    start: Annotated[str, typer.Argument(metavar="PROMPT", help="What the first picture shows.")],
    to: Annotated[str, typer.Argument(metavar="PROMPT", help="What the last one shows; may be the same.")],
    frames: Annotated[int, typer.Option(parser=whole, metavar="N", help="Pictures, 2 to 1000.")] = 8,
    seed: Annotated[
        int | None, typer.Option("--seed", "-s", parser=whole, metavar="N", help="[default: a fresh one]")
    ] = None,
    to_seed: Annotated[
        int | None, typer.Option(parser=whole, metavar="N", help="Seed of the last picture. [default: the same]")
    ] = None,
    negative: Annotated[str, typer.Option(metavar="T", help="What they should not show.", show_default=False)] = "",
    steps: Annotated[int, typer.Option(parser=whole, metavar="N", help="Sampling steps, 1 to 1000.")] = 20,
    way: Annotated[str, typer.Option(metavar="W", help="How words are mixed: line, or arc.")] = "line",
    fps: Annotated[float, typer.Option(parser=number, metavar="X", help="Pictures a second of an animation.")] = 8.0,
    back: Annotated[bool, typer.Option("--back", help="Let an animation go back again, without a jump.")] = False,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME|PATH", help="A model inside Rein, a file or a folder.")
    ] = "pocket",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .webp, .png or .jpg file; it is replaced.")
    ] = Path("interpolated.webp"),
    device: Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda, cuda:1, ... or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="T", help="auto, float32, bfloat16 or float16.")] = "auto",
    rare: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other field of a request.")
    ] = None,
) -> None:
    """Draw the pictures on the way from one prompt or seed to another."""
    wanted = {"prompt": start, "negative_prompt": negative, "seed": seed, "steps": steps} | settings(rare or ())
    if way not in ("line", "arc"):
        raise InputError(f"--way is {quoted(way)}: it must be line or arc")
    if not 0.1 <= fps <= 100:
        raise InputError(f"--fps is {fps:g}: it must be a number from 0.1 to 100")
    walk = _Walk(wanted, to, frames, to_seed, cast("Way", way))
    with meter() as shown:
        shown.show("starting")
        from rein.files import format_of

        format_of(output)
        try:
            walk.draw(shown, model, device, dtype)
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

    def draw(self, shown: Meter, name: str, device: str, dtype: str) -> None:
        """Raises `InputError` and what drawing raises."""
        from rein.pipeline.interpolate import shares
        from rein.pipeline.model import load
        from rein.pipeline.request import Request

        shares(self._frames)
        request = Request.model_validate(self._wanted)
        shown.show(f"loading {name}")
        self._run(shown, load(name, device, dtype), request)

    def _run(self, shown: Meter, model: Model, request: Any) -> None:
        from rein.pipeline.interpolate import interpolated

        pace = Pace()
        steps = interpolated(model.parts, request, self._to, self._frames, self._to_seed, self._way)
        for place, step in steps:
            done, total = place * step.steps + step.index + 1, self._frames * step.steps
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
            labels = [f"{share:.2f}" for share in shares(self._frames)]
            write_image(grid(self.images, labels=labels), path, texts)
