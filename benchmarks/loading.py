"""How long a 2 GB file of SD1.5's shape takes until it is ready to step, and how much memory, beside diffusers.

    python -m benchmarks.loading                 makes the files with random weights first: 5 GB of disk
    python -m benchmarks.loading --folder DIR    keeps them there for the next time

Each measurement is a process of its own whose clock starts after its imports, with the file in the system's cache.
Memory is the largest resident set, less what the imports took; pages of the mapped file count.
Expected for Rein: at most 1.5 s, and at most 1.15 times the weights.
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

import torch

from benchmarks.common import print_table
from rein.formats.saving import write_diffusers, write_single
from rein.nn.specs import SD15

SOURCE = Path(__file__).parents[1]

_MEASURE = """
import json, sys, time, torch
torch.set_num_threads({threads})
{imports}
def status(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024
before = status("VmRSS")
began = time.perf_counter()
{work}
seconds = time.perf_counter() - began
weights = sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
print(json.dumps([seconds, status("VmHWM") - before, weights]))
"""

_REIN = "parts = load({path!r}, 'cpu', {dtype!r}).parts; modules = [parts.unet, parts.autoencoder, *parts.towers]"
_DIFFUSERS = "modules = [model.unet, model.vae, model.text_encoder]"


class RandomWeights:
    """A source of seeded random numbers in half precision."""

    def __init__(self, shapes: dict[tuple[str, str], tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._generator = torch.Generator().manual_seed(0)

    def tensor(self, part: str, name: str) -> torch.Tensor:
        """One tensor, of the size that first weights have."""
        shape = self._shapes[part, name]
        fan = max(1, torch.Size(shape[1:]).numel())
        return (torch.randn(shape, generator=self._generator) * fan**-0.5).half()

    def dtype(self, part: str, name: str) -> torch.dtype:
        """float16."""
        return torch.float16


def prepare(folder: Path) -> tuple[Path, Path]:
    """The single file and the diffusers folder, made where they are missing."""
    from rein.formats.keys import native_shapes, part_config, part_names

    single, diffusers = folder / "sd15-fp16.safetensors", folder / "sd15-fp16"
    shapes = {
        (part, name): shape
        for part in part_names(SD15)
        for name, shape in native_shapes(part_config(SD15, part)).items()
    }
    if not single.exists():
        write_single(single, SD15, RandomWeights(shapes))
    if not (diffusers / "model_index.json").exists():
        write_diffusers(diffusers, SD15, RandomWeights(shapes))
    return single, diffusers


def cases(single: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Imports and work of each measurement."""
    rein = "from rein.pipeline.model import load"
    peer = "from diffusers import StableDiffusionPipeline"
    options = "torch_dtype=torch.{dtype}, safety_checker=None"
    found = {}
    for dtype in ("float32", "float16"):
        chosen = options.format(dtype=dtype)
        found |= {
            f"rein, file, {dtype}": (rein, _REIN.format(path=str(single), dtype=dtype)),
            f"rein, folder, {dtype}": (rein, _REIN.format(path=str(folder), dtype=dtype)),
            f"diffusers, from_single_file, {dtype}": (
                peer,
                f"model = StableDiffusionPipeline.from_single_file({str(single)!r}, config={str(folder)!r}, "
                f"local_files_only=True, {chosen})\n{_DIFFUSERS}",
            ),
            f"diffusers, from_pretrained, {dtype}": (
                peer,
                f"model = StableDiffusionPipeline.from_pretrained({str(folder)!r}, {chosen})\n{_DIFFUSERS}",
            ),
        }
    return found


def measured(imports: str, work: str, threads: int) -> tuple[float, int, int]:
    """Seconds, bytes of memory and bytes of weights of one process."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE / "src"), "HF_HUB_OFFLINE": "1"}
    environment["OMP_NUM_THREADS"] = str(threads)
    code = _MEASURE.format(threads=threads, imports=imports, work=work)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, memory, weights = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory, weights


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the files are, or are made and kept")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="measure only the cases whose name has this in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        single, diffusers = prepare(folder)
        size = single.stat().st_size / 1e9
        print(f"{single.name}: {size:.2f} GB, {options.threads} threads, median of {options.runs}")
        rows = []
        for name, (imports, work) in cases(single, diffusers).items():
            if options.only not in name:
                continue
            measured(imports, work, options.threads)  # fills the system's cache
            runs = [measured(imports, work, options.threads) for _ in range(options.runs)]
            seconds = statistics.median(run[0] for run in runs)
            memory, weights = max(run[1] for run in runs), runs[0][2]
            ratio = f"{memory / weights:.2f}"
            rows.append([name, f"{seconds:.2f}", f"{memory / 1e9:.2f}", f"{weights / 1e9:.2f}", ratio])
        print_table(["", "seconds", "memory, GB", "weights, GB", "ratio"], rows)


if __name__ == "__main__":
    main()
