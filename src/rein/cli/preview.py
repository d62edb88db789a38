"""`--preview`: a look at pictures while they are drawn, in the terminal, in a file that is replaced, or as files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rein.cli.progress import Meter
from rein.cli.values import whole
from rein.errors import InputError, OutputError, quoted
from rein.files import atomic_file, write_failure

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.segment import Segment

    from rein.formats.checkpoint import LoadedModel
    from rein.pipeline.generate import GenerationStep
    from rein.pipeline.preview import Preview

PreviewTarget = Annotated[
    str | None,
    typer.Option(
        "--preview",
        metavar="WHERE",
        help="Show how pictures come about: 'terminal', a .png file that is replaced, or a folder of all steps.",
    ),
]
PreviewEvery = Annotated[
    int | None, typer.Option(parser=whole, metavar="N", help="Preview every N steps, and the last. [default: 1]")
]
PreviewVae = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Decode previews with this file's autoencoder (TAESD). [default: colours only]"),
]

TERMINAL = "terminal"
_MOST_COLUMNS, _MOST_SHOWN = 40, 4
_LINES_KEPT_FREE = 4


@dataclass
class Previews:
    """Where previews go and how often.

    Fields:
        target: "terminal", a .png file, or a folder, in which a file is called SEED-STEP.png.
        every: steps from one to the next; the last step is always shown.
        autoencoder: the file whose decoder makes them; None for linear colours.
    """

    target: str
    every: int
    autoencoder: Path | None
    _preview: Preview | None = None
    _scale: int = 1
    _stopped: bool = False

    @classmethod
    def of(cls, target: str | None, every: int | None, autoencoder: str | None) -> Previews | None:
        """What the options ask for; None if that is nothing.

        Raises:
            InputError: an option that is wrong, or one that means nothing without `--preview`.
        """
        if target is None:
            given = {"--preview-every": every, "--preview-vae": autoencoder}
            for name, value in given.items():
                if value is not None:
                    raise InputError(f"{name} is {quoted(value)}: it means nothing without --preview")
            return None
        if every is not None and every < 1:
            raise InputError(f"--preview-every is {every}: it must be 1 or more")
        suffix = Path(target).suffix.lower()
        if not target or "\0" in target or suffix in (".jpg", ".jpeg", ".webp", ".gif"):
            raise InputError(f"--preview is {quoted(target)}: give 'terminal', a name that ends in .png, or a folder")
        return cls(target, every or 1, None if autoencoder is None else Path(autoencoder))

    @property
    def in_file(self) -> bool:
        """Whether one file is replaced again and again."""
        return Path(self.target).suffix.lower() == ".png" and not Path(self.target).is_dir()

    def open(self, parts: LoadedModel) -> None:
        """Make ready for a model.

        Raises:
            InputError: the autoencoder does not suit the model.
            DamagedFileError: its file, or the model's stored colours, cannot be read.
            OutputError: the folder cannot be made.
        """
        from rein.pipeline.preview import preview_of

        if self.autoencoder is not None and not self.autoencoder.is_file():
            raise InputError(f"--preview-vae is {quoted(str(self.autoencoder))}: there is no such file")
        self._preview = preview_of(parts, self.autoencoder)
        self._scale = parts.spec.autoencoder.downscale
        if self.target != TERMINAL and not self.in_file:
            try:
                Path(self.target).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_failure(self.target, error) from error

    def show(self, step: GenerationStep, meter: Meter) -> tuple[str, ...]:
        """Show a step if its turn has come. A preview that cannot be written is no reason to stop drawing: it is told
        in a note, and no more are made.
        """
        assert self._preview is not None
        due = (step.index + 1) % self.every == 0 or step.last
        if self._stopped or not due or (self.target == TERMINAL and not meter.visible):
            return ()
        from rein.pipeline.preview import side_by_side

        images = {seed: self._preview(latents) for seed, latents in zip(step.seeds, step.denoised, strict=True)}
        if self.target == TERMINAL:
            meter.picture(HalfBlocks(side_by_side(list(images.values())[:_MOST_SHOWN])))
            return ()
        try:
            if self.in_file:
                self._write(side_by_side(list(images.values())), Path(self.target), step)
            else:
                for seed, image in images.items():
                    self._write(image, Path(self.target, f"{seed}-{step.index + 1:04}.png"), step)
        except OutputError as error:
            self._stopped = True
            return (f"no more previews: {error}",)
        return ()

    def _write(self, image: Image.Image, path: Path, step: GenerationStep) -> None:
        """A preview at the picture's size. Pillow's fastest compression: it is looked at once."""
        from PIL.Image import Resampling

        height = step.denoised.shape[2] * self._scale
        size = image.width * height // image.height, height
        shown = image if image.size == size else image.resize(size, Resampling.BICUBIC)
        with atomic_file(path) as handle:
            shown.save(handle, "PNG", compress_level=1)


class HalfBlocks:
    """A picture for a terminal: each sign is the upper half of a cell in one pixel's colour, over that of the next."""

    def __init__(self, image: Image.Image) -> None:
        self._image = image
        self._made: dict[tuple[int, int], list[Segment]] = {}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What Rich shows; computed once, although a bar below it is drawn ten times a second."""
        lines = max(1, min(options.max_width // 2, console.height - _LINES_KEPT_FREE))
        room = min(options.max_width, _MOST_COLUMNS), 2 * lines
        if room not in self._made:
            self._made[room] = list(self._segments(*room))
        yield from self._made[room]

    def _segments(self, columns: int, rows: int) -> Iterator[Segment]:
        from PIL.Image import Resampling
        from rich.color import Color
        from rich.segment import Segment
        from rich.style import Style

        factor = min(columns / self._image.width, rows / self._image.height)
        width = max(1, int(self._image.width * factor))
        height = max(2, int(self._image.height * factor) // 2 * 2)
        pixels = self._image.convert("RGB").resize((width, height), Resampling.BICUBIC).tobytes()
        row = 3 * width
        for top in range(0, height * row, 2 * row):
            cells = (
                (pixels[place : place + 3], pixels[place + row : place + row + 3]) for place in range(top, top + row, 3)
            )
            for (upper, lower), alike in groupby(cells):
                style = Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
                yield Segment("\N{UPPER HALF BLOCK}" * len(list(alike)), style)
            yield Segment.line()
