"""`rein batch`: every request of a file, going on where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rein.cli.app import app
from rein.cli.options import DEVICE, MODEL, AsJson, Given, load_model, takes
from rein.cli.progress import Meter, meter
from rein.errors import InterruptedWork, OutputError, ReinError

if TYPE_CHECKING:
    from rein.pipeline.batch import Entry, Record
    from rein.pipeline.model import Model

_EXAMPLES = """
\b
Examples:
  rein batch requests.jsonl --output out/
  rein batch requests.csv --model v1-5.safetensors --output out/ --json

A line of requests.jsonl: {"prompt": "a red apple, flat style", "seed": 7, "steps": 30}
The first row of requests.csv has names of fields: prompt,seed,steps; an empty cell is the field's default.

Run it again to go on after an interruption: what is done is not drawn again. Bad lines are listed at the end, the
others are drawn; the exit code is then 1.
"""


@app.command("batch", epilog=_EXAMPLES)
@takes(*MODEL, *DEVICE)
def batch(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Requests, as .jsonl or .csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the pictures go.")] = Path(
        "pictures"
    ),
    given: Given,
    as_json: AsJson = False,
) -> None:
    """Draw every request of a file."""
    work = Batch()
    try:
        with meter() as shown:
            shown.show("starting")
            from rein.pipeline.batch import Record, read_batch

            entries = read_batch(file)
            record = Record(output)
            shown.show("loading")
            loaded = load_model(given)
            for entry in entries:
                work.take(entry, record, loaded, shown)
    except KeyboardInterrupt:
        raise InterruptedWork(f"interrupted: {work.summary()}; the same command goes on from here") from None
    work.tell(output, as_json)
    raise typer.Exit(1 if work.problems else 0)


@dataclass
class Batch:
    """How far a batch has come."""

    drawn: int = 0
    skipped: int = 0
    files: list[Path] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)

    def take(self, entry: Entry, record: Record, model: Model, shown: Meter) -> None:
        """Draw an entry unless it is done or bad; one that fails is noted, and the batch goes on.

        Raises:
            OutputError: its pictures cannot be written, so no others can either.
        """
        if entry.request is None:
            self.problems[entry.line] = entry.problem
            return
        if record.done(entry):
            self.skipped += 1
            return
        shown.show(f"line {entry.line}")
        paths: list[Path] = []
        try:
            for step in model.steps(entry.request):
                shown.show(f"line {entry.line}", step.index + 1, step.steps)
                if step.last:
                    paths += step.result.save(record.path.parent / f"{entry.line:06}-{{seed}}.png", overwrite=True)
        except OutputError:
            raise
        except ReinError as error:
            self.problems[entry.line] = str(error)
            return
        record.add(entry, paths)
        self.drawn += 1
        self.files += paths

    def summary(self) -> str:
        """ "5 requests drawn, 2 done before, 1 bad"."""
        parts = [f"{self.drawn} requests drawn", f"{self.skipped} done before", f"{len(self.problems)} bad"]
        return ", ".join(parts)

    def tell(self, folder: Path, as_json: bool) -> None:
        """What was done, every bad line, and where the pictures are."""
        if as_json:
            print(json.dumps(self._object(), indent=1))
            return
        for line, problem in self.problems.items():
            print(f"line {line}: {problem}")
        print(self.summary())
        print(folder)

    def _object(self) -> dict[str, Any]:
        return {
            "drawn": self.drawn,
            "skipped": self.skipped,
            "files": [str(path) for path in self.files],
            "problems": [{"line": line, "problem": problem} for line, problem in self.problems.items()],
        }
