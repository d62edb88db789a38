"""`rein upscale`: pictures made larger."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rein.cli.app import app
from rein.cli.help import Sectioned
from rein.cli.options import (
    ADAPTERS,
    DEVICE,
    LANGUAGE,
    MODEL,
    AsJson,
    Given,
    load_model,
    request_fields,
    takes,
)
from rein.cli.progress import Meter, Pace, meter
from rein.cli.values import number, whole
from rein.errors import InputError, InterruptedWork, OutputError, ReinError, quoted
from rein.interrupt import HeldInterrupt
from rein.places import Place, written_free

if TYPE_CHECKING:
    from PIL import Image

    from rein.formats.upscalers import Upscaler
    from rein.pipeline.model import Model
    from rein.pipeline.request import Request
    from rein.pipeline.upscale import Part

_EXAMPLES = """
\b
Examples:
  rein upscale pictures/owl-7.png
  rein upscale *.png --by 4 --upscaler RealESRGAN_x4plus.pth --output large/
  rein upscale owl.png --by 2 --prompt "an owl on a branch" --strength 0.3 -o owl-large.png

An upscaler's network is used in overlapping tiles that leave no seam, and again where its scale is less than --by. With
--prompt the enlarged picture is drawn again, tile by tile. The last line of the output is the path of the picture, or
of the folder. Of several pictures the bad ones are listed, and the others made; the exit code is then 1.
"""

_SHOWN = 4


@dataclass(frozen=True)
class Drawing:
    """How much of each tile is drawn anew, and how large they are; None is the model's native size."""

    strength: float
    tile: int | None


@dataclass
class Enlarging:
    """One run of the command: what is wanted, and what is finished so far."""

    by: float
    upscaler: str
    output: str | None
    tile: int
    overlap: int
    paths: list[Path] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    _place: Place | None = None
    _network: str | Upscaler = "lanczos"
    _model: Model | None = None
    _request: Request | None = None
    _drawing: Drawing | None = None

    def prepare(self, count: int, device: str) -> None:
        """Check the numbers and the place, and load the upscaler. Raises `InputError`, `DamagedFileError`."""
        from rein.devices import choose_device
        from rein.formats.upscalers import load_upscaler
        from rein.pipeline.upscale import INTERPOLATIONS, MAX_FACTOR, check_numbers

        if not 1 <= self.by <= MAX_FACTOR:
            raise InputError(f"--by is {self.by:g}: it must be a number from 1 to {MAX_FACTOR:g}")
        check_numbers(self.by, self.tile, self.overlap)
        self._place = Place.of(self.output, "picture", 1)
        if self._place.style == "single" and count > 1:
            raise InputError(f"output is {quoted(self.output)}, one file for {count} pictures: give a folder")
        if self.upscaler in INTERPOLATIONS:
            self._network = self.upscaler
        elif not os.path.lexists(self.upscaler):
            known = ", ".join(INTERPOLATIONS)
            raise InputError(f"--upscaler is {quoted(self.upscaler)}, and there is no such file: give one, or {known}")
        else:
            self._network = load_upscaler(self.upscaler, choose_device(device))

    def prepare_drawing(self, prompt: str, given: Given, drawing: Drawing) -> None:
        """Load the model that draws the tiles again. Raises as `rein.load` and `Request`."""
        from rein.devices import fresh_seed
        from rein.pipeline.request import Request
        from rein.pipeline.upscale import check_numbers

        if drawing.tile is not None:
            check_numbers(self.by, drawing.tile, 0)
        if not 0 <= drawing.strength <= 1:
            raise InputError(f"strength is {drawing.strength:g}: it must be a number from 0 to 1")
        request = Request.model_validate({"prompt": prompt} | request_fields(given))
        self._request = request if request.seed is not None else request.replace(seed=fresh_seed())
        self._model, self._drawing = load_model(given), drawing

    def check_place(self) -> None:
        """Try the place, so that long work does not end in a refusal. Raises `OutputError`."""
        assert self._place is not None
        self._place.check()

    def enlarge(self, source: str, shown: Meter) -> None:
        """Make one picture larger and save it.

        Raises:
            InputError, DamagedFileError: the picture cannot be read, or would become too large.
            OutputError: it cannot be written.
        """
        from rein.image_files import check_sides, read_image, read_texts
        from rein.pipeline.redraw import redraw
        from rein.pipeline.upscale import enlarged_size, upscale_steps

        image, texts = read_image(source), read_texts(source)
        name, pace, wanted = Path(source).name, Pace(), self._wanted(source)
        check_sides(enlarged_size(image.size, self.by), wanted)
        image = self._followed(upscale_steps(image, self.by, self._network, self.tile, self.overlap), name, pace, shown)
        if self._model is not None and self._request is not None and self._drawing is not None:
            tiles = redraw(self._model, self._request, image, self._drawing.strength, self._drawing.tile)
            image = self._followed(tiles, f"drawing {name}", Pace(), shown)
        self._write(image, wanted, self._texts(texts, image.size))

    def _write(self, image: Image.Image, wanted: Path, texts: Mapping[str, str]) -> None:
        from rein.image_files import write_image

        with HeldInterrupt() as held:  # a picture that is there is told of
            self.paths.append(written_free(wanted, lambda path: write_image(image, path, texts, replace=False)))
        if held.asked:
            raise KeyboardInterrupt

    @staticmethod
    def _followed(parts: Iterator[Part], name: str, pace: Pace, shown: Meter) -> Image.Image:
        """The picture at the end of the work, whose progress is shown."""
        made: Image.Image | None = None
        for part in parts:
            made, done = part.image, part.index + 1
            shown.show(name, done, part.parts, pace.note(done, part.parts, "tile/s"))
        assert made is not None
        return made

    def _wanted(self, source: str) -> Path:
        """Where it is to be, unless the name is taken."""
        assert self._place is not None
        stem = self._place.stem if self._place.style == "single" else f"{Path(source).stem}-x{self.by:g}"
        return self._place.folder / f"{stem}{self._place.suffix}"

    def _texts(self, texts: Mapping[str, str], size: tuple[int, int]) -> dict[str, str]:
        """What the picture told of itself, and how it was made larger: in Rein's manifest where it has one, and as
        AUTOMATIC1111's web UI tells it."""
        name = self._network if isinstance(self._network, str) else self._network.name
        told = dict(texts) | {"postprocessing": f"Postprocess upscale by: {self.by:g}, Postprocess upscaler: {name}"}
        try:
            record = json.loads(told.get("rein", ""))
        except (ValueError, RecursionError):
            return told
        if isinstance(record, dict):
            upscaled: dict[str, Any] = {"by": self.by, "upscaler": name, "size": list(size)}
            if self._model is not None and self._request is not None and self._drawing is not None:
                redrawn = self._request.model_dump(mode="json", exclude_defaults=True)
                upscaled |= {"model": self._model.name, "request": redrawn, "strength": self._drawing.strength}
            told["rein"] = json.dumps(record | {"upscaled": upscaled}, ensure_ascii=False)
        return told

    def report(self, as_json: bool) -> None:
        """What was made, and what was not."""
        if as_json:
            print(json.dumps({"paths": [str(path) for path in self.paths], "problems": self.problems}, indent=1))
            return
        for source, problem in self.problems.items():
            print(f"not enlarged: {source}: {problem}")
        if self.paths:
            print(self.paths[0] if len(self.paths) == 1 else self.paths[0].parent, flush=True)

    def how_far(self, count: int) -> str:
        """What to say after an interrupt."""
        listed = ", ".join(str(path) for path in self.paths[:_SHOWN]) + (", ..." if len(self.paths) > _SHOWN else "")
        return f"interrupted: {len(self.paths)} of {count} pictures are finished" + (f": {listed}" if listed else "")


