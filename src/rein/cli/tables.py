"""Figures as text for people."""

from __future__ import annotations

from collections.abc import Sequence


def megabytes(size: int) -> str:
    """A size in bytes as "27.4 MB"."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns as wide as their widest entry; columns of numbers are set right."""
    widths = [max(len(entry) for entry in column) for column in zip(*rows, strict=True)]
    right = [all(entry[:1].isdigit() or not entry for entry in column[1:]) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, right, strict=True)
        lines.append(
            "  ".join(entry.rjust(width) if to_right else entry.ljust(width) for entry, width, to_right in cells)
        )
    return "\n".join(line.rstrip() for line in lines)
