"""The benchmarks run, and what they compare is the same work. Their speeds are for people to measure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.small import save_small

ROOT = Path(__file__).parent.parent


def printed(script: str, folder: Path) -> list[str]:
    """The lines that a benchmark prints for a small model."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    options = ["--model", str(save_small(folder, "pocket")), "--threads", "1", "--runs", "2", "--steps", "6"]
    command = [sys.executable, "-m", f"benchmarks.{script}", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_denoising_loop_does_what_diffusers_does(tmp_path: Path) -> None:
    lines = printed("denoising_loop", tmp_path)
    assert [line.split("  ")[0] for line in lines[1:5]] == ["seconds", "rein", "diffusers", "diffusers, channels_last"]
    found = re.fullmatch(r"largest difference of the final latents: (\S+), their largest value being (\S+)", lines[5])
    assert found is not None
    assert float(found[1]) < 1e-5 * float(found[2])


@pytest.mark.slow
def test_words_to_png_prints_its_table(tmp_path: Path) -> None:
    lines = printed("words_to_png", tmp_path)
    names = [line.split("  ")[0] for line in lines[1:5]]
    assert names == ["seconds", "rein generate", "import torch", "import diffusers' classes"]
    assert all(float(number) > 0 for line in lines[2:5] for number in line.split()[-3:])
    assert float(lines[5].removeprefix("of which drawing and decoding: ")) > 0
