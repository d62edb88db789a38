"""`rein train` killed at a random moment, so that nothing can catch it, and continued: every objective, to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rein.formats.tensors import read_header
from rein.training.run import train_recipe
from rein.training.state import FILE_NAME
from tests.training.recipes import STAGES, write_recipe
from tests.training.tiny import same, state

ROOT = Path(__file__).parent.parent.parent
STEPS, PATIENCE = 60, 60.0


def killed(path: Path, output: Path, seconds: float) -> Path:
    """Run a recipe and kill it so many seconds after its first state is there. Returns the stage's folder."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}", "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rein", "train", str(path), "--output", str(output)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        began = time.monotonic()
        while not (found := list(output.glob(f"*/{FILE_NAME}"))):
            assert process.poll() is None, process.stderr and process.stderr.read().decode()[-2000:]
            assert time.monotonic() - began < PATIENCE
            time.sleep(0.01)
        time.sleep(seconds)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it was done before"
    return found[0].parent


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_is_continued_bit_for_bit(stage: str, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, stage, steps=STEPS, checkpoint_minutes=1e-9)
    folder = killed(path, tmp_path / "killed", random.uniform(0.0, 1.5))
    done = int(read_header(folder / FILE_NAME).metadata["step"])
    print(f"{stage}: killed after step {done} of {STEPS}")
    assert 1 <= done < STEPS
    resumed = [news.report for news in train_recipe(path, tmp_path / "killed", resume=True) if news.report is not None]
    assert resumed[0].step == done + 1 and resumed[-1].step == STEPS
    list(train_recipe(path, tmp_path / "whole"))
    assert same(state(tmp_path / "whole" / folder.name), state(folder))
    for made in sorted((tmp_path / "whole").rglob("*.safetensors")):
        if made.name != FILE_NAME and "cache" not in made.parts:
            assert made.read_bytes() == (tmp_path / "killed" / made.relative_to(tmp_path / "whole")).read_bytes()
