"""What the benchmarks share: a model to measure, runs in turn, and a small table."""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from rein.errors import ReinError
from rein.formats.checkpoint import save_model
from rein.nn.autoencoder import Autoencoder
from rein.nn.clip import TextTower
from rein.nn.specs import POCKET
from rein.nn.unet import UNet
from rein.pipeline.model import model_folder
from rein.text.tokenizer import train_vocabulary


@contextmanager
def model_to_measure(source: str | None) -> Iterator[tuple[str, str]]:
    """A model as a name or folder for `rein.load`, and what to call it.

    Without a `source` it is the embedded model; where this copy of Rein has none, one of the same shape with random
    weights, which computes as long.
    """
    if source is not None:
        yield source, source
        return
    try:
        model_folder(None)
    except ReinError:
        with tempfile.TemporaryDirectory() as folder:
            save_random_pocket(Path(folder))
            yield folder, "pocket's shape with random weights"
        return
    yield "pocket", "pocket"


def save_random_pocket(folder: Path) -> None:
    """A model folder of the embedded model's shape with random weights."""
    torch.manual_seed(0)
    tokenizer = train_vocabulary(["a red apple, flat style"], 600)
    tower = replace(
        POCKET.towers[0],
        vocabulary_size=tokenizer.vocabulary_size,
        end_token=tokenizer.end,
        pad_token=tokenizer.pad,
    )
    spec = replace(POCKET, towers=(tower,))
    save_model(folder, spec, UNet(spec.unet), Autoencoder(spec.autoencoder), [TextTower(spec.towers[0])], tokenizer)


def in_turn(candidates: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each candidate. They take turns, so that a slow minute of the machine hits all alike.

    One run of each before the first is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(runs + 1):
        for name, candidate in candidates.items():
            began = time.perf_counter()
            candidate()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under a head, the first column set left and the others right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        first, *others = (entry.rjust(width) for entry, width in zip(row, widths, strict=True))
        print("  ".join([row[0].ljust(len(first)), *others]))


def summary(seconds: Sequence[float]) -> list[str]:
    """Median, fastest and slowest, in seconds."""
    return [f"{value:.3f}" for value in (statistics.median(seconds), min(seconds), max(seconds))]


def status_bytes(name: str) -> int:
    """A size of this process as Linux tells it, in bytes: "VmRSS" is its resident set, "VmHWM" the largest so far."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def put_table(page: Path, name: str, rows: Sequence[Sequence[str]]) -> None:
    """Put a table, its head first, into a Markdown page, between its "<!-- NAME: begin -->" and "<!-- NAME: end -->".

    Raises:
        ValueError: the page has no such place.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{page} has no place for the table {name!r}: put {begin} and {end} there")
    page.write_text("\n".join([before + begin, markdown_table(rows), end + after]), encoding="utf-8")


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as Markdown, the head first."""
    head, *others = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *others))


def put_section(page: Path, heading: str, body: str) -> None:
    """Put a section into a Markdown page: in place of the one with that heading, or at the end.

    Args:
        heading: its line, such as "## Measured"; the section goes on to the next heading of that level or a higher one.
    """
    level = len(heading) - len(heading.lstrip("#"))
    text = page.read_text(encoding="utf-8")
    before, found, rest = f"\n{text}".partition(f"\n{heading}\n")
    after = re.search(rf"^#{{1,{level}}} ", rest, re.MULTILINE) if found else None
    tail = f"\n{rest[after.start() :]}" if after else ""
    page.write_text(f"{before.strip()}\n\n{heading}\n\n{body.strip()}\n{tail}", encoding="utf-8")
