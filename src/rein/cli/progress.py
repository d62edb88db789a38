"""A progress bar on stderr, for people: shown on a terminal only, and gone without a trace when the work is done."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID


class Meter:
    """What a command tells about its progress; silent where nobody watches.

    Text given to it is shown as it is: square brackets in a prompt are no markup.
    """

    def __init__(self, progress: Progress | None = None, below: list[RenderableType] | None = None) -> None:
        self._progress = progress
        self._below = [] if below is None else below
        self._task: TaskID | None = None
        self._total: int | None = None

    @property
    def visible(self) -> bool:
        """Whether there is a bar that somebody can see."""
        return self._progress is not None

    def show(self, text: str, done: int = 0, total: int | None = None, note: str = "") -> None:
        """Say what is being done: `done` of `total` steps, and a note on speed. Without a total the bar shows life."""
        if self._progress is None:
            return
        count = "" if total is None else f"{done}/{total}"
        shown = " ".join(text.split())
        if self._task is not None and total == self._total:
            self._progress.update(self._task, completed=done, text=shown, count=count, note=note)
            return
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task("", total=total, completed=done, text=shown, count=count, note=note)
        self._total = total

    def picture(self, shown: RenderableType) -> None:
        """Show something of Rich's below the bar, in place of what was there."""
        self._below[:] = [shown]

    def say(self, text: str) -> None:
        """A line of the command's output, written at once; on a terminal it goes above the bar."""
        if self._progress is not None and sys.stdout.isatty():
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, flush=True)


@contextlib.contextmanager
def meter() -> Iterator[Meter]:
    """A `Meter` that is alive within the block. Rich is imported only where there is a terminal to draw on."""
    console = _terminal()
    if console is None:
        yield Meter()
        return
    below: list[RenderableType] = []
    with _bar(console, below) as progress:
        yield Meter(progress, below)


class Pace:
    """Speed and time left of a work that begins when this object is made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def note(self, done: int, total: int, unit: str = "it/s") -> str:
        """Speed and time left after `done` of `total` steps, 1 at least."""
        return speed_note(done, total, time.perf_counter() - self._began, unit)

    def speed(self, done: int, unit: str = "it/s") -> str:
        """The speed alone, of a work whose end is not known."""
        return f"{done / max(time.perf_counter() - self._began, 1e-9):.1f} {unit}"


def speed_note(done: int, total: int, seconds: float, unit: str = "it/s") -> str:
    """ "21.3 it/s, 0:04 left", or "2.5 s/it, 1:40 left", where `done` of `total` steps took `seconds`."""
    speed = done / max(seconds, 1e-9)
    what, per = unit.split("/")
    shown = f"{speed:.1f} {unit}" if speed >= 1 else f"{1 / speed:.1f} {per}/{what.removesuffix('s')}"
    return f"{shown}, {clock((total - done) / speed)} left"


def clock(seconds: float) -> str:
    """Seconds as "0:07", "12:34" or "1:02:03"; rounded up, so that 0:00 means done."""
    whole = max(0, -int(-seconds // 1))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _terminal() -> Console | None:
    """The terminal behind stderr, if a bar can be drawn on it."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _bar(console: Console, below: list[RenderableType]) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    class Bar(Progress):
        """A bar with something below it."""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield from super().get_renderables()
            yield from below

    return Bar(
        TextColumn("{task.fields[text]}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}", markup=False),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
