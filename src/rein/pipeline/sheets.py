"""Sheets of pictures in which one, two or three things vary: planned as requests, drawn in an order that saves work.

    plan = plan_sheet(request, read_axis("steps=5,10,20"), read_axis("guidance=1-9 (+4)"))
    for step in draw_sheet(model, plan):
        for drawn in step.finished:
            print(drawn.cell.labels, drawn.problem or drawn.result)

Cells with the same words and adapters follow each other, and what they share is computed once: texts that the towers
read, pictures to start from. Those that differ in their seeds alone, by one from each to the next, are one request, and
on other devices than the CPU one batch. Cells that are the same altogether are drawn once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from rein.devices import fresh_seed
from rein.errors import InputError, InterruptedWork, ReinError, quoted
from rein.pipeline.axes import NO_AXIS, REPLACE, Axis, Value, axis_record
from rein.pipeline.fields import MAX_COUNT
from rein.pipeline.generate import GenerationStep, run
from rein.pipeline.infotext import quote
from rein.pipeline.job import prepare
from rein.pipeline.memo import Memo
from rein.pipeline.model import Model
from rein.pipeline.request import Request
from rein.pipeline.result import Result

MAX_CELLS = 4096

_FAILURES = (ReinError, MemoryError, torch.OutOfMemoryError)

_WORDS = ("prompt", "negative_prompt", "styles", "styles_file", "dialect", "emphasis", "clip_skip")
_ADAPTERS = ("loras", "lora_folder", "embeddings", "embedding_folder")
_SIZES = ("width", "height", "init_image")
"""Fields in whose order cells are drawn: what takes longest to change first."""


@dataclass(frozen=True)
class Cell:
    """A place of a sheet: column, row and layer from 0; their labels; its request, or why it has none."""

    place: tuple[int, int, int]
    labels: tuple[str, ...]
    request: Request | None
    problem: str = ""


@dataclass(frozen=True)
class Group:
    """A request whose pictures, by their seeds, belong into these cells."""

    request: Request
    cells: Mapping[int, tuple[Cell, ...]]


@dataclass(frozen=True)
class SheetPlan:
    """What is drawn.

    Fields:
        request: what all cells have in common; its seed is chosen.
        axes: along the columns, the rows and the layers.
        cells: row by row, layer after layer.
        groups: in the order in which they are drawn.
    """

    request: Request
    axes: tuple[Axis, Axis, Axis]
    cells: tuple[Cell, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True, eq=False)
class DrawnCell:
    """A cell that is done: its picture as a result of its own, or what went wrong."""

    cell: Cell
    result: Result | None = None
    error: BaseException | None = None

    @property
    def problem(self) -> str:
        """Why there is no picture; "" where there is one."""
        if self.error is not None and not isinstance(self.error, ReinError):
            return "out of memory: use a smaller size"
        return str(self.error) if self.error is not None else self.cell.problem


@dataclass(frozen=True, eq=False)
class SheetStep:
    """How far a sheet is: the step just made (None after a failure), and the cells that it finished."""

    step: GenerationStep | None
    finished: tuple[DrawnCell, ...] = ()


def plan_sheet(request: Request, x: Axis = NO_AXIS, y: Axis = NO_AXIS, z: Axis = NO_AXIS) -> SheetPlan:
    """Plan a sheet. All cells have the seed of `request`, a fresh one if it has none, unless an axis sets it.

    A value that no cell can have is refused at once; a combination that does not go together is a problem of its cell.

    Raises:
        InputError: a request of several pictures, two axes over one field, too many cells, a text to replace that is
            in no prompt, a value out of its range.
    """
    axes = (x, y, z)
    _check(request, axes)
    fixed = request.replace(seed=fresh_seed() if request.seed is None else request.seed)
    variation, named = fresh_seed(), [axis.labels for axis in axes]
    cells = []
    for layer, row, column in product(*(range(len(axis.values)) for axis in reversed(axes))):
        place = (column, row, layer)
        values = [axis.values[index] for axis, index in zip(axes, place, strict=True)]
        labels = tuple(names[index] for names, index in zip(named, place, strict=True))
        try:
            cells.append(Cell(place, labels, _request_of(fixed, values, variation)))
        except InputError as error:
            cells.append(Cell(place, labels, None, str(error)))
    _refuse_useless_values(axes, cells)
    return SheetPlan(fixed, axes, tuple(cells), tuple(_groups(cells)))


def _check(request: Request, axes: Sequence[Axis]) -> None:
    if request.count != 1:
        raise InputError(f"count is {request.count}: a sheet has one picture in each cell; put seeds on an axis")
    cells = 1
    seen: set[str] = set()
    for axis in axes:
        cells *= len(axis.values)
        if twice := sorted(axis.fields & seen):
            raise InputError(f"{twice[0]} is on two axes: leave one out")
        seen |= axis.fields
    if cells > MAX_CELLS:
        raise InputError(f"the sheet has {cells} cells: {MAX_CELLS} at most")
    for axis in axes:
        swap = axis.values[0].swap
        others = [other for other in axes if other is not axis]
        if swap is not None and not any(swap[0] in text for text in _texts(request, others)):
            raise InputError(f"axis {REPLACE}: {quoted(swap[0])} is in no prompt")


def _texts(request: Request, axes: Sequence[Axis]) -> list[str]:
    """Everything that may come into the prompts of a request from these axes."""
    texts = [request.prompt, request.negative_prompt]
    for value in (value for axis in axes for value in axis.values):
        texts += [str(entry) for entry in value.changes.values()]
        texts += [*value.added, *(value.swap or ())]
    return texts


def _request_of(request: Request, values: Sequence[Value], variation: int) -> Request:
    """The request of a cell: fields are set first, then texts are replaced, then others added. Raises `InputError`."""
    changes: dict[str, object] = {name: entry for value in values for name, entry in value.changes.items()}
    prompts = [str(changes.get(name, getattr(request, name))) for name in ("prompt", "negative_prompt")]
    for value in values:
        if value.swap is not None:
            prompts = [text.replace(*value.swap) for text in prompts]
    added = [text for value in values for text in value.added]
    changes |= {"prompt": ", ".join([prompts[0], *added]), "negative_prompt": prompts[1]}
    strength = changes.get("variation_strength", request.variation_strength)
    if not strength:
        changes["variation_seed"] = None  # it means nothing there
    elif changes.get("variation_seed", request.variation_seed) is None:
        changes["variation_seed"] = variation  # the same in every cell
    return request.replace(**changes)


def _refuse_useless_values(axes: Sequence[Axis], cells: Sequence[Cell]) -> None:
    for direction, axis in enumerate(axes):
        for index in range(len(axis.values)):
            having = [cell for cell in cells if cell.place[direction] == index]
            if all(cell.request is None for cell in having):
                raise InputError(having[0].problem)


def _groups(cells: Sequence[Cell]) -> Iterator[Group]:
    """Cells put together by what can be drawn at once, in an order that changes words and adapters least often."""
    alike: dict[Request, dict[int, list[Cell]]] = {}
    for cell in cells:
        if cell.request is not None:
            assert cell.request.seed is not None
            seeds = alike.setdefault(cell.request.replace(seed=None), {})
            seeds.setdefault(cell.request.seed, []).append(cell)
    firsts: dict[object, int] = {}
    for request in alike:
        for key in _order(request):
            firsts.setdefault(key, len(firsts))
    for request in sorted(alike, key=lambda request: [firsts[key] for key in _order(request)]):
        seeds = alike[request]
        for row in _rows(sorted(seeds), 1 if request.variation_strength else MAX_COUNT):
            together = {seed: tuple(seeds[seed]) for seed in row}
            yield Group(request.replace(seed=row[0], count=len(row)), together)


def _order(request: Request) -> list[object]:
    return [(names, *(getattr(request, name) for name in names)) for names in (_ADAPTERS, _WORDS, _SIZES)]


def _rows(seeds: Sequence[int], longest: int) -> Iterator[list[int]]:
    """Sorted seeds in rows, each of them one more than the one before."""
    row: list[int] = []
    for seed in seeds:
        if row and (seed != row[-1] + 1 or len(row) == longest):
            yield row
            row = []
        row.append(seed)
    if row:
        yield row


def draw_sheet(model: Model, plan: SheetPlan) -> Iterator[SheetStep]:
    """Draw a sheet, one noise level at a time. A cell that fails is finished with its error, and the rest goes on."""
    failed = tuple(DrawnCell(cell) for cell in plan.cells if cell.request is None)
    if failed:
        yield SheetStep(None, failed)
    memo = Memo()
    for group in plan.groups:
        yield from _draw(model, group, memo)


def _draw(model: Model, group: Group, memo: Memo) -> Iterator[SheetStep]:
    waiting = dict(group.cells)
    try:
        for step in run(prepare(model.parts, group.request, memo)):
            yield SheetStep(step, tuple(_finished(step, waiting)) if step.last else ())
    except InterruptedWork:
        raise
    except _FAILURES as error:
        if len(group.cells) == 1:
            yield SheetStep(None, tuple(DrawnCell(cell, None, error) for cells in waiting.values() for cell in cells))
            return
        for seed, cells in waiting.items():  # what is wrong with one of them need not be with the others
            yield from _draw(model, Group(group.request.replace(seed=seed, count=1), {seed: cells}), memo)


def _finished(step: GenerationStep, waiting: dict[int, tuple[Cell, ...]]) -> Iterator[DrawnCell]:
    result = step.result
    for image, seed in zip(result.images, result.seeds, strict=True):
        alone = replace(result, images=[image], seeds=[seed])
        yield from (DrawnCell(cell, alone) for cell in waiting.pop(seed, ()))


def sheet_texts(plan: SheetPlan, first: Result) -> dict[str, str]:
    """What is written into the file of a sheet: the infotext of its first picture with the axes, as AUTOMATIC1111's
    X/Y/Z plot has it, and as JSON the model, what the cells have in common, and the axes.
    """
    told = {"Script": "X/Y/Z plot"}
    for letter, axis in zip("XYZ", plan.axes, strict=True):
        if axis.name:
            values = ", ".join(value.label for value in axis.values)
            told |= {f"{letter} Type": axis.name, f"{letter} Values": values}
    script = ", ".join(f"{key}: {quote(value)}" for key, value in told.items())
    source = first.provenance
    record = {
        "model": {"name": source.model, "sha256": source.model_hash},
        "device": source.device,
        "dtype": source.dtype,
        "request": plan.request.model_dump(mode="json"),
        "axes": [axis_record(axis) for axis in plan.axes if axis.name],
    }
    return {"parameters": f"{first.infotext(0)}, {script}", "rein-sheet": json.dumps(record, ensure_ascii=False)}
