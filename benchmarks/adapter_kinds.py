"""Each kind of adapter once, for a hundred steps on one subject: what it costs, and how far it comes.

    python -m benchmarks.adapter_kinds --cache ~/.cache/rein/art --write

All have the same pictures, rank, rates and steps, so none is at its best. The way goes from the pictures of the
untaught model (0) to the real ones (1), by the features of the judge. Each file is read back by `rein generate --lora`
in a process of its own; what that draws must be what the same file gives here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
from PIL import Image

from benchmarks.common import print_table, put_table
from benchmarks.teaching import WORD, subject_pictures
from benchmarks.teaching_tools import STEPS, Drawings, Figures, drawn, plain_adapter, similarity, taught, written
from rein.images import grid
from rein.pipeline.model import Model, load
from rein.training.tables_teach import AdapterKind

DOCS = Path(__file__).parent.parent / "docs"
TAUGHT = 100
_PROMPT = f"a {WORD} dog"
_PICTURES, _SHOWN = 8, 6


def learned(kind: str, folder: Path, work: Path) -> tuple[Path, float]:
    """The file of an adapter of a kind, and the seconds of a step."""
    ends: list[float] = []
    output = work / f"kind-{kind}"
    file, _, _ = taught(plain_adapter(work), folder, output, [f"stage.kind={kind}", f"stage.steps={TAUGHT}"], ends)
    return file, float(median(np.diff(ends)))


def read_back(file: Path, expected: Image.Image, folder: Path) -> bool:
    """Whether the command draws the picture that was drawn here with the file."""
    target = folder / f"read-back-{file.parent.name}.png"
    target.unlink(missing_ok=True)  # the command would choose another name
    command = [sys.executable, "-m", "rein", "generate", _PROMPT, "--lora", str(file), "--seed", "0"]
    subprocess.run([*command, "--steps", str(STEPS), "--output", str(target)], check=True, capture_output=True)
    return np.array_equal(np.asarray(Image.open(target)), np.asarray(expected))


def measured(kind: str, model: Model, real: Drawings, work: Path) -> Figures:
    """What an adapter of a kind took, and where its pictures lie between the untaught model's and the real ones."""
    file, seconds = learned(kind, work / "subject", work)
    after = drawn(model, [_PROMPT] * _PICTURES, loras=({"path": str(file)},))
    grid(after[:_SHOWN], _SHOWN).save(work / f"kind-{kind}.png")
    low = similarity(drawn(model, [_PROMPT] * _PICTURES), real)
    return {
        "seconds of a step": seconds,
        "file in MB": file.stat().st_size / 1e6,
        "way": (similarity(after, real) - low) / (similarity(real) - low),
        "read back": read_back(file, after[0], work),
    }


def line(kind: str, found: Figures) -> tuple[str, ...]:
    """A line of the table."""
    same = "the same" if found["read back"] else "another"
    return kind, f"{found['seconds of a step']:.2f} s", f"{found['file in MB']:.2f} MB", f"{found['way']:.2f}", same


def main() -> None:
    kinds = get_args(AdapterKind)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kind", choices=kinds, action="append", help="measure these [default: all, or none to --write]"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/teaching"), help="folder of the trainings")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/rein/art").expanduser(), help="folder of the art")
    parser.add_argument(
        "--json", type=Path, default=DOCS / "data" / "adapter-kinds.json", help="where figures are kept"
    )
    parser.add_argument("--write", action="store_true", help="write what was measured into the docs")
    options = parser.parse_args()
    model = load("pocket")
    options.work.mkdir(parents=True, exist_ok=True)
    real = subject_pictures(options.cache)
    written(options.work / "subject", real, [_PROMPT] * len(real))
    kept = json.loads(options.json.read_text()) if options.json.is_file() else {}
    for kind in options.kind or ([] if options.write else kinds):
        kept[kind] = measured(kind, model, real, options.work)
        options.json.write_text(json.dumps(kept, indent=1) + "\n")
    head = (f"{TAUGHT} steps of 4 pictures", "a step", "file", "way", "picture of `rein generate --lora`")
    known = [kind for kind in kinds if kind in kept]
    rows = [line(kind, kept[kind]) for kind in known]
    print_table(head, rows)
    if options.write:
        put_table(DOCS / "teach.md", "adapter kinds", (head, *rows))
        strips = [Image.open(options.work / f"kind-{kind}.png") for kind in known]
        grid(strips, 1, known).save(DOCS / "images" / "teach-kinds.png", optimize=True)


if __name__ == "__main__":
    main()
