"""Two processes that train together on the CPU, with weights whole or parted, give what one does with two batches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rein.formats.tensors import read_header, read_tensors
from rein.training.state import FILE_NAME
from tests.training.recipes import write_recipe
from tests.training.tiny import state

ROOT = Path(__file__).parent.parent.parent


def launched(processes: int, *words: str, parted: bool = False) -> subprocess.CompletedProcess[bytes]:
    """A run by PyTorch's launcher, which Accelerate's stands on; `parted` as by `accelerate launch --use_fsdp`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "ACCELERATE_USE_CPU": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_FSDP": str(parted).lower()}
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
    command = [*launcher, "-m", "tests.training.together", *words]
    return subprocess.run(command, env=environment, capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "parted"), [("dreambooth-lora", False), ("dreambooth-lora", True), ("finetune", True)]
)
def test_two_processes_are_one_with_the_doubled_batch(stage: str, parted: bool, tmp_path: Path) -> None:
    """The second process is killed on the way: that ends the run, which then goes on from its last state."""
    recipe = str(write_recipe(tmp_path, stage, "sd2-v"))
    one, two = tmp_path / "one", tmp_path / "two"
    done = launched(1, recipe, str(one), "2")
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    died = launched(2, recipe, str(two), "1", "die", parted=parted)
    [folder] = [path.parent.name for path in two.glob(f"*/{FILE_NAME}")]
    assert died.returncode != 0 and int(read_header(two / folder / FILE_NAME).metadata["step"]) == 1
    again = launched(2, recipe, str(two), "1", parted=parted)
    assert again.returncode == 0, again.stderr.decode()[-2000:]
    expected, found = state(one / folder), state(two / folder)
    assert found.keys() == expected.keys() and len(found) > 20
    for name, value in expected.items():
        # A key's bias adds the same to all scores of a query: its gradient is 0, and AdamW makes steps of its rounding.
        if not name.endswith("k_proj.bias"):
            assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-5), name
    for path in [path for path in one.rglob("*.safetensors") if path.name != FILE_NAME and "cache" not in path.parts]:
        first, second = read_tensors(path), read_tensors(two / path.relative_to(one))
        assert all(torch.allclose(second[name], first[name], rtol=2e-3, atol=1e-4) for name in first), path
    assert all((run / folder / "sample-000004.png").is_file() for run in (one, two))


@pytest.mark.slow
def test_what_cannot_be_parted_is_told(tmp_path: Path) -> None:
    done = launched(2, str(write_recipe(tmp_path, "autoencoder")), str(tmp_path / "run"), "1", parted=True)
    assert done.returncode != 0 and b"two networks that move in turn are not parted" in done.stderr
