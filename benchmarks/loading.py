"""How long files of SD1.5's shape take until they are ready to step, and how much memory, beside diffusers.

    python -m benchmarks.loading                 makes the files with random weights first: 9 GB of disk
    python -m benchmarks.loading --folder DIR    keeps them there for the next time

Each measurement is a process of its own whose clock starts after its imports, with the file in the system's cache.
Memory is the largest resident set, less what the imports took; pages of the mapped file count. The last two columns
are of a first call of the U-Net after that, for 64 x 64 pixels: what loading puts off is paid there.
Expected for Rein in the file's own type: at most 1.5 s, and at most 1.15 times the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.common import print_table
from rein.formats.saving import write_diffusers, write_single
from rein.nn.specs import SD15

SOURCE = Path(__file__).parents[1]

_MEASURE = """
import json, time, torch
torch.set_num_threads({threads})
{imports}
from benchmarks.common import status_bytes
before = status_bytes("VmRSS")
began = time.perf_counter()
{work}
seconds = time.perf_counter() - began
memory = status_bytes("VmHWM") - before
weights = sum(p.numel() * p.element_size() for m in modules for p in m.parameters())
x, words = torch.zeros(1, 4, 8, 8, dtype=torch.{dtype}), torch.zeros(1, 77, 768, dtype=torch.{dtype})
began = time.perf_counter()
with torch.inference_mode():
    modules[0](x, torch.tensor([500.0]), words)
print(json.dumps([seconds, memory, weights, time.perf_counter() - began, status_bytes("VmHWM") - before]))
"""

_REIN = "parts = load({path!r}, 'cpu', {dtype!r}).parts; modules = [parts.unet, parts.autoencoder, *parts.towers]"
_DIFFUSERS = "modules = [model.unet, model.vae, model.text_encoder]"
_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}


class RandomWeights:
    """A source of seeded random numbers in a type."""

    def __init__(self, shapes: dict[tuple[str, str], tuple[int, ...]], dtype: torch.dtype) -> None:
        self._shapes, self._dtype = shapes, dtype
        self._generator = torch.Generator().manual_seed(0)

    def tensor(self, part: str, name: str) -> torch.Tensor:
        """One tensor, of the size that first weights have."""
        shape = self._shapes[part, name]
        fan = max(1, torch.Size(shape[1:]).numel())
        return (torch.randn(shape, generator=self._generator) * fan**-0.5).to(self._dtype)

    def dtype(self, part: str, name: str) -> torch.dtype:
        """The type."""
        return self._dtype


@dataclass(frozen=True)
class Case:
    """One measurement: what reads which file as which type, and the lines of the process that does."""

    name: str
    dtype: str
    imports: str
    work: str


def prepare(folder: Path) -> None:
    """A single file of each type and a diffusers folder, made where they are missing."""
    from rein.formats.keys import native_shapes, part_config, part_names

    shapes = {
        (part, name): shape
        for part in part_names(SD15)
        for name, shape in native_shapes(part_config(SD15, part)).items()
    }
    for kind, dtype in _DTYPES.items():
        if not (folder / f"sd15-{kind}.safetensors").exists():
            write_single(folder / f"sd15-{kind}.safetensors", SD15, RandomWeights(shapes, dtype))
    if not (folder / "sd15-fp16" / "model_index.json").exists():
        write_diffusers(folder / "sd15-fp16", SD15, RandomWeights(shapes, torch.float16))


def cases(folder: Path) -> list[Case]:
    """All measurements: files in their own type, half precision computed in float32, and folders."""
    found = []
    diffusers = str(folder / "sd15-fp16")
    for kind, dtype in (("fp16", "float16"), ("fp32", "float32"), ("fp16", "float32")):
        single = str(folder / f"sd15-{kind}.safetensors")
        options = f"torch_dtype=torch.{dtype}, safety_checker=None"
        told = f"{kind} as {dtype}"
        ours = "from rein.pipeline.model import load"
        theirs = "from diffusers import StableDiffusionPipeline"
        made = f"from_single_file({single!r}, config={diffusers!r}, local_files_only=True, {options})"
        found.append(Case(f"rein, file, {told}", dtype, ours, _REIN.format(path=single, dtype=dtype)))
        work = f"model = StableDiffusionPipeline.{made}\n{_DIFFUSERS}"
        found.append(Case(f"diffusers, from_single_file, {told}", dtype, theirs, work))
        if told == "fp16 as float16":
            found.append(Case(f"rein, folder, {told}", dtype, ours, _REIN.format(path=diffusers, dtype=dtype)))
            work = f"model = StableDiffusionPipeline.from_pretrained({diffusers!r}, {options})\n{_DIFFUSERS}"
            found.append(Case(f"diffusers, from_pretrained, {told}", dtype, theirs, work))
    return found


Figures = tuple[float, int, int, float, int]
"""Seconds and memory of loading, bytes of weights, seconds of the first call and memory after it."""


def measured(case: Case, threads: int, limit: float) -> Figures | None:
    """The figures of one process; None where it was not done after `limit` seconds."""
    environment = os.environ | {"PYTHONPATH": f"{SOURCE / 'src'}{os.pathsep}{SOURCE}", "HF_HUB_OFFLINE": "1"}
    environment["OMP_NUM_THREADS"] = str(threads)
    code = _MEASURE.format(threads=threads, imports=case.imports, work=case.work, dtype=case.dtype)
    command = [sys.executable, "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, memory, weights, first, after = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory, weights, first, after


def row(case: Case, runs: int, threads: int, limit: float) -> list[str]:
    """The medians of a case. One run before the first fills the system's cache."""
    found: list[Figures] = []
    for turn in range(runs + 1):
        figures = measured(case, threads, limit)
        if figures is None:
            return [case.name, f"> {limit:.0f}", *["-"] * 5]
        found += [figures] if turn else []
    seconds, first = (statistics.median(run[place] for run in found) for place in (0, 3))
    memory, after = (max(run[place] for run in found) for place in (1, 4))
    weights = found[0][2]
    sizes = [f"{memory / 1e9:.2f}", f"{weights / 1e9:.2f}", f"{memory / weights:.2f}"]
    return [case.name, f"{seconds:.2f}", *sizes, f"{first:.2f}", f"{after / weights:.2f}"]


HEAD = ("", "seconds", "memory, GB", "weights, GB", "ratio", "first call, s", "ratio then")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the files are, or are made and kept")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds that a process may take")
    parser.add_argument("--only", default="", help="measure only the cases whose name has this in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder)
        print(f"{options.threads} threads, median of {options.runs}")
        rows = []
        for case in cases(folder):
            if options.only in case.name:
                rows.append(row(case, options.runs, options.threads, options.limit))
                print("; ".join(rows[-1]), file=sys.stderr, flush=True)
        print_table(HEAD, rows)


if __name__ == "__main__":
    main()
