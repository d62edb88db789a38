"""Sheets with labels: where pictures and labels stand."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rein.image_sheets import GAP, MAX_PIXELS, SheetCell, SheetLabels, draw_sheet, shown_size

COLOURS = [(200, 30, 40), (20, 160, 60), (30, 60, 210), (220, 200, 20)]


def plain(colour: tuple[int, int, int], width: int = 48, height: int = 32) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def boxes(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Where a colour is: left, top, right, bottom; it must fill that box."""
    mask = (np.array(sheet) == colour).all(axis=-1)
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    assert mask[box[1] : box[3], box[0] : box[2]].all()
    return box


def test_pictures_alone_are_a_plain_grid() -> None:
    cells = {(place % 2, place // 2, 0): SheetCell(plain(colour)) for place, colour in enumerate(COLOURS)}
    sheet = draw_sheet(cells, SheetLabels(("", ""), ("", ""), ("",)))
    assert sheet.size == (3 * GAP + 96, 3 * GAP + 64)
    assert boxes(sheet, COLOURS[0]) == (GAP, GAP, GAP + 48, GAP + 32)
    assert boxes(sheet, COLOURS[3]) == (2 * GAP + 48, 2 * GAP + 32, 2 * GAP + 96, 2 * GAP + 64)


def test_labels_have_room_of_their_own() -> None:
    cells = {(column, 0, layer): SheetCell(plain(COLOURS[2 * layer + column])) for column in (0, 1) for layer in (0, 1)}
    labels = SheetLabels(("steps 5", "steps 10"), ("guidance 3",), ("first", "second"), "a red apple")
    sheet = draw_sheet(cells, labels)
    found = [boxes(sheet, colour) for colour in COLOURS]
    assert [box[2] - box[0] for box in found] == [48] * 4 and [box[3] - box[1] for box in found] == [32] * 4
    left, top = found[0][:2]
    assert left > 72 and top > 40
    assert found[1][0] == left + 48 + GAP and found[1][1] == top
    assert found[2][0] == left and found[2][1] > found[0][3] + 30
    levels = np.array(sheet.convert("L"))
    assert levels[found[0][1] : found[0][3], :left].min() < 128  # the row's label
    assert levels[:top, left : left + 48].min() < 128  # the column's
    assert levels[found[0][3] + GAP : found[2][1]].min() < 128  # the second layer's
    assert levels[-GAP:].min() == 255


def test_the_same_row_labels_another_text() -> None:
    cells = {(0, 0, 0): SheetCell(plain(COLOURS[0]))}
    one, other = (draw_sheet(cells, SheetLabels((text,), (text,), ("",))) for text in ("one", "two"))
    assert one.size == other.size and one.tobytes() != other.tobytes()


def test_a_heading_stands_where_only_rows_have_labels() -> None:
    cells = {(0, row, 0): SheetCell(plain(COLOURS[row])) for row in (0, 1)}
    sheet = draw_sheet(cells, SheetLabels(("",), ("one", "two"), ("",), "MMMM"))
    top = boxes(sheet, COLOURS[0])[1]
    lines = np.array(sheet.convert("L"))[:top].min(axis=1) < 128
    assert lines.sum() > 8  # whole letters


def test_a_cell_without_a_picture_says_why() -> None:
    labels = SheetLabels(("a", "b"), ("",), ("",))
    told = draw_sheet({(0, 0, 0): SheetCell(plain(COLOURS[0])), (1, 0, 0): SheetCell(None, "eta is 0.5")}, labels)
    silent = draw_sheet({(0, 0, 0): SheetCell(plain(COLOURS[0])), (1, 0, 0): SheetCell(None, "")}, labels)
    missing = draw_sheet({(0, 0, 0): SheetCell(plain(COLOURS[0]))}, labels)
    assert told.size == silent.size == missing.size
    assert len({image.tobytes() for image in (told, silent, missing)}) == 3
    long = draw_sheet({(1, 0, 0): SheetCell(None, "a very long reason " * 50)}, labels)
    assert long.size[0] == 2 * 128 + 3 * GAP
    assert np.array(long)[-GAP:].min() == 255


def test_notes_stand_below_their_pictures() -> None:
    labels = SheetLabels(("",), ("", ""), ("",))
    cells = {(0, row, 0): SheetCell(plain(COLOURS[row]), "score 0.93" if row == 0 else "") for row in (0, 1)}
    first, second = (boxes(draw_sheet(cells, labels), colour) for colour in COLOURS[:2])
    assert second[1] - first[3] > GAP + 8


def test_pictures_of_several_sizes_stand_in_the_middle() -> None:
    cells = {(0, 0, 0): SheetCell(plain(COLOURS[0], 64, 64)), (1, 0, 0): SheetCell(plain(COLOURS[1], 32, 16))}
    sheet = draw_sheet(cells, SheetLabels(("", ""), ("",), ("",)))
    assert boxes(sheet, COLOURS[1]) == (2 * GAP + 64 + 16, GAP + 24, 2 * GAP + 64 + 48, GAP + 40)


def test_many_large_pictures_are_shown_smaller() -> None:
    image = plain(COLOURS[0], 1024, 512)
    assert shown_size(image, 4) is image
    small = shown_size(image, 1000)
    assert small.width * small.height * 1000 <= MAX_PIXELS < (small.width + 3) * (small.height + 2) * 1000
    assert abs(small.width / small.height - 2) < 0.02
