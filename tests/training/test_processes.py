"""Two processes that train together on the CPU: the same weights as one with batches twice as large."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from rein.formats.tensors import read_header
from rein.training.state import FILE_NAME
from tests.pipeline.small import save_small
from tests.training.tiny import pictures, state

ROOT = Path(__file__).parent.parent.parent


def launched(processes: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    """A run by PyTorch's launcher, which Accelerate's stands on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "ACCELERATE_USE_CPU": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
    command = [*launcher, "-m", "tests.training.together", *words]
    return subprocess.run(command, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate(pictures(6)):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{number}.png")
        (tmp_path / "pictures" / f"{number}.txt").write_text("a red apple")
    save_small(tmp_path / "model", "sd2-v")
    return tmp_path


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(folder: Path) -> None:
    shared = (str(folder / "model"), str(folder / "pictures"))
    for name, processes, accumulation in (("two", 2, 1), ("one", 1, 2)):
        done = launched(processes, str(folder / name), *shared, "2", str(accumulation))
        assert done.returncode == 0, done.stderr.decode()[-2000:]
    two, one = state(folder / "two" / "1-lora"), state(folder / "one" / "1-lora")
    assert two.keys() == one.keys() and len(two) > 20
    for name, value in one.items():
        assert torch.allclose(two[name], value, rtol=1e-3, atol=1e-5), name
    assert (folder / "two" / "lora.safetensors").is_file()


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_it_goes_on(folder: Path) -> None:
    words = (str(folder / "run"), str(folder / "model"), str(folder / "pictures"), "2", "1")
    done = launched(2, *words, "die")
    assert done.returncode != 0
    kept = read_header(folder / "run" / "1-lora" / FILE_NAME).metadata
    assert int(kept["step"]) in (1, 2)
    again = launched(2, *words)
    assert again.returncode == 0, again.stderr.decode()[-2000:]
    assert read_header(folder / "run" / "1-lora" / FILE_NAME).metadata["step"] == "4"
