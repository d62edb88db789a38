"""The work of `rein sheet`: axes read, cells drawn and perhaps scored, the sheet written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rein.cli.progress import Meter, Pace
from rein.errors import InputError, ReinError, quoted
from rein.files import PICTURE_SUFFIXES, write_failure
from rein.places import Place, free_name, slug, written_free

if TYPE_CHECKING:
    from PIL import Image

    from rein.image_sheets import SheetCell
    from rein.pipeline.model import Model
    from rein.pipeline.result import Result
    from rein.pipeline.sheets import DrawnCell, SheetPlan, SheetStep

_NO_AXIS = 'nothing varies: give an axis, as in --x "steps=5,10,20", or --matrix'


@dataclass(frozen=True)
class AxisTexts:
    """The axes as they were given."""

    x: str | None
    y: str | None
    z: str | None
    matrix: bool


@dataclass
class SheetWork:
    """One run of the command: what is wanted, and what is finished so far."""

    quiet: bool
    keep: bool
    score: bool
    path: Path | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    _plan: SheetPlan | None = None
    _model: Model | None = None
    _first: Result | None = None
    _shown: dict[tuple[int, int, int], SheetCell] = field(default_factory=dict)
    _told: list[dict[str, Any]] = field(default_factory=list)
    _scorer: Callable[[str, Image.Image], float | None] | None = None
    _error: BaseException | None = None

    def prepare(self, meter: Meter, wanted: Mapping[str, object], texts: AxisTexts, output: str | None) -> None:
        """Read the axes and check everything that can be checked before anything takes long.

        Raises:
            InputError: an axis or an option that is wrong.
            OutputError: nothing can be written there.
        """
        meter.show("starting")
        from rein.pipeline.axes import NO_AXIS, matrix_axes, read_axis
        from rein.pipeline.request import Request
        from rein.pipeline.sheets import plan_sheet

        if texts.matrix and (texts.x is not None or texts.y is not None):
            raise InputError("--matrix makes --x and --y itself: leave them out; --z may be given")
        x, y, z = (NO_AXIS if text is None else read_axis(text) for text in (texts.x, texts.y, texts.z))
        request = Request.model_validate(wanted)
        if texts.matrix:
            prompt, x, y = matrix_axes(request.prompt)
            request = request.replace(prompt=prompt)
        elif x is y is z:
            raise InputError(_NO_AXIS)
        self._plan = plan_sheet(request, x, y, z)
        assert self._plan.request.seed is not None
        if output is not None and Path(output).suffix.lower() in set(PICTURE_SUFFIXES) - {".png"}:
            raise InputError(f"output is {quoted(output)}: a sheet is written as PNG; give a name in .png")
        place = Place.of(output, request.prompt, 1)
        place.check()
        self.path = _free(place, self._plan.request.seed)

    def load(self, meter: Meter, given: Mapping[str, Any]) -> None:
        """Load the model that the options name, and the judge if scores are wanted. Raises as `rein.load`."""
        from rein.cli.options import load_model

        name = given["model"]
        meter.show(f"loading {name}")
        self._model = load_model(given)
        if self.score:
            from rein.evaluation.score import Scorer

            if self._model.spec.vocabulary != "own":
                raise InputError(f"--score: the judge knows the art of 'pocket', not what {name} draws; leave it out")
            self._scorer = Scorer().score

    def draw(self, meter: Meter) -> None:
        """Draw all cells.

        Raises:
            OutputError: a kept picture cannot be written.
        """
        from rein.pipeline.sheets import draw_sheet

        assert self._plan is not None and self._model is not None
        total, pace = len(self._plan.cells), Pace()
        for step in draw_sheet(self._model, self._plan):
            self._take(step)
            done = len(self._told)
            note = pace.note(done, total, "pictures/s") if done else ""
            meter.show(f"picture {min(done + 1, total)} of {total}", done, total, note)

    def _take(self, step: SheetStep) -> None:
        from rein.image_sheets import SheetCell, shown_size

        assert self._plan is not None
        for drawn in step.finished:
            cell, labels = drawn.cell, [label for label in drawn.cell.labels if label]
            entry: dict[str, Any] = {"place": list(cell.place), "labels": labels, "seed": None, "path": None}
            if drawn.result is None:
                entry |= {"score": None, "problem": drawn.problem}
                self.problems.append((", ".join(labels), drawn.problem))
                self._error = self._error or drawn.error
                self._shown[cell.place] = SheetCell(None, drawn.problem)
            else:
                self._first = self._first or drawn.result
                score = self._scored(drawn.result)
                entry |= {"seed": drawn.result.seeds[0], "score": score, "problem": ""}
                entry["path"] = str(self._kept(drawn)) if self.keep else None
                small = shown_size(drawn.result.images[0], len(self._plan.cells))
                self._shown[cell.place] = SheetCell(small, "" if score is None else f"score {score:.2f}")
                self.seconds += drawn.result.seconds
            self._told.append(entry)

    def _scored(self, result: Result) -> float | None:
        found = None if self._scorer is None else self._scorer(result.single(0).prompt, result.images[0])
        return None if found is None else round(found, 4)

    def _kept(self, drawn: DrawnCell) -> Path:
        assert self.path is not None and drawn.result is not None and self._plan is not None
        folder = self.path.with_suffix("")
        number = self._plan.cells.index(drawn.cell) + 1
        name = slug(" ".join(label for label in drawn.cell.labels if label))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_failure(folder, error) from error
        [path] = drawn.result.save(folder / f"{number:04}-{name}.png")
        return path

    def write(self) -> None:
        """Write the sheet of what is finished; nothing if no picture is.

        Raises:
            ReinError: every cell failed; it is the first one's error.
            OutputError: the sheet cannot be written.
        """
        if self._first is None or self._plan is None or self.path is None:
            if self._error is not None:
                raise self._error if isinstance(self._error, ReinError) else ReinError(self.problems[0][1])
            return
        from rein.image_files import write_png
        from rein.image_sheets import SheetLabels, draw_sheet
        from rein.pipeline.sheets import sheet_texts

        columns, rows, layers = (axis.labels for axis in self._plan.axes)
        labels = SheetLabels(columns, rows, layers, self._plan.request.prompt)
        sheet, texts = draw_sheet(self._shown, labels), sheet_texts(self._plan, self._first)
        self.path = written_free(self.path, lambda path: write_png(sheet, path, texts, replace=False))

    def how_far(self) -> str:
        """What to say after an interrupt."""
        total = 0 if self._plan is None else len(self._plan.cells)
        drawn = len(self._told) - len(self.problems)
        if not drawn:
            return "interrupted before the first picture: nothing was drawn"
        return f"interrupted: {drawn} of {total} pictures are finished, on {self.path}"

    def report(self) -> None:
        """The end of the output: what failed, a summary and where the sheet is; or one object."""
        drawn = len(self._told) - len(self.problems)
        if self.quiet:
            content = {"sheet": str(self.path), "seconds": round(self.seconds, 3), "cells": self._told}
            print(json.dumps(content, indent=1, ensure_ascii=False), flush=True)
            return
        for labels, problem in self.problems:
            print(f"{labels}: {problem}")
        if self.score and all(entry["score"] is None for entry in self._told):
            print("no scores: the judge reads one or two things by name, and knows none that the prompts name")
        print(f"{drawn} of {len(self._told)} pictures, {self.seconds:.1f} s")
        print(self.path, flush=True)


def _free(place: Place, seed: int) -> Path:
    """Where the sheet goes, and its pictures beside it: a name that is not taken yet."""
    return free_name(place.sheet(seed) if place.style == "seeds" else place.picture(seed))
