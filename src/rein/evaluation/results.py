"""What judging pictures found: figures with intervals, their networks, and what must be said beside them; as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from rein.errors import DamagedFileError, InputError
from rein.evaluation.nearest import Closeness
from rein.files import atomic_file

Better = Literal["lower", "higher", ""]
"""Which way a figure is better; "" where neither is."""

RESULTS_NAME, PAGE_NAME = "results.json", "page.html"


@dataclass(frozen=True)
class Figure:
    """One figure with its 95% interval.

    Fields:
        key: a short name that stays: "fd", "kid", "clip_score".
        label: how a reader calls it.
        network: by which it was measured, with the hash of its weights; "" where none was.
        pictures: how many it is made of.
    """

    key: str
    label: str
    value: float
    low: float
    high: float
    better: Better
    network: str
    pictures: int


PIXELS = "pixels"


@dataclass(frozen=True)
class Copies:
    """Distances of drawn pictures to the nearest of `compared` others; nearer than `threshold` is a near-copy.

    `by` says which distance: "pixels", or the network whose features were compared, with the hash of its weights.
    """

    by: str
    compared: int
    threshold: float
    kinds: tuple[Closeness, ...]


@dataclass(frozen=True)
class Results:
    """Everything that was measured of pictures.

    Fields:
        drawn, real: what was judged and what it was compared with ("" for nothing), with how many pictures each.
        notes: what a reader must know, such as that there are too few pictures for a figure.
        settings: what was set; where a model drew the pictures for this, how, and in which folder beside the results
            they are kept ("pictures").
    """

    drawn: str
    drawn_count: int
    real: str
    real_count: int
    figures: tuple[Figure, ...]
    copies: tuple[Copies, ...]
    notes: tuple[str, ...]
    settings: dict[str, str]
    versions: dict[str, str]
    seconds: float

    def figure(self, key: str) -> Figure:
        """A figure by its key. Raises `KeyError`."""
        for entry in self.figures:
            if entry.key == key:
                return entry
        raise KeyError(f"{key} was not measured")


_RESULTS = TypeAdapter(Results)


def results_json(results: Results) -> str:
    """Results as JSON."""
    return _RESULTS.dump_json(results, indent=1).decode("utf-8")


def write_results(results: Results, path: Path) -> None:
    """Write results as JSON. Raises `OutputError`."""
    with atomic_file(path) as handle:
        handle.write(results_json(results).encode("utf-8") + b"\n")


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Raises:
        InputError: there is no such file.
        DamagedFileError: it holds something else.
    """
    try:
        return _RESULTS.validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedFileError(f"{path} holds no results of this version: {first['msg']} at {first['loc']}") from error
