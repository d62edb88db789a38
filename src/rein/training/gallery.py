"""The page of a training: its sheets and held-out numbers, one below the other, growing while it trains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rein.files import atomic_file
from rein.html import Axis, Page, Series, chart, figure, picture, write_page

PAGE, HISTORY = "samples.html", "samples.json"


def add_sheet(folder: Path, step: int, numbers: Mapping[str, float], sheet: Path | None) -> None:
    """Add what was seen after `step` and write the page anew; what was there of this step and later ones goes.

    Raises:
        OutputError: the folder cannot be written.
    """
    kept = [entry for entry in _history(folder) if entry["step"] < step]
    kept.append({"step": step, "numbers": dict(numbers), "sheet": None if sheet is None else sheet.name})
    with atomic_file(folder / HISTORY) as handle:
        handle.write(json.dumps(kept, indent=1).encode())
    sheets = "one sheet" if len(kept) == 1 else f"{len(kept)} sheets"
    page = Page(f"Training: {folder.name}", f"{sheets} so far; the latest, after step {step:,}, comes first")
    for name in numbers:
        points = [(float(entry["step"]), float(entry["numbers"][name])) for entry in kept if name in entry["numbers"]]
        if len(points) > 1:
            page.add(figure(chart([Series(name, points, "both")], Axis("step"), Axis(name)), name))
    for entry in reversed(kept):
        told = ", ".join(f"{name} {value:.4g}" for name, value in entry["numbers"].items())
        shown = None if entry["sheet"] is None else folder / entry["sheet"]
        if shown is not None and shown.is_file():
            words = f"step {entry['step']:,}" + (f": {told}" if told else "")
            page.add(figure(picture(shown.read_bytes(), words), words))
    write_page(page, folder / PAGE)


def _history(folder: Path) -> list[dict[str, Any]]:
    """What was added before; nothing where the file is missing or not one of ours, since it can be made again."""
    try:
        entries = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    known = isinstance(entries, list) and all(isinstance(entry, dict) and entry.keys() >= _KEYS for entry in entries)
    return entries if known else []


_KEYS = {"step", "numbers", "sheet"}
