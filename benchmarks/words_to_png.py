"""From words to a PNG in a new process: the time of `rein generate` as a person waits for it.

    python -m benchmarks.words_to_png --threads 2 --runs 9

Each run starts Python, imports, loads the model, draws 20 guided steps, decodes and writes the file. Beside it stands a
process that only imports PyTorch, which no program built on it can undercut, and one that imports what a diffusers
program needs before it loads anything. Expected for `pocket` on two cores: under 3 s.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import in_turn, model_to_measure, print_table, summary

SOURCE = Path(__file__).parents[1] / "src"
PROMPT = "a red apple, flat style"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or folder; by default the embedded one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": str(options.threads)}
    environment["HF_HUB_OFFLINE"] = "1"
    drawing: list[float] = []

    def process(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    with model_to_measure(options.model) as (source, label), tempfile.TemporaryDirectory() as folder:
        command = ["-m", "rein", "generate", PROMPT, "--model", source, "--steps", str(options.steps), "--seed", "7"]
        command += ["--output", folder, "--device", "cpu", "--json"]
        seconds = in_turn(
            {
                "rein generate": lambda: drawing.append(json.loads(process(*command))["seconds"]),
                "import torch": lambda: process("-c", "import torch"),
                "import diffusers' classes": lambda: process(
                    "-c", "from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel"
                ),
            },
            options.runs,
        )
    print(f"{label}: {options.steps} guided steps, {options.threads} threads, a new process each time")
    print_table(
        ["seconds", "median", "fastest", "slowest"], [[name, *summary(times)] for name, times in seconds.items()]
    )
    print(f"of which drawing and decoding: {statistics.median(drawing[1:]):.3f}")


if __name__ == "__main__":
    main()
