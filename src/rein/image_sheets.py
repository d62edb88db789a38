"""A sheet of pictures with labelled columns, rows and layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from rein.images import caption, to_rgb

MAX_PIXELS = 48 * 2**20
"""Of all pictures of a sheet together; larger ones are shown smaller. With its labels a sheet can so be read again."""

GAP = 6
EMPTY_SIDE = 128
_LABEL, _HEADING = 14, 18
_LINES = 4
_WRONG = (250, 228, 226)


@dataclass(frozen=True)
class SheetCell:
    """What stands in a cell: a picture, and a note below it; without a picture the note says why, in its place."""

    image: Image.Image | None
    note: str = ""


@dataclass(frozen=True)
class SheetLabels:
    """The labels of columns, rows and layers, one at least of each (empty where nothing varies), and a heading."""

    columns: Sequence[str] = ("",)
    rows: Sequence[str] = ("",)
    layers: Sequence[str] = ("",)
    heading: str = ""


def shown_size(image: Image.Image, cells: int) -> Image.Image:
    """`image` as it is, or so much smaller that `cells` of its kind stay within `MAX_PIXELS`."""
    factor = math.sqrt(MAX_PIXELS / (cells * image.width * image.height))
    if factor >= 1:
        return image
    size = max(1, int(image.width * factor)), max(1, int(image.height * factor))
    return to_rgb(image).resize(size, Image.Resampling.LANCZOS)


def draw_sheet(cells: Mapping[tuple[int, int, int], SheetCell], labels: SheetLabels) -> Image.Image:
    """The sheet. A cell's key is its column, row and layer from 0; one that is missing stays white.

    Layers stand below each other. Cells have the size of the largest picture, `EMPTY_SIDE` if there is none.
    """
    images = [cell.image for cell in cells.values() if cell.image is not None]
    width = max((image.width for image in images), default=EMPTY_SIDE)
    height = max((image.height for image in images), default=EMPTY_SIDE)
    parts = _Parts.of(cells, labels, width, height)
    sheet = Image.new("RGB", parts.size, "white")
    top = GAP
    if parts.heading is not None:
        sheet.paste(parts.heading, (GAP, top))
        top += parts.heading.height + GAP
    for layer, strip in enumerate(parts.layers):
        if strip is not None:
            sheet.paste(strip, (GAP, top))
            top += strip.height + GAP
        for column, head in enumerate(parts.columns if parts.head else ()):
            sheet.paste(head, (parts.left(column), top + parts.head - head.height))
        top += parts.head
        for row, side in enumerate(parts.rows):
            if parts.side:
                sheet.paste(side, (GAP, top + (height - side.height) // 2))
            for column in range(len(parts.columns)):
                if (cell := cells.get((column, row, layer))) is not None:
                    _draw_cell(sheet, cell, (parts.left(column), top), (width, height))
            top += height + parts.below + GAP
    return sheet


@dataclass(frozen=True)
class _Parts:
    """Measures of a sheet, and its labels drawn: `head` pixels above the cells, `below` each, `side` at their left."""

    width: int
    head: int
    below: int
    side: int
    size: tuple[int, int]
    columns: list[Image.Image]
    rows: list[Image.Image]
    layers: list[Image.Image | None]
    heading: Image.Image | None

    @classmethod
    def of(
        cls, cells: Mapping[tuple[int, int, int], SheetCell], labels: SheetLabels, width: int, height: int
    ) -> _Parts:
        """The parts of a sheet whose cells have pictures of width x height pixels."""
        side = min(200, max(88, width // 2)) if any(labels.rows) else 0
        size = _size(width)
        columns = [caption(text, width, _LINES, size) for text in labels.columns]
        rows = [_cut(caption(text, max(side, 8), _LINES, size), height) for text in labels.rows]
        across = GAP + (side + GAP if side else 0) + len(columns) * (width + GAP)
        layers = [caption(text, across - 2 * GAP, 2, _HEADING) if text else None for text in labels.layers]
        heading = caption(labels.heading, across - 2 * GAP, 3, _LABEL) if labels.heading.strip() else None
        head = max(strip.height for strip in columns) if any(labels.columns) else 0
        notes = [cell.note for cell in cells.values() if cell.image is not None and cell.note]
        below = max((caption(note, width, _LINES, size).height for note in notes), default=0)
        strips = [strip.height + GAP for strip in (heading, *layers) if strip is not None]
        down = GAP + sum(strips) + len(layers) * (head + len(rows) * (height + below + GAP))
        return cls(width, head, below, side, (across, down), columns, rows, layers, heading)

    def left(self, column: int) -> int:
        return GAP + (self.side + GAP if self.side else 0) + column * (self.width + GAP)


def _size(width: int) -> int:
    """Of the letters beside cells of a width, in pixels."""
    return min(_LABEL, max(10, width // 9))


def _cut(strip: Image.Image, height: int) -> Image.Image:
    return strip if strip.height <= height else strip.crop((0, 0, strip.width, height))


def _draw_cell(sheet: Image.Image, cell: SheetCell, place: tuple[int, int], size: tuple[int, int]) -> None:
    left, top = place
    width, height = size
    if cell.image is None:
        sheet.paste(_WRONG, (left, top, left + width, top + height))
        if cell.note:
            fitting = max(1, (height - 8) // 14)
            sheet.paste(_cut(caption(cell.note, width - 8, fitting, 10), height - 8), (left + 4, top + 4))
        return
    image = to_rgb(cell.image)
    sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
    if cell.note:
        sheet.paste(caption(cell.note, width, _LINES, _size(width)), (left, top + height))
