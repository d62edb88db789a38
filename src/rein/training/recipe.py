"""Recipes: a whole training run as a TOML file, checked before anything starts.

A recipe has a `[data]` table, a `[model]` table and a list of `[[stage]]` tables, run in order. Each stage is an
objective with the options of the loop. Unknown keys are refused by name.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rein.errors import InputError, nearest, quoted


class Table(BaseModel):
    """A table of the recipe: immutable, and strict about its keys and the types of its values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataTable(Table):
    """Which pictures to make: see `rein.data.options.ArtOptions` and `Mixture` for the meaning of each."""

    cache_folder: Path = Field(default=Path("~/.cache/rein/art"), strict=False)
    concept_count: int = Field(default=330, ge=1)
    size: int = Field(default=128, ge=32, le=512)
    pictures: int = Field(default=60_000, ge=1)
    """How many different pictures are composed; training goes round them."""
    validation_pictures: int = Field(default=1_000, ge=1)
    seed: int = 0
    mixture: dict[str, float] = Field(default_factory=dict)
    mirrored: float = Field(default=0.0, ge=0.0, le=1.0)
    concepts: Path | None = Field(default=None, strict=False)
    """A list of concepts in place of the shipped one."""


class ModelTable(Table):
    """Which row of the variant table is built, and changes to it by dotted name, such as `unet.channels`."""

    variant: str = "pocket"
    vocabulary: int = Field(default=2048, ge=514, le=65_536)
    overrides: dict[str, Any] = Field(default_factory=dict)
    start: str | None = None
    """A model to go on from, by name or folder: its shape and vocabulary replace the rest of this table."""


Decay = Annotated[float, Field(ge=0, lt=1)]


class LoopTable(Table):
    """What every stage shares: optimiser, learning-rate schedule, precision, and what is kept and shown on the way."""

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.99), strict=False)
    warm_up: int = Field(default=200, ge=0)
    """Steps over which the rate rises linearly from 0."""
    decay: Literal["none", "linear", "cosine"] = "linear"
    decay_from: float = Field(default=0.5, ge=0, le=1)
    """Part of the steps after which the rate falls towards 0."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradients of one player."""
    accumulation: int = Field(default=1, ge=1)
    """Gradients of this many batches are averaged for one step."""
    ema: Decay = 0.999
    """Decay of the average of the weights that is kept and saved; 0 switches it off."""
    precision: Literal["fp32", "bf16"] = "bf16"
    compile: bool = False
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    sample_minutes: float = Field(default=10.0, gt=0)
    seed: int = 0


class AutoencoderTable(LoopTable):
    """The autoencoder: L1, gradient, KL, and a patch discriminator that joins late (Esser et al. 2021)."""

    objective: Literal["autoencoder"]
    gradient_weight: float = Field(default=1.0, ge=0)
    kl_weight: float = Field(default=1e-6, ge=0)
    adversarial_weight: float = Field(default=0.1, ge=0)
    adversarial_from: float = Field(default=0.8, ge=0, le=1)
    """Part of the steps after which the discriminator joins; 1 leaves it out."""
    discriminator_channels: int = Field(default=32, ge=16, multiple_of=16)


class DenoiserTable(LoopTable):
    """The denoiser and its text tower on cached latents."""

    objective: Literal["denoiser"]
    caption_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Part of the captions replaced by the empty one, for classifier-free guidance (Ho & Salimans 2022)."""
    time_mean: float = 0.0
    time_deviation: float = Field(default=1.0, gt=0)
    min_snr: float = Field(default=0.0, ge=0)
    """Limit of the min-SNR weight for discrete schedules; 0 leaves the loss unweighted."""


Stage = Annotated[AutoencoderTable | DenoiserTable, Field(discriminator="objective")]


class Recipe(Table):
    """A training run from nothing to a model folder."""

    name: str = Field(default="pocket", pattern=r"^[a-z0-9][a-z0-9-]*$")
    data: DataTable = Field(default_factory=DataTable)
    model: ModelTable = Field(default_factory=ModelTable)
    stage: tuple[Stage, ...] = Field(min_length=1, strict=False)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file.

    Raises:
        InputError: no such file, not TOML, an unknown key (with the nearest known one) or a value out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"recipe {path} is not there") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from None
    return check_recipe(values, str(path))


def check_recipe(values: dict[str, Any], source: str) -> Recipe:
    """A recipe from plain values; `source` names it in messages.

    Raises:
        InputError: for the first thing that is wrong.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        errors = error.errors()  # an unknown key before a missing one: it may be that one misspelt
        first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
        kind, place, value = first["type"], _place(first["loc"]), first["input"]
        if kind == "extra_forbidden":
            problem = f"{place} is unknown: {_known(first['loc'])}"
        elif kind == "missing":
            problem = f"{place} is missing"
        elif kind == "union_tag_not_found":
            problem = f"{place} has no objective; known: {', '.join(sorted(_OBJECTIVES))}"
        elif kind == "union_tag_invalid":
            problem = f"{place} has the unknown objective {quoted(value['objective'])}: "
            problem += nearest(str(value["objective"]), _OBJECTIVES)
        else:
            wanted = _TOML_NAMES.get(kind) or first["msg"].partition(" should ")[2] or first["msg"]
            problem = f"{place} is {quoted(value)}, but should {wanted}"
        raise InputError(f"{source}: {problem}") from None


_TOML_NAMES = {
    "tuple_type": "be a list",
    "model_type": "be a table",
    "model_attributes_type": "be a table",
    "dict_type": "be a table",
    "path_type": "be text",
}
"""pydantic's complaints that speak of Python's types, in TOML's words."""

_OBJECTIVES: dict[str, type[Table]] = {"autoencoder": AutoencoderTable, "denoiser": DenoiserTable}


def _place(location: tuple[int | str, ...]) -> str:
    """Where something is wrong, in a person's words: stages count from 1, as their folders do."""
    if location[0] != "stage" or len(location) == 1:
        return ".".join(map(str, location))
    rest = ".".join(str(part) for part in location[2:] if part not in _OBJECTIVES)
    return f"stage {int(location[1]) + 1}" + (f": {rest}" if rest else "")


def _known(location: tuple[int | str, ...]) -> str:
    """The nearest known key to an unknown one."""
    tables: dict[str, type[Table]] = {"data": DataTable, "model": ModelTable, **_OBJECTIVES}
    parents = [str(part) for part in location[:-1] if str(part) in tables]
    table = tables[parents[-1]] if parents else Recipe
    return nearest(str(location[-1]), table.model_fields)
