"""What was measured for the book's plots, as tables: `<!-- measured: steps -->` in a page stands for one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).parent / "data" / "steps-and-guidance.json"
"""Written by `python -m benchmarks.steps_and_guidance --write`."""

GROUPS = {"trained": "one thing, trained", "held_out_pair": "two things, never trained together"}
SAMPLERS = {"euler": "Euler", "heun": "Heun", "dpmpp_2m": "DPM++ 2M"}
_MARK = re.compile(r"<!-- measured: (\w+) -->")


def measured() -> dict[str, Any]:
    """The file's content: see benchmarks/steps_and_guidance.py."""
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def obeyed(turned: str, group: str) -> list[dict[str, Any]]:
    """Rows of a group by what was turned ("steps" or "guidance"), the other being the usual."""
    found = measured()
    other = "guidance" if turned == "steps" else "steps"
    rows = [row for row in found["obedience"] if row["group"] == group and row[other] == found[other]]
    return sorted(rows, key=lambda row: row[turned])


def filled(markdown: str) -> str:
    """A page with its tables in the places of the marks.

    Raises:
        KeyError: a mark that stands for nothing.
    """
    return _MARK.sub(lambda found: _TABLES[found[1]](), markdown)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _obedience(turned: str, label: str) -> str:
    columns = obeyed(turned, next(iter(GROUPS)))
    head = [label, *(f"{row[turned]:g}" for row in columns)]
    rows = [
        [name, *(f"{row['right'] / row['total']:.0%}" for row in obeyed(turned, group))]
        for group, name in GROUPS.items()
    ]
    return _table(head, rows)


def _distance() -> str:
    found = measured()["distance"]
    counts = sorted({row["steps"] for row in found})
    by_place = {(row["sampler"], row["steps"]): row["distance"] for row in found}
    rows = [[label, *(f"{by_place[name, count]:.3f}" for count in counts)] for name, label in SAMPLERS.items()]
    return _table(["steps", *map(str, counts)], rows)


_TABLES: dict[str, Callable[[], str]] = {
    "steps": lambda: _obedience("steps", "steps"),
    "guidance": lambda: _obedience("guidance", "guidance scale"),
    "distance": _distance,
}
