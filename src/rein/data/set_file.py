"""`dataset.json`, which `rein data prepare` writes beside the pictures: how they were made, and their statistics."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rein.errors import DamagedFileError

SET_FILE = "dataset.json"
MAX_BYTES = 16 * 2**20


class Statistics(BaseModel):
    """Mean and standard deviation of the three channels over all pixels of a set, in one colour space."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


class SetFile(BaseModel):
    """What is known of a prepared set.

    Fields:
        size, step, longest: the buckets, as `rein.data.fitting.bucket_sizes` has them.
        pictures: how many there are, with copies.
        statistics: by the names of `rein.data.colour_spaces.COLOUR_SPACES`.
        options: all that was asked for, as the command has it.
        program: who wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: str = Field(default="rein-dataset", pattern="^rein-dataset$")
    version: int = Field(default=1, ge=1, le=1)
    size: int = Field(ge=8)
    step: int = Field(ge=8)
    longest: float = Field(ge=1, le=8)
    pictures: int = Field(ge=1)
    statistics: dict[str, Statistics] = Field(default_factory=dict)
    options: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    program: str = ""


def read_set_file(folder: Path) -> SetFile | None:
    """The description in a folder; None where there is none.

    Raises:
        DamagedFileError: it is there and cannot be read.
    """
    path = folder / SET_FILE
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedFileError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return SetFile.model_validate(json.loads(content))
    except (ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise DamagedFileError(f"{path} does not describe a prepared set ({reason[:100]}): prepare it again") from error


def written(content: SetFile) -> bytes:
    """The bytes of the file."""
    return (content.model_dump_json(indent=1) + "\n").encode()
