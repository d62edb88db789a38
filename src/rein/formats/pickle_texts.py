"""Numbers and texts as pickles write them: as bytes, and in the oldest protocols as lines."""

from __future__ import annotations

from rein.formats.pickle_tensors import refuse

NUMBER_LIMIT = 256
"""Bytes or digits of a whole number."""


def decoded(text: bytes) -> str:
    """A text in UTF-8. This and all below raise `RefusedPickleError`."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        refuse("its pickle has a text that is not UTF-8")


def whole_number(line: str) -> int | bool:
    """A whole number in decimals, perhaps with an L after it; 00 and 01 are False and True."""
    if line in ("00", "01"):
        return line == "01"
    digits = line.removesuffix("L")
    if not _is_decimal(digits.removeprefix("-"), NUMBER_LIMIT):
        refuse("its pickle has a line that is not a whole number")
    return int(digits)


def place(line: str) -> int:
    """A place in the memo."""
    if not _is_decimal(line, 10):
        refuse("its pickle has a place that is not a number")
    return int(line)


def real_number(line: str) -> float:
    """A real number as Python writes it."""
    try:
        return float(line)
    except ValueError:
        refuse("its pickle has a line that is not a number")


def quoted_text(line: str) -> str:
    """A text between quotation marks, with nothing to escape."""
    if len(line) < 2 or line[0] not in "'\"" or line[-1] != line[0] or "\\" in line:
        refuse("its pickle has a line that is not a plain text")
    return line[1:-1]


def escaped_text(line: str) -> str:
    """A text whose signs beyond Latin-1 are escaped."""
    try:
        return line.encode("latin-1").decode("raw-unicode-escape")
    except UnicodeError:
        refuse("its pickle has a line that is not text")


def _is_decimal(text: str, limit: int) -> bool:
    return len(text) <= limit and text.isascii() and text.isdecimal()
