"""Crops by hand: a CSV file that names the part to keep of each picture, in pixels of the file held upright.

file_name,left,top,width,height
cats/1.jpg,120,0,600,600
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from rein.data.caption_files import decoded
from rein.data.fitting import Box
from rein.errors import DamagedFileError, InputError, quoted

COLUMNS = ("file_name", "left", "top", "width", "height")
MAX_BYTES = 64 * 2**20


def read_crop_list(path: Path) -> dict[str, Box]:
    """The box (left, top, right, bottom) of each picture, by its name.

    Raises:
        InputError: there is no such file, a column is missing, a row has no numbers or names a picture twice.
        DamagedFileError: it is no text.
    """
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the list of crops {path}: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise DamagedFileError(f"{path} is larger than {MAX_BYTES} bytes, the most that is read of a list of crops")
    reader = csv.DictReader(io.StringIO(decoded(content, str(path)), newline=""))
    boxes: dict[str, Box] = {}
    try:
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise InputError(f"{path} needs a first line with {','.join(COLUMNS)}; {missing[0]} is missing")
        for row in reader:
            name = row["file_name"] or ""
            if name in boxes:
                raise InputError(f"{path} line {reader.line_num}: {quoted(name)} stands there twice")
            boxes[name] = _box(row, f"{path} line {reader.line_num}")
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: {error}") from error
    return boxes


def _box(row: dict[str, str], where: str) -> Box:
    try:
        left, top, width, height = (float(row[name]) for name in COLUMNS[1:])
    except (TypeError, ValueError):
        raise InputError(f"{where}: left, top, width and height must be numbers") from None
    if not all(math.isfinite(value) for value in (left, top, width, height)) or width < 1 or height < 1:
        raise InputError(f"{where}: a box is at least 1 pixel wide and high")
    return left, top, left + width, top + height
