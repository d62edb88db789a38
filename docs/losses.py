"""The loss of training runs as a table for the book's figure, from the scalars that they wrote for TensorBoard.

python docs/losses.py runs/pocket/2-denoiser runs/pocket-more/1-denoiser --batch 64

Several folders are one training that went on; of a step that was done twice the last counts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rein.files import atomic_file

TABLE = Path(__file__).parent / "data" / "pocket-denoiser-loss.csv"
SPAN = 25
"""Steps that are averaged to one row."""


def losses(folder: Path) -> list[float]:
    """The loss of every step of a run, in order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[int, float] = {}
    for path in sorted(folder.glob("events*")):
        events: Any = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        if "loss/loss" in events.Tags()["scalars"]:
            found |= {event.step: event.value for event in events.Scalars("loss/loss")}
    return [found[step] for step in sorted(found)]


def rows(runs: list[list[float]], batch: int) -> list[tuple[int, float]]:
    """Pictures seen, and the mean loss of the steps up to there."""
    values = [value for run in runs for value in run]
    spans = [(first, values[first : first + SPAN]) for first in range(0, len(values), SPAN)]
    return [((first + len(span)) * batch, sum(span) / len(span)) for first, span in spans]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of runs with their event files")
    parser.add_argument("--batch", type=int, default=64, help="pictures of a step")
    options = parser.parse_args()
    found = rows([losses(folder) for folder in options.folders], options.batch)
    with atomic_file(TABLE) as handle:
        lines = [("pictures", "loss"), *((pictures, f"{loss:.4f}") for pictures, loss in found)]
        handle.write("".join(f"{first},{second}\n" for first, second in lines).encode())
    print(f"{TABLE}: {len(found)} rows, to {found[-1][0]:,} pictures")


if __name__ == "__main__":
    main()
