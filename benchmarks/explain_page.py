"""Size and time of `rein explain`, and that a model which nobody explains pays nothing for it.

    python -m benchmarks.explain_page --threads 2 --runs 3
    python -m benchmarks.explain_page --threads 1 --runs 1 --only drawing --write      # also into docs/explain.md

Each run of the first table is a new process: start, load, draw 20 guided steps, decode every step, draw the default
strips, write the page. The second table draws the same picture within one process, before anything was explained and
afterwards, in turn. Expected for `pocket` on two cores: a page under 20 s and 5 MB, and no difference beyond the spread
of the runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import in_turn, model_to_measure, print_table, put_table, summary
from rein.explain.trace import explain
from rein.pipeline.model import load

ROOT = Path(__file__).parents[1]
SOURCE, PAGE = ROOT / "src", ROOT / "docs" / "explain.md"
PROMPT = "a red apple, flat style"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or folder; by default the embedded one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=("page", "drawing"), help="one of the two tables")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/explain.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with model_to_measure(options.model) as (source, label):
        print(f"{label}: {options.steps} guided steps, {options.threads} threads")
        tables = {"page": lambda: pages(source, options), "drawing": lambda: drawings(source, options)}
        for name, measured in tables.items():
            if options.only in (None, name):
                times, more = measured()
                threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
                told = f"{label}, {options.steps} steps, {threads}, runs: {len(next(iter(times.values())))}"
                rows = [[name, *summary(found)] for name, found in times.items()] + more
                print_table(["seconds", *_HEAD], rows)
                if options.write:
                    put_table(PAGE, f"{name} cost", [[f"seconds; {told}", *_HEAD], *rows])


_HEAD = ("median", "fastest", "slowest")

Times = dict[str, list[float]]


def pages(source: str, options: argparse.Namespace) -> tuple[Times, list[list[str]]]:
    """Seconds of whole runs of the program, and the size of the largest page."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "rein", "explain", PROMPT, "--model", source, "--steps", str(options.steps)]
        command += ["--seed", "7", "--output", folder, "--device", "cpu"]

        def page(*more: str) -> None:
            subprocess.run([*command, *more], env=environment, stdout=subprocess.DEVNULL, check=True)

        more: dict[str, tuple[str, ...]] = {"page with strips": (), "page without strips": ("--what-if", "none")}
        times: Times = {name: [] for name in more}
        for _ in range(options.runs):  # no run but the first is warmer than another: each is a process of its own
            for name, words in more.items():
                began = time.perf_counter()
                page(*words)
                times[name].append(time.perf_counter() - began)
        size = max(path.stat().st_size for path in Path(folder).glob("*.html"))
    return times, [["largest page, MB", f"{size / 1e6:.2f}", "", ""]]


def drawings(source: str, options: argparse.Namespace) -> tuple[Times, list[list[str]]]:
    """Seconds of a picture by a model that was never explained, by one that was, and while it is."""
    model, untouched = load(source, "cpu"), load(source, "cpu")
    explain(PROMPT, model, seed=7, steps=options.steps).finish()
    drawn = {
        "never explained": lambda: untouched.generate(PROMPT, seed=7, steps=options.steps),
        "explained before": lambda: model.generate(PROMPT, seed=7, steps=options.steps),
        "explained now": lambda: explain(PROMPT, model, seed=7, steps=options.steps).finish(),
    }
    return in_turn(drawn, 3 * options.runs), []


if __name__ == "__main__":
    main()
