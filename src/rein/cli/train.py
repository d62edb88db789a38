"""`rein train`: run a recipe from nothing to a model folder, and say how it goes."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rein.cli.app import app
from rein.cli.progress import Meter, clock, meter
from rein.errors import InterruptedWork

if TYPE_CHECKING:
    from rein.training.loop import Report
    from rein.training.run import StageReport

_EXAMPLES = """
\b
Examples:
  rein train recipes/pocket-cpu.toml --output runs/pocket
  rein train recipes/pocket-cpu.toml --output runs/pocket --resume
  rein train lora --set data.folder=my-pictures --set stage.steps=400
"""

_LINE_EVERY = 60.0
"""Seconds between two lines where no bar is drawn, as in a log file."""


@app.command("train", epilog=_EXAMPLES, no_args_is_help=False)
def train(
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE",
            help="What to train, on what, and how: a TOML file, or one that comes with Rein: autoencoder, dreambooth, "
            "dreambooth-lora, finetune, inversion, lora.",
        ),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Another value in the recipe, such as stage.steps=200. May be repeated."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of the run. [default: runs/ and the recipe's file name]"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run that is in the folder.")] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="D", help="auto, cpu, cuda, cuda:1, mps.", show_default=True)
    ] = "auto",
) -> None:
    """Train a model, or teach one, as a recipe says. The last line tells what was made: a model's folder or a file."""
    folder = output if output is not None else Path("runs") / recipe.stem
    with meter() as shown:
        shown.show("starting")
        from rein.training.run import train_recipe

        _use(device)
        diary = Diary(shown)
        try:
            for news in train_recipe(recipe, folder, resume, changes=changes or ()):
                if speaks():
                    diary.enter(news)
        except KeyboardInterrupt:
            raise InterruptedWork(how_to_resume(diary, recipe, folder, device, changes or ())) from None
    if speaks():
        print(diary.model if diary.model is not None else folder, flush=True)


def speaks() -> bool:
    """Whether this process tells how it goes: of several that train together the first, by the launcher's numbers."""
    return os.environ.get("RANK", "0") == "0"


@dataclass
class Diary:
    """What a run has told so far, and what of it is shown."""

    meter: Meter
    stage: str = ""
    step: int = 0
    saved: int = 0
    model: Path | None = None
    last_line: float = float("-inf")

    def enter(self, news: StageReport) -> None:
        """Take one report: move the bar, and write a line for what should stay to be read."""
        if news.stage != self.stage:
            self.stage, self.step, self.saved = news.stage, 0, 0
        if news.model is not None:
            self.model = news.model
        elif news.report is not None:
            self._step(news.report)
        elif news.message:
            self.meter.show(f"{news.stage}: {news.message}")
            self.meter.say(f"{news.stage}: {news.message}")

    def _step(self, report: Report) -> None:
        self.step = report.step
        self.saved = report.step if report.saved else self.saved
        note = progress_note(report)
        self.meter.show(self.stage, report.step, report.steps, note)
        told = bool(report.sample or report.validation) or report.step == report.steps
        if told or (not self.meter.visible and time.monotonic() - self.last_line > _LINE_EVERY):
            self.last_line = time.monotonic()
            self.meter.say(f"{self.stage} {report.step}/{report.steps}: {note}{_shown_on_the_way(report)}")


def progress_note(report: Report) -> str:
    """Speed, time left and losses of a step, as "56.2 pictures/s, 1:02:03 left, loss 0.123"."""
    losses = ", ".join(f"{name} {value:.3g}" for name, value in report.losses.items())
    return f"{report.pictures_per_second:.1f} pictures/s, {clock(report.seconds_left)} left, {losses}"


def _shown_on_the_way(report: Report) -> str:
    parts = [f"{name} {value:.4g}" for name, value in report.validation.items()]
    numbers = f"; validation {', '.join(parts)}" if parts else ""
    return numbers + (f"; samples in {report.sample}" if report.sample else "")


def _use(device: str) -> None:
    """Make Accelerate, which runs the loop, take this device; "auto" leaves the choice to it and to its launcher.

    It asks the environment for the CPU, and PyTorch for the current one among several GPUs.
    """
    if device.strip().lower() == "auto":
        return
    import torch

    from rein.devices import choose_device

    chosen = choose_device(device)
    if chosen.index is not None:
        torch.cuda.set_device(chosen)
    os.environ["ACCELERATE_USE_CPU"] = str(chosen.type == "cpu")


def how_to_resume(diary: Diary, recipe: Path, folder: Path, device: str, changes: Sequence[str] = ()) -> str:
    """What to say after an interrupt: how far it came, what of it is kept, and the command that goes on."""
    command = ["rein", "train", str(recipe), "--output", str(folder), "--resume"]
    command += [part for change in changes for part in ("--set", change)]
    command += ["--device", device] if device != "auto" else []
    where = (
        f"in step {diary.step + 1} of stage {diary.stage}" if diary.step else f"before the first step of {diary.stage}"
    )
    kept = f"; kept: the state after step {diary.saved}" if diary.saved else ""
    return f"stopped {where if diary.stage else 'before anything was done'}{kept}. Continue with: {shlex.join(command)}"
