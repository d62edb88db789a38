"""The work of `rein generate`: a request checked, a model loaded, each picture saved as soon as it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rein.cli.preview import Previews
from rein.cli.progress import Meter, Pace
from rein.errors import OutputError
from rein.interrupt import HeldInterrupt
from rein.places import Place, written_free

if TYPE_CHECKING:
    from PIL import Image

    from rein.pipeline.generate import GenerationStep
    from rein.pipeline.job import Job
    from rein.pipeline.model import Model
    from rein.pipeline.request import Request
    from rein.pipeline.result import Result


@dataclass
class Drawing:
    """One run of the command: what is wanted, and what is finished so far."""

    quiet: bool = False
    """Print nothing but one JSON object at the end."""
    previews: Previews | None = None
    paths: list[Path] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    sheet: Path | None = None
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    complete: bool = False
    _request: Request | None = None
    _place: Place | None = None
    _model: Model | None = None
    _current: GenerationStep | None = None
    _quality: int | None = None
    _size: tuple[int, int] = (0, 0)
    _images: list[Image.Image] = field(default_factory=list)
    _told: list[str] = field(default_factory=list)

    def prepare(
        self,
        meter: Meter,
        wanted: Mapping[str, object],
        output: str | None,
        file_format: str | None = None,
        quality: int | None = None,
    ) -> None:
        """Check the request and the place and format of the pictures, before anything takes long.

        Raises:
            InputError: a number out of its range, an unknown name, a quality that the format does not have.
            OutputError: nothing can be written there.
        """
        meter.show("starting")
        from rein.files import format_of
        from rein.image_files import saving_options
        from rein.pipeline.request import Request

        self._request = Request.model_validate(wanted)
        self._place = Place.of(output, self._request.prompt, self._request.count, file_format)
        saving_options(format_of(f"a{self._place.suffix}"), quality)
        self._quality = quality
        self._place.check()

    def load(self, meter: Meter, given: Mapping[str, Any]) -> None:
        """Load the model that the options name. Raises as `rein.load`."""
        from rein.cli.options import load_model

        name = given["model"]
        meter.show(f"loading {name}")
        self._model = load_model(given)
        if not self.quiet:
            for note in self._model.parts.notes:
                meter.say(f"{name}: {note}")
        if self.previews is not None:
            self.previews.open(self._model.parts)

    def plan(self, meter: Meter) -> None:
        """Print what the work will take, instead of doing it. Raises `InputError`."""
        from rein.cli.planning import tell_plan

        assert self._model is not None and self._request is not None
        meter.show("measuring")
        tell_plan(self._model, self._request, self.quiet)

    def draw(self, meter: Meter, grid: bool) -> None:
        """Draw and save all pictures, and the sheet of them if there is to be one.

        Raises:
            InputError: the request does not suit the model.
            OutputError: a picture cannot be written; those before it are kept.
            NonFiniteError: the networks gave NaN or infinity.
        """
        assert self._model is not None and self._request is not None
        from rein.pipeline.generate import run
        from rein.pipeline.job import prepare
        from rein.pipeline.words import left_as_written

        job = prepare(self._model.parts, self._request)
        self._tell(left_as_written(self._request), meter)
        if grid:
            self._check_sheet(job)
        count, size, pace = self._request.count, 1, Pace()
        for step in run(job):
            self._current = step
            if step.index == 0:
                self._tell(step.chosen.notes, meter)
            first, batch = len(self.paths), len(step.seeds)
            size = batch if first == 0 else size  # of all batches but the last
            done, total = step.steps * (first // size) + step.index + 1, step.steps * -(-count // size)
            meter.show(_caption(first + 1, batch, count), done, total, pace.note(done, total))
            if self.previews is not None:
                self._tell(self.previews.show(step, meter), meter)
            if step.last:
                self._save(step.result, meter, keep=grid, aloud=grid or count > 1)
        if grid:
            self._lay_out()
        self.complete = True

    def _tell(self, notes: Sequence[str], meter: Meter) -> None:
        """Say, once, what does not go as asked."""
        for note in notes:
            if not self.quiet and note not in self._told:
                meter.say(f"note: {note}")
                self._told.append(note)

    def _save(self, result: Result, meter: Meter, keep: bool, aloud: bool) -> None:
        """Save the pictures of one batch; `keep` them for the sheet, say `aloud` where they are."""
        from rein.pipeline.infotext import manifest

        assert self._place is not None
        self.seconds += result.seconds
        notes = result.notes.get(result.seeds[0], ())
        self.settings = manifest(result.request, result.provenance, notes) | result.records()
        self._images += result.images if keep else []
        self._size = result.images[0].size
        for image, seed in zip(result.images, result.seeds, strict=True):
            with HeldInterrupt() as held:  # a picture that is there is told of
                path = self._save_one(replace(result, images=[image], seeds=[seed]))
                self._tell((*result.notes.get(seed, ()), *_left_out(path)), meter)
                if aloud and not self.quiet:
                    meter.say(f"seed {seed}: {path}")
            if held.asked:
                raise KeyboardInterrupt

    def _save_one(self, result: Result) -> Path:
        """Save the one picture of a result."""
        assert self._place is not None
        try:
            [path] = result.save(self._place, quality=self._quality)
        except OutputError as error:
            kept = f"{len(self.paths)} of {result.request.count} pictures are finished and kept"
            raise OutputError(f"{error} ({kept})") from error
        self.seeds += result.seeds
        self.paths.append(path)
        return path

    def _lay_out(self) -> None:
        """Save a sheet of all pictures, each with its seed and the prompt below it."""
        from rein.image_files import write_image
        from rein.images import grid

        assert self._place is not None
        labels = [self._label(seed) for seed in self.seeds]
        sheet, texts = grid(self._images, labels=labels), {"rein": json.dumps(self.settings, ensure_ascii=False)}

        def write(path: Path) -> None:
            write_image(sheet, path, texts, self._quality, replace=False)

        self.sheet = written_free(self._place.sheet(self.seeds[0]), write)

    def _label(self, seed: int) -> str:
        assert self._request is not None
        prompt = self._request.prompt
        return f"seed {seed}: {prompt}" if prompt.strip() else f"seed {seed}"

    def _check_sheet(self, job: Job) -> None:
        """Refuse a sheet that the format cannot hold. Raises `InputError`."""
        from rein.image_files import check_sides
        from rein.images import caption, grid_size

        assert self._place is not None
        width, height = job.picture_size()
        below = caption(self._label(job.seeds[-1]), width).height
        check_sides(grid_size(len(job.seeds), (width, height + below)), self._place.sheet(job.seeds[0]))

    def how_far(self) -> str:
        """What to say after an interrupt: what is finished, and how to make the rest."""
        count = self._request.count if self._request is not None else 1
        if self.paths:
            shown = ", ".join(str(path) for path in self.paths[:4]) + (", ..." if len(self.paths) > 4 else "")
            return f"interrupted: {len(self.paths)} of {count} pictures are finished: {shown}"
        if self._current is None:
            return "interrupted before the first step: nothing was drawn"
        step, seed = self._current, self._current.seeds[0]
        where = f"step {step.index + 1} of {step.steps}"
        return f"interrupted in {where}: no picture is finished; --seed {seed} begins it again"

    def report(self) -> None:
        """The end of the output: a summary and where the pictures are; or, if that is wanted, one object."""
        if self.quiet:
            if self.paths:
                print(json.dumps(self._object(), indent=1), flush=True)
        elif self.complete:
            print(self._summary())
            print(self._last_line(), flush=True)

    def _object(self) -> dict[str, Any]:
        return {
            "paths": [str(path) for path in self.paths],
            "seeds": self.seeds,
            "sheet": None if self.sheet is None else str(self.sheet),
            "seconds": round(self.seconds, 3),
            "complete": self.complete,
            "settings": self.settings,
        }

    def _summary(self) -> str:
        request = self.settings["request"]
        what = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"{len(self.seeds)} pictures"
        how = f"{request['steps']} steps of {request['sampler']}, guidance {request['guidance_scale']:g}"
        return f"{what}, {self._size[0]} x {self._size[1]}, {how}, {self.seconds:.1f} s"

    def _last_line(self) -> Path:
        if self.sheet is not None:
            return self.sheet
        return self.paths[0] if len(self.paths) == 1 else self.paths[0].parent


def _left_out(path: Path) -> list[str]:
    """What to say of a picture whose settings found no room in its file; nothing of others."""
    from rein.image_files import read_texts

    if path.suffix.lower() == ".png" or "rein" in read_texts(path):
        return []
    return ["the settings are longer than a JPEG file can hold, and not in it: --format webp or png keeps them"]


def _caption(first: int, batch: int, count: int) -> str:
    """What is being drawn: "picture 3 of 9", "pictures 1 to 8 of 9", or "drawing" for a single one."""
    if count == 1:
        return "drawing"
    return f"picture {first} of {count}" if batch == 1 else f"pictures {first} to {first + batch - 1} of {count}"