By = Annotated[float, typer.Option(parser=number, metavar="X", help="How many times wider and higher, 1 to 16.")]
Network = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="lanczos, nearest, or the file of an ESRGAN or Real-ESRGAN.")
]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="PATH", help="A picture file, or a folder. [default: pictures]"),
]
Tile = Annotated[int, typer.Option(parser=whole, metavar="N", help="Pixels a network sees at once, a side.")]
Overlap = Annotated[int, typer.Option(parser=whole, metavar="N", help="Pixels that two tiles share.")]
Words = Annotated[
    str | None, typer.Option(metavar="T", help="Draw the enlarged picture again, tile by tile, with these words.")
]
Strength = Annotated[float, typer.Option(parser=number, metavar="X", help="How much of a tile is drawn anew, 0 to 1.")]
DrawnTile = Annotated[
    int | None, typer.Option(parser=whole, metavar="N", help="Side of the tiles drawn. [default: the model's size]")
]


@app.command("upscale", epilog=_EXAMPLES, cls=Sectioned)
@takes("negative", "steps", "guidance", "sampler", "schedule", "seed", *ADAPTERS, *LANGUAGE, "rare", *MODEL, *DEVICE)
def upscale(
    *,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="PNG, JPEG or WebP files.")],
    by: By = 2,
    upscaler: Network = "lanczos",
    output: Output = None,
    tile: Tile = 192,
    overlap: Overlap = 16,
    prompt: Words = None,
    strength: Strength = 0.3,
    draw_tile: DrawnTile = None,
    given: Given,
    as_json: AsJson = False,
) -> None:
    """Make pictures larger."""
    work = Enlarging(by, upscaler, output, tile, overlap)
    try:
        with meter() as shown:
            shown.show("starting")
            work.prepare(len(images), given["device"])
            if prompt is not None:
                shown.show(f"loading {given['model']}")
                work.prepare_drawing(prompt, given, Drawing(strength, draw_tile))
            work.check_place()
            _enlarge_all(work, images, shown)
    except KeyboardInterrupt:
        raise InterruptedWork(work.how_far(len(images))) from None
    work.report(as_json)
    raise typer.Exit(1 if work.problems else 0)


def _enlarge_all(work: Enlarging, images: Sequence[str], shown: Meter) -> None:
    """One after the other. A bad one of several is noted, and the others go on; without a place none can."""
    for source in images:
        try:
            work.enlarge(source, shown)
        except OutputError:
            raise
        except ReinError as error:
            if len(images) == 1:
                raise
            work.problems[source] = str(error)
