"""Which adapters a request wants, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_WEIGHT = 10.0
MAX_ADAPTERS = 64

WEIGHT = f"a number from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
LORAS = f"at most {MAX_ADAPTERS} files, each alone or with its weight and perhaps text weight ({WEIGHT})"
EMBEDDINGS = f"at most {MAX_ADAPTERS} names of files"


def _as_text(value: Any) -> Any:
    return fspath(value) if isinstance(value, PathLike) else value


_Weight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]
FilePath = Annotated[str, BeforeValidator(_as_text), Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]


class LoraChoice(BaseModel):
    """An adapter file and its strengths.

    Fields:
        path: a file of LoRA or one of its relatives.
        weight: strength in the U-Net, -10 to 10; 1 is as it was trained.
        text_weight: strength in the text towers; None is `weight`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    path: FilePath
    weight: _Weight = 1.0
    text_weight: _Weight | None = None


def _choice(value: Any) -> Any:
    """A path, or (path, weight) or (path, weight, text weight), as what it stands for."""
    value = _as_text(value)
    if isinstance(value, str):
        return {"path": value}
    if isinstance(value, Sequence) and 1 <= len(value) <= 3:
        return dict(zip(("path", "weight", "text_weight"), value, strict=False))
    return value


def _choices(value: Any) -> Any:
    return tuple(map(_choice, value)) if isinstance(value, list | tuple) else value


def _paths(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Loras = Annotated[tuple[LoraChoice, ...], BeforeValidator(_choices), Field(max_length=MAX_ADAPTERS)]
Embeddings = Annotated[tuple[FilePath, ...], BeforeValidator(_paths), Field(max_length=MAX_ADAPTERS)]
