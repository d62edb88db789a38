"""The training loop: any objective, one generator of reports.

Every draw is a function of the seed and the step, so a run that is killed and resumed passes through the same states as
one that is not: on the CPU, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from rein.errors import NonFiniteError, require
from rein.files import atomic_file
from rein.interrupt import HeldInterrupt
from rein.training.gallery import add_sheet
from rein.training.memory import Footprint, Preflight, measured, settle
from rein.training.objective import Batch, Losses, Objective, Player, Uncompiled
from rein.training.optim import FACTOR, Average, learning, make_optimiser, rate_factor, swap
from rein.training.sharding import check_table, plain, shard, together, wanted, whole
from rein.training.state import FILE_NAME, Trained, load_state, save_state
from rein.training.tables import LoopTable
from rein.training.trouble import find_trouble

_QUICK = 5.0
"""Seconds of a pass over one picture that may be done twice to measure it well."""

_SHORT = 20.0
"""Seconds of a pass over a batch that may be done for measuring alone."""

_RECENT = 32
"""Steps whose pace is told."""


@dataclass(frozen=True)
class Report:
    """One finished step: losses averaged over its batches, the rate, and the speed of late in pictures per second.

    `busy` is the share of the time so far that was spent in forward and backward passes and the optimiser.
    """

    step: int
    steps: int
    losses: dict[str, float]
    learning_rate: float
    pictures_per_second: float
    seconds_left: float
    validation: dict[str, float] = field(default_factory=dict)
    sample: Path | None = None
    saved: bool = False
    busy: float = 1.0


class Loop:
    """Runs one stage of a recipe in `folder`: state, samples and scalars are kept there.

    `recipe` identifies the run: a state made by another recipe is refused on resume.
    """

    def __init__(self, objective: Objective, table: LoopTable, folder: Path, recipe: str) -> None:
        accelerate = require("accelerate", "train")
        self.objective, self.table, self.folder, self.recipe = objective, table, folder, recipe
        folder.mkdir(parents=True, exist_ok=True)
        # Towers have layers that not every family reads, which get no gradient.
        several = accelerate.DistributedDataParallelKwargs(find_unused_parameters=True)
        # Accelerate fixes its precision once for a whole process, and stages may differ: `_precision` sets ours.
        self.accelerator = accelerate.Accelerator(
            mixed_precision="no", step_scheduler_with_optimizer=False, kwargs_handlers=[several]
        )
        objective.place(self.accelerator.device)
        self.players = objective.players()
        self.sharded = wanted(self.accelerator.num_processes)
        if self.sharded:
            check_table(table, len(self.players))
        self.trained: dict[str, Trained] = {}
        self.prepared: dict[str, Any] = {}
        for player in self.players:
            self._prepare(player)
        self.step, self.seconds, self.worked = 0, 0.0, 0.0
        self.saved_step: int | None = None

    def resume(self) -> int:
        """Continue from the saved state, if there is one; returns the number of steps already done."""
        path = self.folder / FILE_NAME
        if path.exists():
            self.step, self.seconds = load_state(path, self.trained, self.recipe)
            self.saved_step = self.step
        return self.step

    def preflight(self) -> Preflight:
        """What the run will take, measured on pictures of the first batch; nothing of the run is changed.

        Raises:
            InputError: the memory that is free is too little.
        """
        table = self.table
        with _attention(self.accelerator.device):
            # Parted weights are whole for no one alone.
            alone = [Footprint(0, 0.0) if self.sharded else self._alone(n) for n in range(len(self.players))]
            processes = self.accelerator.num_processes if self.sharded else 1
            plan = Preflight.of(self._modules, max(one.kept for one in alone) * table.batch_size, processes)
            plan.check(self.accelerator.device)
            seconds = 0.0
            for number, one in enumerate(alone):
                steps = max(0, table.steps - max(self.step, self.players[number].starts))
                seconds += table.accumulation * steps * self._rehearsed(number, one.seconds * table.batch_size)
        return replace(plan, seconds=seconds)

    def _alone(self, number: int) -> Footprint:
        """A pass over one picture, past a compiled form."""
        player, batch = self.players[number], self._batch(number, 0)
        one = Batch(player.starts, batch.indices[:1], batch.generator)
        loss = partial(self._loss_of, Uncompiled(player.module), player, one)
        footprint = measured(loss, player.module)
        # The first pass of all makes libraries ready, too.
        return measured(loss, player.module) if footprint.seconds < _QUICK else footprint

    def _rehearsed(self, number: int, guess: float) -> float:
        """Seconds of a pass over a batch, which is less than its pictures one by one, as a run does it again and again.

        `guess` is what they take one by one; it stays where a batch would take long and nothing is compiled.
        """
        if guess > _SHORT and not self.table.compile:
            return guess
        player = self.players[number]
        for _first_makes_ready in range(2):
            batch = self._batch(number, 0)
            began = time.monotonic()
            self.accelerator.backward(
                self._loss_of(self.prepared[player.name], player, replace(batch, step=player.starts))
            )
            settle(self.accelerator.device)
            guess = time.monotonic() - began
            for other in self.players:
                other.module.zero_grad(set_to_none=True)
        return guess

    def _loss_of(self, module: torch.nn.Module, player: Player, batch: Batch) -> Tensor:
        with self._precision():
            return player.loss(module, batch)["loss"]

    def run(self) -> Generator[Report, None, None]:
        """Train to the last step, yielding a report for each. State and samples are written as the table says.

        A new run writes its first state after its first step, so that a folder that cannot be written shows at once.
        After Ctrl-C the step in work is finished, saved and reported before KeyboardInterrupt is raised; where several
        processes train together, whose steps would part, it is raised at once.

        Raises:
            NonFiniteError: a loss or a gradient is not finite. The last state from which the losses are finite is kept.
            OutputError: the state cannot be written.
        """
        began, first = time.monotonic(), self.step
        self.worked = 0.0
        ends = deque([began], maxlen=_RECENT + 1)
        last_saved, last_sampled = (began if first else -math.inf), began
        while self.step < self.table.steps:
            with _attention(self.accelerator.device), HeldInterrupt(self.accelerator.num_processes == 1) as held:
                started = time.monotonic()
                losses = self._step()
                now = time.monotonic()
                self.worked += now - started
                done = self.step == self.table.steps
                stop = held.asked
                save = done or stop or now - last_saved > 60 * self.table.checkpoint_minutes
                show = done or now - last_sampled > 60 * self.table.sample_minutes
                if save:
                    self._save(self.seconds + now - began)
                    last_saved = time.monotonic()
                sample, numbers = self._show() if show else (None, {})
                last_sampled = time.monotonic() if show else last_sampled
            ends.append(now)
            if self.step == first + 2:
                ends.popleft()  # the first step makes libraries and compiled forms ready
            pace = (ends[-1] - ends[0]) / (len(ends) - 1)
            yield Report(
                self.step,
                self.table.steps,
                losses,
                self.table.learning_rate * rate_factor(self.step - 1, self.table),
                self.table.batch_size * self.table.accumulation * self.accelerator.num_processes / pace,
                pace * (self.table.steps - self.step),
                numbers,
                sample,
                save,
                self.worked / max(1e-9, time.monotonic() - began),
            )
            if stop:
                raise KeyboardInterrupt

    def finish(self, folder: Path) -> None:
        """Save what was trained, with averaged weights, into a model folder."""
        with self.averaged(), plain(self._modules):
            if self.accelerator.is_main_process:
                self.objective.save(folder)

    def averaged(self) -> AbstractContextManager[None]:
        """The modules hold their averaged weights inside this context, and their own again after it."""
        return _Averaged(list(self.trained.values()))

    def _prepare(self, player: Player) -> None:
        device = self.accelerator.device
        if self.sharded:
            shard(player.module, device, self.accelerator.num_processes)
        else:
            player.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = make_optimiser(player.module, self.table, player.rates)
        wanted = self.table.ema and player.averaged
        average = Average(player.module, self.table.ema, self.table.ema_on_cpu) if wanted else None
        self.trained[player.name] = Trained(player.module, optimiser, average)
        if self.table.compile:
            player.module.compile()
        self.prepared[player.name] = player.module if self.sharded else self.accelerator.prepare_model(player.module)

    @property
    def _modules(self) -> list[torch.nn.Module]:
        return [entry.module for entry in self.trained.values()]

    def _step(self) -> dict[str, float]:
        shown: dict[str, float] = {}
        for number, player in enumerate(self.players):
            if self.step < player.starts:
                continue
            optimiser = self.trained[player.name].optimiser
            for group in optimiser.param_groups:
                group["lr"] = self.table.learning_rate * group[FACTOR] * rate_factor(self.step, self.table)
            for part in range(self.table.accumulation):
                losses = self._losses(player, self._waited(number, part))
                self.accelerator.backward(losses["loss"] / self.table.accumulation)
                for name, value in losses.items():
                    key = name if number == 0 else f"{player.name}_{name}"
                    shown[key] = shown.get(key, 0.0) + float(value.detach()) / self.table.accumulation
            self._check(shown, number)
            norm = torch.nn.utils.clip_grad_norm_(player.module.parameters(), self.table.clip)
            self._check({"gradient norm": float(whole(norm))}, number)
            optimiser.step()
            for other in self.players:
                other.module.zero_grad(set_to_none=True)
        self.step += 1
        for entry in self.trained.values():
            if entry.average is not None:
                entry.average.update(entry.module, self.step)
        return shown

    def _losses(self, player: Player, batch: Batch) -> Losses:
        with self._precision():
            return player.loss(self.prepared[player.name], batch)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.table.precision == "bf16")

    def _waited(self, player: int, part: int) -> Batch:
        """A batch; the time that it takes is not counted as work."""
        began = time.monotonic()
        batch = self._batch(player, part)
        self.worked -= time.monotonic() - began
        return batch

    def _batch(self, player: int, part: int) -> Batch:
        """Pictures of this step: each process takes its share of one seeded permutation after another.

        A share draws the same whether several processes take one each or one process takes all of them in turn.
        """
        table, processes = self.table, self.accelerator.num_processes
        share, place = table.batch_size, part * processes + self.accelerator.process_index
        offset = (self.step * table.accumulation * processes + place) * share
        indices = torch.tensor([_shuffled(table.seed, offset + i, self.objective.size()) for i in range(share)])
        draw = hash_seed(table.seed, self.step, place, player, 0)
        return Batch(self.step, indices, torch.Generator(self.accelerator.device).manual_seed(draw))

    def _check(self, losses: dict[str, float], number: int) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                batches = (self._batch(number, part) for part in range(self.table.accumulation))
                with self._precision():
                    places = (find_trouble(self.objective, self.players[number], batch) for batch in batches)
                    where = "" if self.sharded else next((place for place in places if place), "")
                saved = f"the state of step {self.saved_step} is kept in {self.folder / FILE_NAME}"
                raise NonFiniteError(
                    f"{self.objective.name}: {name} is {value} at step {self.step + 1}{where}; "
                    f"{'no state was saved yet' if self.saved_step is None else saved}; "
                    "start again with a lower learning_rate or precision fp32"
                )

    def _show(self) -> tuple[Path | None, dict[str, float]]:
        if self.sharded:
            with self.averaged(), together(self._modules):
                shown = self._shown() if self.accelerator.is_main_process else (None, {})
                self.accelerator.wait_for_everyone()
            return shown
        if not self.accelerator.is_main_process:
            return None, {}
        with self.averaged():
            return self._shown()

    def _shown(self) -> tuple[Path | None, dict[str, float]]:
        with torch.no_grad():
            numbers, picture = self.objective.validate(), self.objective.sample()
        path = None if picture is None else self.folder / f"sample-{self.step:06d}.png"
        if picture is not None and path is not None:
            with atomic_file(path) as handle:
                picture.save(handle, "PNG")
        add_sheet(self.folder, self.step, numbers, path)
        return path, numbers

    def _save(self, seconds: float) -> None:
        """Write the state, once the next step's losses are seen to be finite: a ruined state replaces no good one."""
        for number, player in enumerate(self.players):
            if self.step >= player.starts:
                losses = self._losses(player, self._batch(number, 0))
                self._check({name: float(value.detach()) for name, value in losses.items()}, number)
        first = self.accelerator.is_main_process
        if first or self.sharded:
            save_state(self.folder / FILE_NAME if first else None, self.trained, self.step, seconds, self.recipe)
        self.accelerator.wait_for_everyone()
        self.saved_step = self.step


