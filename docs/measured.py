"""What was measured for the book's plots, as tables: `<!-- measured: steps -->` in a page stands for one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).parent / "data" / "steps-and-guidance.json"
"""Written by `python -m benchmarks.steps_and_guidance --write`."""

TAUGHT = Path(__file__).parent / "data" / "teaching.json"
"""Written by `python -m benchmarks.teaching`, a part for each way of teaching."""

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


def _teaching() -> str:
    found: dict[str, Any] = json.loads(TAUGHT.read_text(encoding="utf-8"))
    rows = [row for name, told in _WAYS.items() if name in found for row in told(found[name])]
    return _table(["taught", "minutes", "reached"], rows)


def _rate(share: Any) -> str:
    """A share, or one with its interval, in percent."""
    return f"{share['rate'] if isinstance(share, dict) else share:.0%}"


def _word(part: dict[str, Any]) -> list[list[str]]:
    way = f"likeness to real drawings {part['learned word']:.2f}; before {part['unseen prompt']:.2f}, "
    return [["a word, 4 pictures", f"{part['minutes']:.1f}", f"{way}real to real {part['real pictures']:.2f}"]]


def _manner(part: dict[str, Any]) -> list[list[str]]:
    way = f"{part['way from unseen to real']:.0%} of the way to real pictures of the manner"
    kept = f"{part['points lost']:.0f} points of obedience lost elsewhere"
    return [["a LoRA of a manner, 20 pictures", f"{part['minutes']:.1f}", f"{way}; {kept}"]]


def _subject(part: dict[str, Any]) -> list[list[str]]:
    ways = {
        "with": "as a LoRA, with the class",
        "without": "as a LoRA, without it",
        "all weights": "in all weights, with it",
    }
    rows = []
    for name in [name for name in ways if name in part]:
        found = part[name]
        told = f"recognised in {_rate(found['recognised'])}; drift of the class (KID) {found['class drift']:.1f}"
        rows.append([f"a subject {ways[name]}, 5 pictures", f"{found['minutes']:.1f}", told])
    return rows


def _collection(part: dict[str, Any]) -> list[list[str]]:
    shown = f"named right {_rate(part['shown styles']['after'])}, before {_rate(part['shown styles']['before'])}"
    return [[f"a collection, {part['pictures']} pictures", f"{part['minutes']:.1f}", shown]]


def _decoder(part: dict[str, Any]) -> list[list[str]]:
    rows = []
    for way, beside in (("alone", ""), ("beside", f" and {part['old pictures']} of the old kind")):
        new, old = (part[way][kind]["psnr"] for kind in ("line drawings", "old kind"))
        told = f"{new['after']['mean']:.1f} dB on other line drawings, before {new['before']['mean']:.1f}; "
        told += f"{old['after']['mean']:.1f} dB on the old kind, before {old['before']['mean']:.1f}"
        rows.append([f"the decoder, {part['pictures']} line drawings{beside}", f"{part[way]['minutes']:.1f}", told])
    return rows


_WAYS: dict[str, Callable[[dict[str, Any]], list[list[str]]]] = {
    "inversion": _word,
    "lora": _manner,
    "dreambooth": _subject,
    "dreambooth-full": lambda part: _subject({"all weights": part}),
    "finetune": _collection,
    "autoencoder": _decoder,
}

_TABLES: dict[str, Callable[[], str]] = {
    "steps": lambda: _obedience("steps", "steps"),
    "guidance": lambda: _obedience("guidance", "guidance scale"),
    "distance": _distance,
    "teaching": _teaching,
}
