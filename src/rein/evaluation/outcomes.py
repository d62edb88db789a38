"""What the judge said of each question of an evaluation, kept beside the report: so that two models can be compared
question by question.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rein.errors import DamagedFileError
from rein.evaluation.obedience import Outcome
from rein.files import atomic_file

OUTCOMES_NAME = "outcomes.jsonl"


@dataclass(frozen=True)
class OutcomeRow:
    """A question by its group, prompt and seed, and what was right."""

    group: str
    prompt: str
    seed: int
    right: dict[str, bool]


_ROWS = TypeAdapter(OutcomeRow)


def write_outcomes(outcomes: Iterable[Outcome], folder: Path) -> None:
    """Write one line for each outcome. Raises `OutputError`."""
    rows = (
        OutcomeRow(outcome.question.group, outcome.question.prompt.text, outcome.question.seed, outcome.right)
        for outcome in outcomes
    )
    with atomic_file(folder / OUTCOMES_NAME) as handle:
        for row in rows:
            handle.write(_ROWS.dump_json(row) + b"\n")


def read_outcomes(folder: Path) -> dict[str, OutcomeRow]:
    """The outcomes in a folder by their question; none where there is no such file.

    Raises:
        DamagedFileError: a line is not one.
    """
    path = folder / OUTCOMES_NAME
    if not path.is_file():
        return {}
    try:
        rows = [_ROWS.validate_json(line) for line in path.read_bytes().splitlines()]
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise DamagedFileError(f"{path} holds no outcomes: {reason}") from error
    return {f"{row.group}/{row.seed}/{row.prompt}": row for row in rows}
