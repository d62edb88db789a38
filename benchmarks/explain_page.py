"""Size and time of `rein explain`, and that a model which nobody explains pays nothing for it.

    python -m benchmarks.explain_page --threads 2 --runs 3

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
from pathlib import Path

import torch

from benchmarks.common import in_turn, model_to_measure, print_table, summary
from rein.explain.trace import explain
from rein.pipeline.model import load

SOURCE = Path(__file__).parents[1] / "src"
PROMPT = "a red apple, flat style"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or folder; by default the embedded one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": str(options.threads)}
    with model_to_measure(options.model) as (source, label), tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "rein", "explain", PROMPT, "--model", source, "--steps", str(options.steps)]
        command += ["--seed", "7", "--output", folder, "--device", "cpu"]

        def page(*more: str) -> None:
            subprocess.run([*command, *more], env=environment, stdout=subprocess.DEVNULL, check=True)

        pages = in_turn(
            {"page with strips": page, "page without strips": lambda: page("--what-if", "none")}, options.runs
        )
        size = max(path.stat().st_size for path in Path(folder).glob("*.html"))
        model = load(source, "cpu")
        untouched = load(source, "cpu")
        explain(PROMPT, model, seed=7, steps=options.steps).finish()
        drawn = {
            "never explained": lambda: untouched.generate(PROMPT, seed=7, steps=options.steps),
            "explained before": lambda: model.generate(PROMPT, seed=7, steps=options.steps),
            "explained now": lambda: explain(PROMPT, model, seed=7, steps=options.steps).finish(),
        }
        pictures = in_turn(drawn, 3 * options.runs)
    print(f"{label}: {options.steps} guided steps, {options.threads} threads")
    head = ["seconds", "median", "fastest", "slowest"]
    print_table(head, [[name, *summary(times)] for name, times in pages.items()])
    print(f"largest page: {size / 1e6:.2f} MB")
    print_table(head, [[name, *summary(times)] for name, times in pictures.items()])


if __name__ == "__main__":
    main()
