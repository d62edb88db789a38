"""Before a picture is drawn: how much memory and time it will take, and what to change where it does not fit.

Memory comes from shapes (`rein.pipeline.shapes`) and from what the process holds now. Time comes from a few steps that
are really drawn (`rein.pipeline.speed`), and from how many operations the picture takes more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from rein.formats.checkpoint import LoadedModel
from rein.pipeline.job import batch_size, visited
from rein.pipeline.passes import passes_of
from rein.pipeline.request import Request
from rein.pipeline.speed import Sized, Speed, coming_bytes, measure, sized, smaller

_TILES = (1024, 512, 256)
_DIVISORS = (2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Stage:
    """One part of the work on a batch of pictures.

    Fields:
        seconds: how long it takes; None where that was not measured.
        bytes: the most that its values take.
    """

    name: str
    seconds: float | None
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What a request will take.

    Fields:
        stages: the parts of the work on one batch of pictures, in their order.
        seconds: of all pictures, without loading the model; None where they do not fit, so that nothing was measured.
        bytes: the most memory that is taken: on the CPU by the process, else on the device.
        available: bytes that there are for it, those that are in use already among them; None where nobody knows.
        measured: width and height in pixels of the picture whose steps were timed.
        advice: what to change where it does not fit, as options of `rein generate`.
    """

    stages: tuple[Stage, ...]
    seconds: float | None
    bytes: int
    available: int | None
    measured: tuple[int, int] | None = None
    advice: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether there is as much memory, as far as is known."""
        return self.available is None or self.bytes <= self.available


def plan(parts: LoadedModel, request: Request, available: int | None = None) -> Plan:
    """What `request` will take with this model, here and now.

    Args:
        available: bytes to fit into, those in use among them; None asks the system.

    Raises:
        InputError: the request does not suit the model.
    """
    request = request.resolved(parts.spec)
    passes = [entry.request for entry in passes_of(request, parts.spec)]
    costs = [sized(parts, entry) for entry in passes]
    most = max(cost.bytes for cost in costs)
    held, free = held_bytes(parts.device), free_bytes(parts.device)
    there = available if available is not None or free is None else held + free
    held += coming_bytes(parts)
    if there is not None and held + most > there:
        return _too_much(parts, passes, costs, held, there)
    speed = measure(parts, passes[0])
    # Now the libraries have loaded what they need, which is the larger part of what a small model takes.
    held = max(held, held_bytes(parts.device))
    if there is not None and held + most > there:
        return _too_much(parts, passes, costs, held, there)
    timed = [stage for pair in zip(passes, costs, strict=True) for stage in _stages(*pair, speed)]
    batches = 1 if len(passes) > 1 else batch_size(parts, request)
    seconds = sum(stage.seconds or 0.0 for stage in timed) * -(-request.count // batches) + speed.ready
    return Plan((Stage("words", speed.ready, 0), *timed), seconds, held + most, there, speed.size)


def _too_much(parts: LoadedModel, passes: list[Request], costs: list[Sized], held: int, there: int) -> Plan:
    """The plan of a request that does not fit."""
    stages = tuple(stage for pair in zip(passes, costs, strict=True) for stage in _stages(*pair, None))
    most = max(cost.bytes for cost in costs)
    return Plan(stages, None, held + most, there, None, tuple(_advice(parts, passes, there - held)))


def _stages(request: Request, cost: Sized, speed: Speed | None) -> Iterator[Stage]:
    """The parts of one pass."""
    size = f"{request.width} x {request.height}"
    steps = max(1, len(visited(torch.zeros(request.step_count + 1), request)) - 1)
    of_network, of_decoder = (None, None) if speed is None else (speed.network, speed.decoder)
    if cost.encoder is not None:
        yield Stage(f"encode {size}", _times(cost.encoder.operations, of_decoder), cost.encoder.bytes)
    yield Stage(f"{steps} steps at {size}", _times(steps * cost.network.operations, of_network), cost.network.bytes)
    yield Stage(f"decode {size}", _times(cost.decoder.operations, of_decoder), cost.decoder.bytes)


def _times(operations: int, seconds: float | None) -> float | None:
    return None if seconds is None else operations * seconds


def _advice(parts: LoadedModel, passes: list[Request], room: int) -> Iterator[str]:
    """Changes that make all passes fit into `room` bytes, the smallest first, each alone."""
    largest = max(passes, key=lambda entry: (entry.width or 0) * (entry.height or 0))
    side = max(largest.width or 0, largest.height or 0)
    for tile in _TILES:
        if tile < side and all(sized(parts, entry, 1, tile).bytes <= room for entry in passes):
            yield f"--set tile={tile}"
            break
    if parts.device.type != "cpu" and parts.dtype == torch.float32:
        yield "--dtype float16"
    for divisor in _DIVISORS:
        if all(sized(parts, entry, divisor).bytes <= room for entry in passes):
            width, height = smaller(parts, passes[0], divisor)
            yield f"--width {width} --height {height}"
            return
    yield "a smaller model, or a machine with more memory: this one is full with the model alone"


def held_bytes(device: torch.device) -> int:
    """Memory in use: of the process on the CPU, of PyTorch on another device."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource  # not on Windows
    except ModuleNotFoundError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def free_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        [free] = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        return None
    return min(free, _container_room())


def _container_room() -> int:
    """What a container's limit leaves; a very large number where there is none."""
    folder = Path("/sys/fs/cgroup")
    try:
        most, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return max(0, int(most) - int(used))
    except (OSError, ValueError):
        return sys.maxsize