class _Averaged(AbstractContextManager[None]):
    """Puts averages in, those that are kept beside the weights and those that an optimiser makes itself."""

    def __init__(self, trained: list[Trained]) -> None:
        self._trained = trained
        self._before: list[tuple[Trained, dict[str, Tensor]]] = []

    def __enter__(self) -> None:
        for entry in self._trained:
            if entry.average is not None:
                self._before.append((entry, swap(entry.module, entry.average.state())))
            elif hasattr(entry.optimiser, "eval"):  # schedule-free: it turns the weights into their average in place
                before = {name: value.detach().clone() for name, value in learning(entry.module).items()}
                entry.optimiser.eval()
                self._before.append((entry, before))

    def __exit__(self, *_: object) -> None:
        for entry, tensors in self._before:
            if hasattr(entry.optimiser, "train"):
                entry.optimiser.train()
            swap(entry.module, tensors)  # exactly: turning back would round
        self._before.clear()


def _attention(device: torch.device) -> AbstractContextManager[Any]:
    """On the CPU the plain attention: the flash kernel's backward pass is several times slower in small models."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


_orders: dict[tuple[int, int, int], Tensor] = {}


def _shuffled(seed: int, position: int, size: int) -> int:
    """The picture at `position` of an endless sequence of seeded permutations of `size` pictures."""
    key = (seed, position // size, size)
    if key not in _orders:
        for old in [k for k in _orders if k[1] < key[1] - 1]:
            del _orders[old]
        _orders[key] = torch.randperm(size, generator=torch.Generator().manual_seed(hash_seed(seed, 7, key[1])))
    return int(_orders[key][position % size])


def hash_seed(*numbers: int) -> int:
    """A 63-bit seed from whole numbers (splitmix64 steps): near inputs give unrelated seeds."""
    mask, state = 2**64 - 1, 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number & mask)) * 0xBF58476D1CE4E5B9 & mask
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & mask
        state ^= state >> 31
    return state >> 1
